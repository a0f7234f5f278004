"""The body decoders: pieces, limits, time; and the libraries' decoders as oracles."""

from __future__ import annotations

import re

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import COMPILED
from wire.rfc9112_7_chunked import ROWS

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.body import (
    MAX_CHUNK_LINE,
    MAX_CHUNKS_AT_ONCE,
    MAX_EXTENSION_EXCESS,
    ChunkedBody,
    LengthBody,
    body_reader,
)
from aiowsgi.http1.messages import CHUNKED, END_OF_BODY, NEED_DATA, BodyEvent, Limits
from aiowsgi.http1.receive_buffer import ReceiveBuffer

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

COMPLETE, INCOMPLETE, REFUSED = "complete", "incomplete", "refused"
Outcome = tuple[str, bytes]


def events(
    pieces: list[bytes], length: int = CHUNKED, limits: Limits | None = None
) -> list[BodyEvent]:
    """Return every event of a body that arrives in pieces."""
    body, buffer = body_reader(length, limits or Limits()), ReceiveBuffer()
    found: list[BodyEvent] = []
    for piece in pieces:
        buffer.append(piece)
        while (event := body.read(buffer)) is not NEED_DATA:
            found.append(event)
            if event is END_OF_BODY:
                return found
        found.append(NEED_DATA)
    return found


def ours(data: bytes) -> Outcome:
    try:
        found = events([data])
    except RequestError:
        return REFUSED, b""
    content = b"".join(event for event in found if isinstance(event, bytes))
    return (COMPLETE if found[-1] is END_OF_BODY else INCOMPLETE), content


def by_h11(data: bytes) -> Outcome:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
    connection.receive_data(HEAD + data)
    content = b""
    try:
        while type(event := connection.next_event()) is not h11.EndOfMessage:
            if event is h11.NEED_DATA:
                return INCOMPLETE, content
            if isinstance(event, h11.Data):
                content += event.data
    except h11.RemoteProtocolError:
        return REFUSED, b""
    return COMPLETE, content


class Collector:
    """Receives the callbacks of httptools."""

    def __init__(self) -> None:
        self.content = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.content += data

    def on_message_complete(self) -> None:
        self.complete = True


def by_httptools(data: bytes) -> Outcome:
    collector = Collector()
    try:
        httptools.HttpRequestParser(collector).feed_data(HEAD + data)
    except httptools.HttpParserError:
        # An error after the end of the body does not concern the body.
        if not collector.complete:
            return REFUSED, b""
    return (COMPLETE if collector.complete else INCOMPLETE), collector.content


_SIZE_LINE_WITH_SPACE = re.compile(rb"^[0-9A-Fa-f]+[ \t]*;[^\r\n]*\r\n", re.MULTILINE)
_BAD_WHITESPACE = re.compile(rb"[ \t]*([;=])[ \t]*")


def without_bad_whitespace(data: bytes) -> bytes:
    """RFC 9112 section 7.1.1 has recipients remove BWS; the libraries refuse it instead."""
    return _SIZE_LINE_WITH_SPACE.sub(lambda line: _BAD_WHITESPACE.sub(rb"\1", line[0]), data)


def check_against_oracles(data: bytes) -> None:
    reading = ours(data)
    data = without_bad_whitespace(data)
    oracles = (by_h11(data), by_httptools(data))
    if reading[0] == COMPLETE:
        assert oracles == (reading, reading)
    if all(oracle[0] == REFUSED for oracle in oracles):
        assert reading[0] == REFUSED


BODIES = [row.sent[len(HEAD) :] for row in ROWS if len(row.sent) < 1000]


@pytest.mark.parametrize("data", BODIES)
def test_rows_against_the_oracles(data: bytes) -> None:
    """What both libraries refuse is refused; what is accepted both accept, with the same
    content."""
    check_against_oracles(data)


@settings(deadline=None, derandomize=True, max_examples=500)
@given(
    data=st.sampled_from(BODIES),
    edits=st.lists(
        st.tuples(st.integers(0, 300), st.sampled_from([0, 1]), st.binary(max_size=2)), max_size=3
    ),
)
@pytest.mark.slow("soak")
def test_mutations_against_the_oracles(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """The same is true if some bytes of a body are replaced, removed or inserted."""
    for place, width, inserted in edits:
        at = place % (len(data) + 1)
        data = data[:at] + inserted + data[at + width :]
    check_against_oracles(data)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    extension=st.sampled_from([b"", b";a", b";a=b", b';a="b;\\"c"']),
    trailer=st.sampled_from([b"", b"A: b\r\n", b"A:\r\nB: c\r\n"]),
)
def test_well_formed_bodies(chunks: list[bytes], extension: bytes, trailer: bytes) -> None:
    """Any chunks, with extensions and trailers, decode to their data, with all three decoders."""
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(c), extension, c) for c in chunks)
    data += b"0" + extension + b"\r\n" + trailer + b"\r\n"
    assert ours(data) == by_h11(data) == by_httptools(data) == (COMPLETE, b"".join(chunks))


def test_reader_by_length() -> None:
    """The length selects the decoder."""
    assert isinstance(body_reader(CHUNKED, Limits()), ChunkedBody)
    assert isinstance(body_reader(5, Limits()), LengthBody)


def test_length_body_is_not_copied() -> None:
    """Content that arrives in pieces is returned as the same objects."""
    first, second = b"a" * 1000, b"b" * 1000
    found = events([first, second], 2000)
    assert found[0] is first
    assert found[2] is second
    assert found[3] is END_OF_BODY


def test_length_body_ends_where_it_says() -> None:
    """Bytes after the content stay in the buffer for the next request."""
    buffer = ReceiveBuffer()
    buffer.append(b"helloGET")
    body = LengthBody(5)
    assert body.read(buffer) == b"hello"
    assert body.read(buffer) is END_OF_BODY
    assert body.read(buffer) is END_OF_BODY
    assert len(buffer) == 3


def test_chunk_data_is_not_copied() -> None:
    """The data of a large chunk that arrives in pieces is returned as the same objects."""
    piece = b"a" * 1000
    found = events([b"7d0\r\n", piece, piece, b"\r\n" + END])
    assert found[1] is piece
    assert found[3] is piece


def test_small_chunks_are_joined() -> None:
    """Chunks that arrive together are returned as one piece."""
    assert events([b"1\r\na\r\n" * 100 + END]) == [b"a" * 100, END_OF_BODY]


TCHAR = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
VALUE = set(b"\t") | set(range(0x20, 0x7F)) | set(range(0x80, 0x100))


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        (b"%c\r\n", set(b"0123456789abcdefABCDEF")),
        (b"1;a%cb\r\n", TCHAR | set(b";=")),
        (b"1;a=b%cc\r\n", TCHAR | set(b";")),
        (b'1;a="b%cc"\r\n', VALUE - set(b'"')),
        (b'1;a="\\%c"\r\n', VALUE),
        (b"0\r\nA%cB: c\r\n", TCHAR | set(b":")),
        (b"0\r\nA: b%cc\r\n", VALUE),
    ],
)
def test_which_bytes_may_stand(line: bytes, allowed: set[int]) -> None:
    """Exactly the bytes that the RFCs allow are accepted."""
    assert {byte for byte in range(256) if ours(line % byte)[0] != REFUSED} == allowed


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (b"0" * 16, COMPLETE),
        (b"0" * 17, REFUSED),
        (b"", REFUSED),
        (b"0;", REFUSED),
        (b"0;=b", REFUSED),
        (b"0;a=", REFUSED),
        (b'0;a=""', COMPLETE),
        (b'0;a="', REFUSED),
        (b"0\n", REFUSED),
    ],
)
def test_parts_of_a_size_line(line: bytes, outcome: str) -> None:
    """A size has at most sixteen digits; names and values are not empty unless quoted."""
    assert ours(line + b"\r\n\r\n")[0] == outcome


class Counted(ReceiveBuffer):
    """A buffer that counts the calls that take something."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def take(self, size: int) -> bytes:
        self.calls += 1
        return super().take(size)


@pytest.mark.skipif(COMPILED, reason="counts calls by a subclass, which compiled code cannot have")
@pytest.mark.parametrize("limits", [Limits(), Limits(body_size=0), Limits(body_size=100)])
def test_small_chunks_cost_no_calls(limits: Limits) -> None:
    """Complete chunks without extensions are read without taking each from the buffer."""
    body, buffer = ChunkedBody(limits), Counted()
    lines = [b"1", b"0001"] * 39 + [b"1", b"A", b"b"]
    buffer.append(b"".join(b"%b\r\n%b\r\n" % (n, b"a" * int(n, 16)) for n in lines) + END)
    assert body.read(buffer) == b"a" * 100
    assert body.read(buffer) is END_OF_BODY
    assert buffer.calls == 2


@pytest.mark.parametrize("size", [1, 9, 10, 15, 16, 48, 255, 256, 4095, 65535, 65536, 1048576])
def test_sizes_of_chunks(size: int) -> None:
    """A size is hexadecimal, in either case; the next chunk follows it."""
    for line in (b"%x\r\n", b"%X\r\n", b"00%x\r\n", b"%x;a\r\n"):
        data = line % size + b"a" * size + b"\r\n5\r\nhello\r\n" + END
        assert ours(data) == (COMPLETE, b"a" * size + b"hello")


def test_very_many_small_chunks_are_not_joined_at_once() -> None:
    """The number of chunks that one call returns is bounded, and with it the time of a call."""
    found = events([b"1\r\na\r\n" * (MAX_CHUNKS_AT_ONCE + 100) + END])
    assert found == [b"a" * MAX_CHUNKS_AT_ONCE, b"a" * 100, END_OF_BODY]


def test_the_limit_counts_over_all_reads() -> None:
    """Content beyond the limit is not returned, however it arrives."""
    body, buffer = ChunkedBody(Limits(body_size=5)), ReceiveBuffer()
    buffer.append(b"5\r\nhello\r\n")
    assert body.read(buffer) == b"hello"
    buffer.append(b"1\r\n!\r\n")
    with pytest.raises(RequestError, match="413"):
        body.read(buffer)


def test_content_before_a_fault_is_withheld() -> None:
    """Content with an error after it in the same bytes is not returned."""
    with pytest.raises(RequestError, match="400"):
        events([b"2\r\nhi\r\nx\r\n"])


@pytest.mark.parametrize(
    ("data", "limits", "status"),
    [
        (b"5\r\nhello\r\n" + END, Limits(body_size=5), None),
        (b"6\r\n", Limits(body_size=5), 413),
        (b"5\r\nhello\r\n1\r\n", Limits(body_size=5), 413),
        (b"5\r\nhello\r\n1\r\n!\r\n", Limits(body_size=5), 413),
        (b"1\r\na\r\n" + END, Limits(body_size=1), None),
        (b"2\r\n", Limits(body_size=1), 413),
        (b"1\r\na\r\n1\r\n", Limits(body_size=1), 413),
        (b"ffffffffffffffff\r\n", Limits(body_size=0), None),
        (b"0\r\nA", Limits(header_size=1), None),
        (b"0\r\nA:", Limits(header_size=1), 431),
        (b"0\r\nA: b\r\n\r\n", Limits(header_size=8), None),
        (b"0\r\nA: b\r\n\r\n", Limits(header_size=7), 431),
        (b"0\r\nA: bc\r\n", Limits(header_size=6), 431),
        (b"0\r\nA: bcde", Limits(header_size=6), 431),
        (b"0\r\nA: b\r\nC: d\r\n", Limits(header_size=11), 431),
        (b"0\r\nA: b\r\nC: d\r\n\r\n", Limits(header_size=0, fields=0), None),
        (b"0\r\nA: b\r\nC: d\r\n\r\n", Limits(fields=2), None),
        (b"0\r\nA: b\r\nC: d\r\n", Limits(fields=1), 431),
        (b"0;" + b"a" * (MAX_CHUNK_LINE - 4) + b"\r\n\r\n", Limits(), None),
        (b"0;" + b"a" * (MAX_CHUNK_LINE - 3) + b"\r\n\r\n", Limits(), 400),
        (b"0;" + b"a" * MAX_CHUNK_LINE, Limits(), 400),
    ],
)
def test_limits(data: bytes, limits: Limits, status: int | None) -> None:
    """Each limit accepts its own value and refuses one more; 0 is no limit."""
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        if status is None:
            events(pieces, limits=limits)
        else:
            with pytest.raises(RequestError, match=str(status)):
                events(pieces, limits=limits)


def test_extensions_may_be_as_many_as_the_content() -> None:
    """Extensions are bounded by the content that they come with, and some bytes more."""
    per_chunk = b";" + b"a" * 1023
    fair = b"400" + per_chunk + b"\r\n" + b"b" * 1024 + b"\r\n"
    unfair = b"1" + per_chunk + b"\r\nb\r\n"
    assert events([fair * 100 + END]) == [b"b" * 102_400, END_OF_BODY]
    affordable = MAX_EXTENSION_EXCESS // 1024
    rest = b"1;" + b"a" * affordable
    assert events([unfair * affordable + rest + b"\r\n"])[-1] is NEED_DATA
    with pytest.raises(RequestError, match="extensions"):
        events([unfair * affordable + rest + b"a\r\n"])
    assert events([unfair * affordable + END]) == [b"b" * affordable, END_OF_BODY]
    with pytest.raises(RequestError, match="extensions"):
        events([unfair * (affordable + 1) + END])
