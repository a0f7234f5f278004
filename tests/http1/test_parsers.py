"""The two parser libraries behind their common interface."""

import sys

import pytest
from reading import PARSERS

from aiowsgi.exceptions import ConfigError, RequestError
from aiowsgi.http1 import h11_parser, head_parser, httptools_parser
from aiowsgi.http1.messages import RawHead

LINES = b"GET /a?b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n"


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"X-Y: z", (b"X-Y", b"z")),
        (b"X-Y:z", (b"X-Y", b"z")),
        (b"X-Y: \tXzX \t", (b"X-Y", b"XzX")),
        (b"X-Y:  y z  ", (b"X-Y", b"y z")),
        (b"X-Y: \xa0\xff ", (b"X-Y", b"\xa0\xff")),
        (b"E:", (b"E", b"")),
        (b"E: ", (b"E", b"")),
        (b"Content-Length: 5 ", (b"Content-Length", b"5")),
        (b"Content-Length: 5\t", (b"Content-Length", b"5")),
        (b"Transfer-Encoding: chunked  ", (b"Transfer-Encoding", b"chunked")),
    ],
)
def test_parts(parser: str, line: bytes, field: tuple[bytes, bytes]) -> None:
    """A head is parsed to method, target, version and fields with stripped values."""
    fields = [(b"Host", b"x"), field]
    assert head_parser(parser)(LINES % line) == RawHead(b"GET", b"/a?b", b"1.1", fields)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", "malformed"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", "incomplete"),
        (b"GET / HTTP/1.1\r\nHost", "incomplete"),
        (b"GET / HTTP/1.1\r\n: x\r\n\r\n", "malformed"),
        (b"\r\n\r\n", "malformed"),
        (b"\x16\x03\x01", "malformed"),
        (b"", "incomplete"),
    ],
)
def test_library_errors_are_translated(parser: str, head: bytes, fault: str) -> None:
    """What the library refuses or finds incomplete is a RequestError with status 400."""
    with pytest.raises(RequestError, match=f"400.*{fault}"):
        head_parser(parser)(head)


def test_h11_may_not_join_lines() -> None:
    """If h11 reads other fields than were sent, a head with framing fields is refused."""
    with pytest.raises(RequestError, match=r"400.*ambiguous"):
        h11_parser.parse_head(
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nA: b\r\n c: d\r\n\r\n"
        )


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding"])
def test_h11_may_not_rewrite_values(name: bytes) -> None:
    """The values of framing fields are returned as they were sent, not as h11 rewrites them."""
    value = {b"Content-Length": b"2, 2", b"Transfer-Encoding": b"CHUNKED"}[name]
    raw = h11_parser.parse_head(b"GET / HTTP/1.1\r\nHost: x\r\n%b: %b\r\n\r\n" % (name, value))
    assert raw.fields[-1] == (name, value)


@pytest.mark.parametrize("method", [b"BREW", b"CONNECT", b"SOURCE", b"PRI", b"get", b"M!"])
def test_httptools_takes_any_method(method: bytes) -> None:
    """A method that llhttp does not know, or treats specially, is a method like any other."""
    raw = httptools_parser.parse_head(method + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert raw == RawHead(method, b"/", b"1.1", [(b"Host", b"x")])


def test_httptools_upgrade_is_a_request() -> None:
    """The fields of an upgrade are read."""
    raw = httptools_parser.parse_head(
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 5\r\n\r\n"
    )
    assert [name for name, _ in raw.fields] == [
        b"Host",
        b"Connection",
        b"Upgrade",
        b"Content-Length",
    ]


def test_head_parser_by_name() -> None:
    """Each name selects its library; auto selects httptools if it is installed."""
    assert head_parser("h11") is h11_parser.parse_head
    assert head_parser("httptools") is httptools_parser.parse_head
    assert head_parser("auto") is httptools_parser.parse_head


def test_unknown_parser() -> None:
    """Another name is a ConfigError that lists the names."""
    with pytest.raises(ConfigError, match="auto, h11, httptools"):
        head_parser("llhttp")


@pytest.fixture
def without_httptools(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter without httptools."""
    monkeypatch.delitem(sys.modules, "aiowsgi.http1.httptools_parser")
    monkeypatch.delattr("aiowsgi.http1.httptools_parser")
    monkeypatch.setitem(sys.modules, "httptools", None)


@pytest.mark.usefixtures("without_httptools")
def test_auto_without_httptools() -> None:
    """Without httptools, auto selects h11."""
    assert head_parser("auto") is h11_parser.parse_head


@pytest.mark.usefixtures("without_httptools")
def test_httptools_without_httptools() -> None:
    """Without httptools, asking for it is a ConfigError that says how to install it."""
    with pytest.raises(ConfigError, match=r"pip install aiowsgi\[fast\]"):
        head_parser("httptools")
