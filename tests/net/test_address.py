"""Bind addresses: valid forms, invalid forms, and the round trip between text and value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiowsgi.exceptions import ConfigError
from aiowsgi.net.address import BindAddress, FdAddress, TcpAddress, UnixAddress, parse_bind

GOOD: list[tuple[str, BindAddress, str, str]] = [
    ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000), "127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("0.0.0.0:0", TcpAddress("0.0.0.0", 0), "0.0.0.0:0", "http://0.0.0.0:0"),
    (
        "localhost:65535",
        TcpAddress("localhost", 65535),
        "localhost:65535",
        "http://localhost:65535",
    ),
    ("LocalHost:080", TcpAddress("localhost", 80), "localhost:80", "http://localhost:80"),
    (
        "my_app.internal.:80",
        TcpAddress("my_app.internal.", 80),
        "my_app.internal.:80",
        "http://my_app.internal.:80",
    ),
    ("[::1]:8000", TcpAddress("::1", 8000), "[::1]:8000", "http://[::1]:8000"),
    ("[0:0:0::1]:8000", TcpAddress("::1", 8000), "[::1]:8000", "http://[::1]:8000"),
    (
        "[fe80::1%eth0]:1",
        TcpAddress("fe80::1%eth0", 1),
        "[fe80::1%eth0]:1",
        "http://[fe80::1%25eth0]:1",
    ),
    (":8000", TcpAddress("", 8000), ":8000", "http://[::]:8000"),
    (
        "unix:/run/app.sock",
        UnixAddress("/run/app.sock"),
        "unix:/run/app.sock",
        "unix:/run/app.sock",
    ),
    (
        "unix:///run/app.sock",
        UnixAddress("/run/app.sock"),
        "unix:/run/app.sock",
        "unix:/run/app.sock",
    ),
    ("unix:app.sock", UnixAddress("app.sock"), "unix:app.sock", "unix:app.sock"),
    ("unix:a b:c", UnixAddress("a b:c"), "unix:a b:c", "unix:a b:c"),
    ("unix:@name", UnixAddress("@name"), "unix:@name", "unix:@name"),
    ("fd://3", FdAddress(3), "fd://3", "fd://3"),
    ("fd://0", FdAddress(0), "fd://0", "fd://0"),
]

BAD: list[tuple[str, str]] = [
    ("", "did you mean 127.0.0.1:8000?"),
    ("8000", "did you mean :8000?"),
    ("localhost", "did you mean localhost:8000?"),
    ("[::1]", "did you mean [::1]:8000?"),
    ("::1:8000", "in brackets"),
    ("::1", "in brackets"),
    ("[::1:8000", "the port is missing"),
    ("[localhost]:80", "'localhost' is not an IPv6 address"),
    ("[]:80", "'' is not an IPv6 address"),
    ("[127.0.0.1]:80", "not an IPv6 address"),
    ("127.0.0.1:", "'' is not a port"),
    (":http", "'http' is not a port"),
    (":65536", "'65536' is not a port"),
    (":-1", "'-1' is not a port"),
    (":+1", "'+1' is not a port"),
    (":8_0", "'8_0' is not a port"),
    (":\u0661", "is not a port"),
    (": 80", "is not a port"),
    ("256.0.0.1:80", "'256.0.0.1' is not an IPv4 address"),
    ("010.0.0.1:80", "not an IPv4 address"),
    ("127.1:80", "not an IPv4 address"),
    ("1:80", "not an IPv4 address"),
    ("*:80", "as in :8000"),
    ("a..b:80", "neither"),
    ("-a.b:80", "neither"),
    ("a b:80", "neither"),
    ("\u00e9:80", "neither"),
    ("a" * 64 + ":80", "neither"),
    ("a." * 127 + "a:80", "neither"),
    ("http://localhost:80", "without a scheme"),
    ("localhost:80/", "without a scheme"),
    ("/run/app.sock", "unix:path"),
    ("unix:", "a path must follow"),
    ("unix://", "a path must follow"),
    ("unix:@", "a path must follow"),
    ("unix:/a\0b", "NUL"),
    ("fd:3", "fd://3"),
    ("fd://", "fd://3"),
    ("fd://-1", "fd://3"),
    ("fd://three", "fd://3"),
    ("fd://99999999", "fd://3"),
]


@pytest.mark.parametrize(("text", "address", "canonical", "url"), GOOD)
def test_good(text: str, address: BindAddress, canonical: str, url: str) -> None:
    """Each form has one value, one canonical text and one URL."""
    assert parse_bind(text) == address
    assert str(address) == canonical
    assert parse_bind(canonical) == address
    assert address.url() == url


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_bad(text: str, reason: str) -> None:
    """An invalid form is a ConfigError that quotes the text and says what is right."""
    with pytest.raises(ConfigError) as caught:
        parse_bind(text)
    message = str(caught.value)
    assert repr(text) in message
    assert reason in message
    assert "\n" not in message


def test_tls_url() -> None:
    """The caller chooses the URL's scheme; a unix socket has none."""
    assert TcpAddress("::1", 443).url("https") == "https://[::1]:443"
    assert UnixAddress("/s").url("https") == "unix:/s"
    assert FdAddress(3).url("https") == "fd://3"


def test_abstract() -> None:
    """Only a leading ``@`` names the abstract namespace."""
    assert UnixAddress("@name").abstract
    assert not UnixAddress("/run/@name").abstract


@given(st.text())
def test_any_text(text: str) -> None:
    """Any text is refused with a ConfigError or survives the round trip."""
    try:
        address = parse_bind(text)
    except ConfigError:
        return
    assert parse_bind(str(address)) == address
