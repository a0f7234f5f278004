"""Connections: persistence, pipelining, closing, limits and time limits, over real sockets."""

from __future__ import annotations

import pytest


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {environ['PATH_INFO']}".encode()]


def test_a_kept_connection_serves_one_request_after_another(serve, connect):
    """HTTP/1.1 connections persist without being asked to (RFC 9112 section 9.3)."""
    client = connect(serve(hello))
    for number in range(3):
        client.get(f"/{number}")
        code, fields, body = client.read_response()
        assert (code, body) == (200, f"hello /{number}".encode())
        assert "connection" not in fields


def test_pipelined_requests_are_answered_in_order(serve, connect):
    """Requests that come at once are answered one after another (RFC 9112 section 9.3.2)."""
    client = connect(serve(hello))
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)))
    for number in range(50):
        assert client.read_response()[2] == b"hello /%d" % number


@pytest.mark.parametrize(
    ("request_lines", "kept"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
    ],
)
def test_a_connection_is_kept_as_the_client_asks(serve, connect, request_lines, kept):
    """Persistence is HTTP/1.1's default and HTTP/1.0's option (RFC 9112 section 9.3)."""
    client = connect(serve(hello))
    client.send(request_lines)
    assert client.read_response()[2] == b"hello /"
    if kept:
        client.send(request_lines)
        assert client.read_response()[2] == b"hello /"
    else:
        assert client.read_to_end() == b""


def test_a_half_closed_client_gets_its_response(serve, connect):
    """A client may close its sending side after its request and still be answered."""
    client = connect(serve(hello))
    client.get("/half")
    client.finish()
    assert client.read_to_end().endswith(b"hello /half")
