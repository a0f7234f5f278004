"""The meaning of request heads, as far as the wire table cannot show it."""

import pytest
from reading import PARSERS, read
from wire.row import head, post

from aiowsgi.exceptions import RequestError
from aiowsgi.http1 import head_parser
from aiowsgi.http1.messages import CHUNKED, NEED_DATA, Limits, Request
from aiowsgi.http1.reader import RequestReader


def request(parser: str, sent: bytes, limits: Limits | None = None) -> Request:
    """Return the first request of a stream."""
    reader = RequestReader(head_parser(parser), limits or Limits())
    reader.feed(sent)
    found = reader.next_request()
    assert found is not None
    return found


@pytest.mark.parametrize("parser", PARSERS)
def test_plain_request(parser: str) -> None:
    """Every attribute of a request is as it was sent."""
    sent = head(b"X-A: 1", b"x-a:\t2 ", target=b"/a%20b?c=d&e", host=b"h:80")
    assert request(parser, sent) == Request(
        method="GET",
        target="/a%20b?c=d&e",
        path="/a%20b",
        query="c=d&e",
        host="h:80",
        version="HTTP/1.1",
        fields=[(b"Host", b"h:80"), (b"X-A", b"1"), (b"x-a", b"2")],
        content_length=0,
        keep_alive=True,
        expect_continue=False,
    )


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("parser", PARSERS)
def test_version(version: str, parser: str) -> None:
    """The version has the form of SERVER_PROTOCOL."""
    found = request(parser, head(version=f"HTTP/{version}".encode()))
    assert found.version == f"HTTP/{version}"


@pytest.mark.parametrize("parser", PARSERS)
def test_absolute_form_replaces_host(parser: str) -> None:
    """The authority of the target is the host, and the only Host field."""
    sent = head(b"A: b", target=b"http://a.example:81/p?q", host=b"b.example")
    found = request(parser, sent)
    assert (found.host, found.path, found.query) == ("a.example:81", "/p", "q")
    assert found.target == "http://a.example:81/p?q"
    assert found.fields == [(b"Host", b"a.example:81"), (b"A", b"b")]


@pytest.mark.parametrize("parser", PARSERS)
def test_absolute_form_gives_host_to_1_0(parser: str) -> None:
    """An HTTP/1.0 request without Host gets the authority of its target."""
    found = request(parser, b"GET http://a.example/ HTTP/1.0\r\n\r\n")
    assert found.fields == [(b"Host", b"a.example")]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("sent", "facts"),
    [
        (post(b"Content-Length: 0042"), (42, True, False)),
        (post(b"Content-Length: 0"), (0, True, False)),
        (post(b"Transfer-Encoding: CHUNKED"), (CHUNKED, True, False)),
        (post(b"Expect: 100-Continue", b"Content-Length: 1"), (1, True, True)),
        (post(b"Expect: 100-continue", b"Transfer-Encoding: chunked"), (CHUNKED, True, True)),
        # No body follows, so the client need not be asked for it.
        (post(b"Expect: 100-continue"), (0, True, False)),
        (
            post(b"Expect: 100-continue", b"Content-Length: 1", version=b"HTTP/1.0"),
            (1, False, False),
        ),
        (head(b"Connection: close"), (0, False, False)),
        (head(b"Connection: keep-alive", version=b"HTTP/1.0"), (0, True, False)),
        (head(version=b"HTTP/1.0"), (0, False, False)),
    ],
)
def test_framing_and_persistence(sent: bytes, facts: tuple[int, bool, bool], parser: str) -> None:
    """Length, keep-alive and expectation follow from the fields and the version."""
    found = request(parser, sent)
    assert (found.content_length, found.keep_alive, found.expect_continue) == facts


@pytest.mark.parametrize("parser", PARSERS)
def test_body_size_limit(parser: str) -> None:
    """A Content-Length at the limit is accepted and one beyond it refused; 0 is no limit."""
    sent = post(b"Content-Length: 999999999999999999")
    assert request(parser, sent, Limits(body_size=0)).content_length == 999999999999999999
    assert request(parser, sent, Limits(body_size=999999999999999999)).content_length
    with pytest.raises(RequestError, match="413"):
        request(parser, sent, Limits(body_size=999999999999999998))


@pytest.mark.parametrize("parser", PARSERS)
def test_first_of_several_faults(parser: str) -> None:
    """Of several errors both libraries report the same one."""
    sent = head(b"Transfer-Encoding: gzip, chunked", b"Content-Length: x", host=b"a b")
    assert read(parser, [sent]).status == 400
    sent = head(b"Expect: x", b"Transfer-Encoding: gzip, chunked")
    assert read(parser, [sent]).status == 501


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("coding", "status"),
    [
        (b"gzip, chunked", 501),
        (b"gzip, deflate, chunked", 501),
        (b"a b, chunked", 400),
        (b"a b, gzip, chunked", 400),
        (b"gzip, a b, chunked", 400),
        (b"gzip", 400),
        (b"chunked, gzip", 400),
        (b"chunked, chunked", 400),
    ],
)
def test_a_coding_that_is_not_ours(coding: bytes, status: int, parser: str) -> None:
    """Codings before chunked are not implemented; each must be a token, and chunked the last."""
    assert read(parser, [post(b"Transfer-Encoding: " + coding)]).status == status


@pytest.mark.parametrize("parser", PARSERS)
def test_nothing_is_known_of_a_body_before_it_comes(parser: str) -> None:
    """After a head with a length, the reader needs data."""
    reader = RequestReader(head_parser(parser), Limits())
    reader.feed(post(b"Content-Length: 1"))
    assert reader.next_request() is not None
    assert reader.next_body() is NEED_DATA


@pytest.mark.parametrize("parser", PARSERS)
def test_the_smallest_limit_is_one(parser: str) -> None:
    """A limit of one byte is a limit."""
    assert read(parser, [post(b"Content-Length: 1", body=b"a")], Limits(body_size=1)).status is None
    assert read(parser, [post(b"Content-Length: 2")], Limits(body_size=1)).status == 413
