"""The reader's states; the bytes that it accepts are rows of the wire table."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import PARSERS, in_pieces, read
from wire.row import SECOND, head, post

from aiowsgi.config.options import Config
from aiowsgi.exceptions import RequestError
from aiowsgi.http1 import head_parser
from aiowsgi.http1.messages import END_OF_BODY, NEED_DATA, Limits, RawHead, Request
from aiowsgi.http1.reader import RequestReader

GET = head()


@pytest.fixture(params=PARSERS)
def reader(request: pytest.FixtureRequest) -> RequestReader:
    """A reader with each parser."""
    return RequestReader(head_parser(request.param), Limits())


def test_a_request_without_a_body(reader: RequestReader) -> None:
    """A request without a body ends at once, and the next one is expected."""
    assert reader.next_request() is None
    reader.feed(GET)
    request = reader.next_request()
    assert request is not None
    assert request.method == "GET"
    assert reader.next_body() is END_OF_BODY
    assert reader.next_request() is None


def test_later_requests_stay_unparsed(reader: RequestReader) -> None:
    """Bytes of a later request are buffered and counted, and parsed when it is their turn."""
    reader.feed(GET + b"GET /a\r")
    assert reader.buffered == len(GET) + 7
    assert reader.next_request() is not None
    assert reader.buffered == 7
    reader.feed(b"\n")
    assert reader.buffered == 8
    assert reader.next_body() is END_OF_BODY
    with pytest.raises(RequestError, match="400"):
        reader.next_request()


def test_started(reader: RequestReader) -> None:
    """A request has started when a byte of it has arrived; an empty line is not part of one."""
    assert not reader.started
    reader.feed(b"\r\n")
    assert reader.next_request() is None
    assert not reader.started
    reader.feed(b"G")
    assert reader.next_request() is None
    assert reader.started
    reader.feed(GET[1:-1])
    assert reader.next_request() is None
    assert reader.started
    reader.feed(GET[-1:])
    assert reader.next_request() is not None
    assert not reader.started
    assert reader.next_body() is END_OF_BODY
    assert not reader.started


def test_a_body_in_pieces(reader: RequestReader) -> None:
    """A body is returned as it arrives, then its end, then the next request."""
    reader.feed(post(b"Content-Length: 4", body=b"ab"))
    assert reader.next_request() is not None
    assert reader.next_body() == b"ab"
    assert reader.next_body() is NEED_DATA
    reader.feed(b"cd" + SECOND)
    assert reader.next_body() == b"cd"
    assert reader.next_body() is END_OF_BODY
    request = reader.next_request()
    assert request is not None
    assert request.target == "/second"


def test_a_body_may_go_another_way(reader: RequestReader) -> None:
    """Body bytes can bypass the reader if their number is known and nothing is buffered."""
    reader.feed(post(b"Content-Length: 10"))
    assert reader.next_request() is not None
    assert reader.body_remaining == 10
    reader.feed(b"012")
    assert reader.body_remaining == 0
    assert reader.next_body() == b"012"
    assert reader.body_remaining == 7
    reader.skip_body(4)
    reader.feed(b"789" + GET)
    assert reader.next_body() == b"789"
    assert reader.next_body() is END_OF_BODY
    assert reader.body_remaining == 0
    assert reader.next_request() is not None
    assert reader.body_remaining == 0


def test_a_chunked_body_goes_no_other_way(reader: RequestReader) -> None:
    """The number of remaining bytes of a chunked body is unknown."""
    reader.feed(post(b"Transfer-Encoding: chunked"))
    assert reader.next_request() is not None
    assert reader.body_remaining == 0
    reader.skip_body(4)
    reader.feed(b"0\r\n\r\n")
    assert reader.next_body() is END_OF_BODY


def test_nothing_behind_the_last_request(reader: RequestReader) -> None:
    """After a request that closes the connection there is no other; later bytes are dropped."""
    reader.feed(head(b"Connection: close") + SECOND)
    assert reader.next_request() is not None
    assert reader.next_body() is END_OF_BODY
    assert reader.buffered == 0
    assert reader.next_request() is None
    reader.feed(SECOND)
    assert reader.buffered == 0
    assert reader.next_request() is None


def test_a_fault_is_for_ever(reader: RequestReader) -> None:
    """After a refusal every call raises it again, and no more bytes are buffered."""
    reader.feed(b"GET /\r\n" + SECOND)
    for _ in range(3):
        with pytest.raises(RequestError) as first:
            reader.next_request()
        with pytest.raises(RequestError) as second:
            reader.next_body()
        assert first.value.args == second.value.args == (400, "The request line is malformed.")
        reader.feed(SECOND)
        assert reader.buffered == 0


def test_a_fault_in_a_body_is_for_ever(reader: RequestReader) -> None:
    """The same is true after an error in a body."""
    reader.feed(post(b"Transfer-Encoding: chunked", body=b"x\r\n") + SECOND)
    assert reader.next_request() is not None
    for call in (reader.next_body, reader.next_body, reader.next_request):
        with pytest.raises(RequestError, match="400"):
            call()


def test_out_of_turn(reader: RequestReader) -> None:
    """Calling next_body() before a request, or next_request() before its body's end, is a bug."""
    with pytest.raises(RuntimeError):
        reader.next_body()
    reader.feed(post(b"Content-Length: 1"))
    assert reader.next_request() is not None
    with pytest.raises(RuntimeError):
        reader.next_request()


@pytest.mark.parametrize(
    "lie",
    [
        RawHead(b"POST", b"/", b"1.1", [(b"Host", b"x")]),
        RawHead(b"GET", b"/other", b"1.1", [(b"Host", b"x")]),
        RawHead(b"GET", b"/", b"1.0", [(b"Host", b"x")]),
        RawHead(b"GET", b"/", b"1.1", []),
        RawHead(b"GET", b"/", b"1.1", [(b"Host", b"x"), (b"A", b"b")]),
    ],
)
def test_a_library_that_reads_otherwise(lie: RawHead) -> None:
    """If the library's result differs from the syntax check, the request is refused."""
    reader = RequestReader(lambda _: lie, Limits())
    reader.feed(GET * 2)
    with pytest.raises(RequestError, match="ambiguous") as caught:
        reader.next_request()
    assert caught.value.status == 400
    assert reader.buffered == 0


def test_a_library_that_refuses_what_is_good() -> None:
    """If only the library finds an error, its refusal is the answer."""

    def refuse(_: bytes) -> RawHead:
        raise RequestError(400, "I do not like it.")

    reader = RequestReader(refuse, Limits())
    reader.feed(GET)
    with pytest.raises(RequestError, match="I do not like it"):
        reader.next_request()


def test_limits_are_those_of_the_options() -> None:
    """The default limits are those of the options."""
    config = Config()
    assert Limits() == Limits(
        request_line=config.limit_request_line,
        header_size=config.max_header_size,
        fields=config.limit_request_fields,
        body_size=config.max_body_size,
    )


def test_idle_memory() -> None:
    """An idle reader occupies at most five hundred bytes."""
    parse_head, limits = head_parser("httptools"), Limits()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    readers = [RequestReader(parse_head, limits) for _ in range(1000)]
    used = tracemalloc.get_traced_memory()[0] - before - sys.getsizeof(readers)
    tracemalloc.stop()
    assert used / len(readers) <= 500


# The worst inputs known. No read of a socket brings more than 256 KiB.
HARD = {
    "many-fields": head(*[b"A:b"] * 16_000),
    "one-value": head(b"A: " + b"b" * 65_000),
    "spaces": head(b"A:" + b" " * 65_000),
    "tabs": head(b"A:" + b"\t" * 65_000),
    "spaces-inside": head(b"A: b" + b" " * 65_000 + b"c"),
    "commas": head(b"Connection: " + b"," * 65_000),
    "coding-commas": post(b"Transfer-Encoding: " + b"a," * 32_000 + b"chunked"),
    "coding-spaces": post(b"Transfer-Encoding: a" + b" " * 64_000 + b",chunked"),
    "long-host": head(host=b"a" * 65_000),
    "percent-host": head(host=b"%41" * 20_000),
    "colons-host": head(host=b"[" + b":" * 65_000 + b"]"),
    "long-length": post(b"Content-Length: " + b"9" * 65_000),
    "long-target": head(target=b"http://" + b"a" * 8_000),
    "pipelined": GET * 9_000,
    "empty-lines": b"\r\n" * 131_072,
    "line-feeds": b"\n" * 262_144,
    "no-end": b"G" * 262_144,
    "no-end-of-fields": head(*[b"A:b"] * 65_000)[:-4],
    "tiny-chunks": post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n" * 43_690 + b"0\r\n\r\n"),
    "extensions": post(b"Transfer-Encoding: chunked", body=b"1" + b";a" * 130_000),
    "quoted": post(b"Transfer-Encoding: chunked", body=b'1;a="' + b'\\"' * 2_000 + b"\r\n"),
    "trailers": post(b"Transfer-Encoding: chunked", body=b"0\r\n" + b"A:b\r\n" * 50_000),
    "zeros": post(b"Transfer-Encoding: chunked", body=b"0" * 262_144),
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("name", HARD)
def test_time_of_one_request(name: str, parser: str) -> None:
    """No bytes of one read delay the next answer by more than 50 ms."""
    reader = RequestReader(head_parser(parser), Limits())
    reader.feed(HARD[name])
    for call in (reader.next_request, reader.next_body):
        start = time.process_time()
        try:
            call()
        except (RequestError, RuntimeError):
            break
        finally:
            assert time.process_time() - start < 0.05


def _one_long_line(size: int) -> bytes:
    return head(b"A: " + b"b" * size)


def _many_lines(size: int) -> bytes:
    return head(*[b"A: " + b"b" * 650] * (size // 660))


@pytest.mark.parametrize("section", [_one_long_line, _many_lines])
@pytest.mark.parametrize("parser", PARSERS)
def test_a_section_byte_by_byte_takes_linear_time(
    parser: str, section: Callable[[int], bytes]
) -> None:
    """A head of 64 KiB that arrives byte by byte costs about the same for each byte."""

    def cost(size: int) -> float:
        pieces = in_pieces(section(size), 1)
        start = time.process_time()
        assert read(parser, pieces).status is None
        return time.process_time() - start

    small, large = min(cost(4_000) for _ in range(3)), cost(64_000)
    assert large < 16 * small * 3


_SIMILAR = st.builds(
    lambda method, target, version, fields: (
        f"{method} {target} HTTP/{version}\r\n{fields}\r\n".encode("latin-1")
    ),
    st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "BREW"]),
    st.sampled_from(["/", "/a?b", "/a?b#c", "*", "http://other/x", "//x", "/" + "y" * 90, "a:1"]),
    st.sampled_from(["1.1", "1.1", "1.1", "1.0", "2.0"]),
    st.sampled_from(
        [
            "Host: x\r\n",
            "Host: x\r\nA: 1\r\n",
            "Host: x\r\nA: 2\r\n",
            "Host: x\r\nContent-Length: 0\r\n",
            "Host: x\r\nConnection: close\r\n",
            "Host: x\r\nConnection: keep-alive\r\n",
            "A: 1\r\n",
            "Host: x\r\n A: 1\r\n",
        ]
    ),
)


@pytest.mark.parametrize("parser", PARSERS)
@given(heads=st.lists(_SIMILAR, max_size=6))
@settings(deadline=None, derandomize=True, max_examples=300)
@pytest.mark.slow("soak")
def test_what_went_before_changes_nothing(parser: str, heads: list[bytes]) -> None:
    """A request on a reused connection is read like the first one."""
    parse_head = head_parser(parser)
    limits = Limits(request_line=80, header_size=200)
    kept = RequestReader(parse_head, limits)
    for one in heads:
        alone = outcome(RequestReader(parse_head, limits), one)
        assert outcome(kept, one) == alone
        if isinstance(alone, int) or not alone.keep_alive:
            break


def outcome(reader: RequestReader, data: bytes) -> Request | int:
    """Return the request, or the status that refuses it."""
    try:
        reader.feed(data)
        request = reader.next_request()
        assert request is not None
        assert reader.next_body() is END_OF_BODY
    except RequestError as error:
        return error.status
    return request


def test_nothing_is_remembered_for_long(reader: RequestReader) -> None:
    """The cache can be cleared at any time."""
    for _ in range(2):
        reader.feed(GET)
        assert reader.next_request() is not None
        assert reader.next_body() is END_OF_BODY
        reader.clear_cache()


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"\r\n", GET], None),
        ([b"\r\nG", GET[1:]], None),
        ([b"\r\n", b"\r\n" + GET], 400),
        ([b"\r\n", b"\r\n", GET], 400),
        ([b"\r\n", b"\r"], 400),
        ([b"\rG"], 400),
        ([b"\r"], None),
    ],
)
def test_one_empty_line_in_pieces(parser: str, pieces: list[bytes], status: int | None) -> None:
    """One empty line before a request is skipped and a second one is refused, however the bytes are
    split."""
    reading = read(parser, pieces)
    assert reading.status == status
    whole = status is None and GET[-4:] in b"".join(pieces)
    assert [seen.method for seen in reading.seen] == ["GET"] * whole
