"""Both ends of a connection, and what trusted proxies say of them."""

from __future__ import annotations

from time import time

import pytest

from aiowsgi.connection.peer import ProxyTrace, behind_proxies, ignores_https, peer_of
from aiowsgi.exceptions import RequestError
from aiowsgi.http1.messages import Request
from aiowsgi.proxy.headers import parse_trusted
from aiowsgi.proxy.protocol import Endpoint, ProxyHeader
from aiowsgi.wsgi.environ import ConnectionInfo

NOW = 1_700_000_000.25

TRACE = "0af7651916cd43dd8448eb211c80319c"


class FakeTransport:
    """Knows its ends."""

    def __init__(self, remote, local):
        self.known = {"peername": remote, "sockname": local}

    def get_extra_info(self, name):
        return self.known.get(name)


# What a proxy says of the way to us


@pytest.mark.parametrize(
    "value",
    [
        f"{NOW - 2:.2f}",
        f"t={NOW - 2:.3f}",
        f"t={(NOW - 2) * 1e3:.0f}",
        f"{(NOW - 2) * 1e3:.3f}",
        f"t={(NOW - 2) * 1e6:.0f}",
    ],
)
def test_when_the_proxy_took_the_request(monkeypatch, value):
    """In seconds, milliseconds or microseconds, as proxies have it."""
    monkeypatch.setattr("aiowsgi.connection.peer.time", lambda: NOW)
    upstream = ProxyTrace.of([(b"X-Request-Start", value.encode())])
    assert upstream.waited == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    "value",
    ["", "t=", "soon", "t=-5", "12345", "1e9", f"{time() + 3600:.0f}", "9" * 40, "t=١٢٣"],
    ids=["empty", "no number", "word", "negative", "short", "exponent", "future", "long", "digits"],
)
def test_a_start_that_makes_no_sense_is_not_believed(value):
    """Nor is one in the future: clocks differ."""
    assert ProxyTrace.of([(b"x-request-start", value.encode())]).waited == 0


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], ""),
        ([(b"X-Request-Id", b"abc-1")], "abc-1"),
        ([(b"x-request-id", b"a b")], ""),
        ([(b"x-request-id", b"a" * 129)], ""),
        ([(b"x-request-id", b"a\x80")], ""),
        ([(b"Traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode())], TRACE),
        ([(b"traceparent", b"00-xyz-b7ad6b7169203331-01")], ""),
        (
            [
                (b"traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode()),
                (b"X-Request-Id", b"mine"),
            ],
            "mine",
        ),
    ],
)
def test_how_the_proxy_calls_the_request(fields, expected):
    """Its own identifier goes before the trace's; nothing that would spoil a log is taken."""
    assert ProxyTrace.of(fields).request_id == expected


# Both ends


@pytest.mark.parametrize(
    ("remote", "local", "expected"),
    [
        (("192.0.2.1", 4711), ("192.0.2.9", 80), ("192.0.2.1", "4711", "192.0.2.9", "80")),
        (
            ("::ffff:192.0.2.1", 4711, 0, 0),
            ("::ffff:192.0.2.9", 80, 0, 0),
            ("192.0.2.1", "4711", "192.0.2.9", "80"),
        ),
        (
            ("2001:db8::1", 1, 0, 0),
            ("2001:db8::9", 2, 0, 0),
            ("2001:db8::1", "1", "2001:db8::9", "2"),
        ),
        ("", "/run/app.sock", ("", "", "localhost", "80")),
        (None, None, ("", "", "localhost", "80")),
    ],
)
def test_both_ends_of_a_connection(remote, local, expected):
    """As people write addresses; PEP 3333 wants a name and a port of every server."""
    peer = peer_of(FakeTransport(remote, local), None)
    assert peer[:4] == expected
    assert (peer.scheme, peer.variables) == ("http", {})


def test_the_proxy_header_knows_better():
    """The connection's own ends are the proxy's."""
    transport = FakeTransport(("192.0.2.1", 4711), ("192.0.2.9", 80))
    header = ProxyHeader(Endpoint("198.51.100.7", 1), Endpoint("198.51.100.8", 443), b"")
    assert peer_of(transport, header)[:4] == ("198.51.100.7", "1", "198.51.100.8", "443")
    assert peer_of(transport, ProxyHeader(None, None, b""))[0] == "192.0.2.1"


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((Endpoint("198.51.100.7", 1), Endpoint("198.51.100.8", 443)), ("198.51.100.8", "443")),
        # The client of a unix socket, whose proxy is on another.
        ((None, None), ("localhost", "443")),
    ],
)
def test_the_proxy_header_knows_of_tls(ends, expected):
    """Then the client speaks it, whatever is spoken behind the proxy."""
    peer = peer_of(FakeTransport("", "/run/app.sock"), ProxyHeader(*ends, b"", tls=True))
    assert (peer.scheme, peer.server_name, peer.server_port) == ("https", *expected)


# Behind proxies


def behind(*fields, remote=("192.0.2.1", "4711"), script_name="/app"):
    """What is beyond 192.0.2.1 and a unix socket, which are trusted."""
    lines = [(b"Host", b"inside:8000"), *fields]
    request = Request("GET", "/", "/", "", "inside:8000", "HTTP/1.1", lines, 0, True, False)
    peer = ConnectionInfo(*remote, "inside", "8000", "http")
    return behind_proxies(request, peer, parse_trusted("192.0.2.1,unix"), script_name)


def test_nothing_changes_where_nothing_is_said():
    """Not even a copy is made."""
    request, peer, prefix = behind((b"Accept", b"*/*"))
    assert (peer.remote_addr, peer.server_name, prefix) == ("192.0.2.1", "inside", "/app")
    assert request.host == "inside:8000"


def test_what_a_trusted_proxy_says_holds():
    """Client, scheme, host, port and prefix; the Host field that the application sees is that."""
    request, peer, prefix = behind(
        (b"X-Forwarded-For", b"198.51.100.7"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Prefix", b"/shop"),
    )
    assert peer[:5] == ("198.51.100.7", "", "shop.example", "443", "https")
    assert request.host == "shop.example"
    assert [value for name, value in request.fields if name.lower() == b"host"] == [b"shop.example"]
    assert prefix == "/shop/app"


@pytest.mark.parametrize(
    ("field", "host", "ends"),
    [
        ((b"X-Forwarded-Host", b"shop.example"), "shop.example", ("shop.example", "80")),
        (
            (b"X-Forwarded-Host", b"shop.example:81"),
            "shop.example:81",
            ("shop.example", "81"),
        ),
        ((b"X-Forwarded-Port", b"444"), "inside:8000", ("inside", "444")),
        ((b"Forwarded", b"host=shop.example"), "shop.example", ("shop.example", "80")),
    ],
)
def test_a_field_counts_when_it_comes_alone(field, host, ends):
    """Host and port of a trusted proxy count without an address or a scheme beside them."""
    request, peer, _ = behind(field)
    assert request.host == host
    assert dict(request.fields)[b"Host"] == host.encode()
    assert (peer.server_name, peer.server_port) == ends
    assert peer.remote_addr == "192.0.2.1"


def test_a_proxy_on_a_unix_socket():
    """It has no address of its own, and its client has."""
    _, peer, _ = behind((b"X-Forwarded-For", b"198.51.100.7"), remote=("", ""))
    assert peer.remote_addr == "198.51.100.7"
    _, peer, _ = behind((b"X-Forwarded-Proto", b"https"), remote=("", ""))
    assert (peer.remote_addr, peer.remote_port, peer.scheme) == ("", "", "https")


def test_who_is_not_trusted_says_nothing():
    """Its fields do not reach the application."""
    request, peer, _ = behind((b"X-Forwarded-For", b"198.51.100.7"), remote=("192.0.2.2", "1"))
    assert peer.remote_addr == "192.0.2.2"
    assert not any(name == b"X-Forwarded-For" for name, _ in request.fields)


def test_a_trusted_proxy_makes_no_sense():
    """400: something is wrong between the proxy and us."""
    with pytest.raises(RequestError) as caught:
        behind((b"X-Forwarded-Proto", b"gopher"))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("address", "scheme", "field", "trusted", "ignored"),
    [
        ("127.0.0.1", "http", (b"X-Forwarded-Proto", b"https"), None, True),
        ("::1", "http", (b"x-forwarded-proto", b"HTTPS"), None, True),
        ("", "http", (b"X-Forwarded-Proto", b"https"), None, True),
        ("127.0.0.1", "http", (b"X-Forwarded-Proto", b"https"), "10.0.0.1", True),
        ("127.0.0.1", "http", (b"X-Forwarded-Proto", b"https"), "127.0.0.1", False),
        ("", "http", (b"X-Forwarded-Proto", b"https"), "unix", False),
        ("127.0.0.1", "https", (b"X-Forwarded-Proto", b"https"), None, False),
        ("192.0.2.1", "http", (b"X-Forwarded-Proto", b"https"), None, False),
        ("127.0.0.1", "http", (b"X-Forwarded-Proto", b"http"), None, False),
        ("127.0.0.1", "http", (b"X-Forwarded-For", b"https"), None, False),
    ],
)
def test_a_proxy_that_is_not_believed(address, scheme, field, trusted, ignored):
    """A proxy on this machine that says https, if nothing uses its fields."""
    request = Request("GET", "/", "/", "", "x", "HTTP/1.1", [field], 0, True, False)
    peer = ConnectionInfo(address, "1", "x", "80", scheme, {})
    peers = None if trusted is None else parse_trusted(trusted)
    assert ignores_https(request, peer, peers) is ignored
