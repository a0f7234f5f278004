"""The grammar of what proxies write."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiowsgi.proxy.syntax import (
    Node,
    parse_authority,
    parse_forwarded,
    parse_node,
    parse_port,
    parse_prefix,
    parse_scheme,
)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("192.0.2.1", Node("192.0.2.1", None)),
        ("192.0.2.1:4711", Node("192.0.2.1", 4711)),
        ("192.0.2.1:_port", Node("192.0.2.1", None)),
        ("2001:db8::1", Node("2001:db8::1", None)),
        ("[2001:DB8:0::1]", Node("2001:db8::1", None)),
        ("[2001:db8::1]:80", Node("2001:db8::1", 80)),
        ("::ffff:192.0.2.1", Node("192.0.2.1", None)),
        ("[::ffff:192.0.2.1]:80", Node("192.0.2.1", 80)),
        ("::1", Node("::1", None)),
        ("", None),
        ("unknown", None),
        ("unknown:80", None),
        ("_hidden", None),
        ("localhost", None),
        ("192.0.2", None),
        ("192.0.2.256", None),
        ("192.0.2.1:", None),
        ("192.0.2.1:0", None),
        ("192.0.2.1:65536", None),
        ("192.0.2.1:x", None),
        ("192.0.2.1 ", None),
        ("192.0.2.1\n", None),
        ("[192.0.2.1]", Node("192.0.2.1", None)),
        ("[::1", None),
        ("[]", None),
        (":::", None),
        ("fe80::1%eth0", None),
        ("[fe80::1%eth0]", None),
        ("\u0661.0.0.1", None),
        ("1" * 65, None),
        ('"192.0.2.1"', None),
    ],
)
def test_node(text: str, node: Node | None) -> None:
    """A hop is an address, perhaps with a port, or nothing is known of it."""
    assert parse_node(text) == node


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("http", "http"),
        ("HTTPS", "https"),
        ("wss", "https"),
        ("ws", "http"),
        ("ftp", None),
        ("", None),
    ],
)
def test_scheme(text: str, scheme: str | None) -> None:
    """A request comes by http or https, by whatever name."""
    assert parse_scheme(text) == scheme


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", 80),
        ("65535", 65535),
        ("0", None),
        ("65536", None),
        ("+1", None),
        ("1_0", None),
        ("", None),
    ],
)
def test_port(text: str, port: int | None) -> None:
    """A port is a number that one can connect to."""
    assert parse_port(text) == port


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("example.com", ("example.com", None)),
        ("example.com:8443", ("example.com", 8443)),
        ("example.com:", ("example.com", None)),
        ("[::1]:80", ("[::1]", 80)),
        ("[::1]", ("[::1]", None)),
        ("a_b.internal", ("a_b.internal", None)),
        ("", None),
        ("::1", None),
        ("example.com:0", None),
        ("example.com:99999", None),
        ("example.com:http", None),
        ("example.com/path", None),
        ("user@example.com", None),
        ("example.com\r\nX: y", None),
        ("ex ample.com", None),
        ("ex\xe4mple.com", None),
        ("a?b", None),
    ],
)
def test_authority(text: str, authority: tuple[str, int | None] | None) -> None:
    """Only what can stand as a host in a URL is one."""
    assert parse_authority(text) == authority


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("/app", "/app"),
        ("/app/", "/app"),
        ("/a/b", "/a/b"),
        ("/", ""),
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/caf\xc3\xa9", "/caf\xc3\xa9"),
        ("", None),
        ("app", None),
        ("//evil.example", None),
        ("/%2Fevil.example", None),
        ("/\\evil.example", None),
        ("/%5Cevil.example", None),
        ("/a%0d%0ab", None),
        ("/a%00", None),
        ("http://evil.example", None),
    ],
)
def test_prefix(text: str, prefix: str | None) -> None:
    """A prefix is a decoded path that no browser takes for a host."""
    assert parse_prefix(text) == prefix


FORWARDED: list[tuple[str, list[dict[str, str]] | None]] = [
    ("for=192.0.2.1", [{"for": "192.0.2.1"}]),
    (
        "For=192.0.2.1;Proto=https;HOST=a.example",
        [{"for": "192.0.2.1", "proto": "https", "host": "a.example"}],
    ),
    ('for="[2001:db8::1]:4711"', [{"for": "[2001:db8::1]:4711"}]),
    ("for=192.0.2.1:80", [{"for": "192.0.2.1:80"}]),
    ("for=a, for=b;by=c", [{"for": "a"}, {"for": "b", "by": "c"}]),
    ("for=a,for=b", [{"for": "a"}, {"for": "b"}]),
    (" for=a ; proto=http ", [{"for": "a", "proto": "http"}]),
    ('for="a, b;c=\\"d\\""', [{"for": 'a, b;c="d"'}]),
    ('for=""', [{"for": ""}]),
    ("", []),
    (" , ;,", []),
    ("for=a;;proto=http;", [{"for": "a", "proto": "http"}]),
    ("for=a;for=b", None),
    ("for=a;FOR=b", None),
    ("for", None),
    ("for=", None),
    ("=a", None),
    ("for =a", None),
    ("for= a", None),
    ("for=a b", None),
    ('for="a', None),
    ('for="a\\"', None),
    ('for="a"b', None),
    ('for="a, for=192.0.2.1', None),
    ('for="a, for="[2001:db8::1]"', None),
    ('for="a, for=192.0.2.1;by="x"', None),
    ("for=a\nb", None),
]


@pytest.mark.parametrize(("text", "elements"), FORWARDED)
def test_forwarded(text: str, elements: list[dict[str, str]] | None) -> None:
    """A Forwarded field is read whole, or it is malformed."""
    assert parse_forwarded(text) == elements


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["for", "by", "host", "proto", "ext"]),
            st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF)),
            min_size=1,
        ),
        max_size=4,
    )
)
def test_forwarded_round_trip(elements: list[dict[str, str]]) -> None:
    """Any values survive quoting."""

    def quote(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = ", ".join(";".join(f"{k}={quote(v)}" for k, v in e.items()) for e in elements)
    assert parse_forwarded(text) == elements


@given(st.text(st.sampled_from('for=a,;" \\[:]1.')))
def test_forwarded_any(attack: str) -> None:
    """Whatever a client sends, what the proxy appends is read as it stands, or nothing is."""
    elements = parse_forwarded(f"{attack}, for=192.0.2.1;proto=https")
    assert elements is None or elements[-1] == {"for": "192.0.2.1", "proto": "https"}


@pytest.mark.parametrize(
    "text",
    [
        "for=192.0.2.1" + " " * 60_000 + "x",
        " " * 60_000 + "x",
        "for=" + "a" * 60_000 + " x",
        'for="' + "\\a" * 30_000,
        'for="' + "a" * 60_000,
        "," * 60_000 + "x",
        ("for=a;" * 10_000) + "=",
    ],
)
def test_a_long_malformed_field_takes_linear_time(text: str) -> None:
    """A field of the maximum size is refused in milliseconds; quadratic time would be seconds."""
    begin = process_time()
    assert parse_forwarded(text) is None
    assert process_time() - begin < 1
