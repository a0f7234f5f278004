"""The head cache: it saves work, it is bounded, and it changes no result."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import PARSERS, by_heads, read
from wire import ROWS
from wire.row import SECOND, head

from aiowsgi.http1 import head_parser, semantics
from aiowsgi.http1.head_cache import HeadCache
from aiowsgi.http1.messages import END_OF_BODY, Limits, RawHead, Request
from aiowsgi.http1.reader import RequestReader


class Counted:
    """A parser that counts its calls."""

    def __init__(self) -> None:
        self.parse_head = head_parser("h11")
        self.calls = 0

    def __call__(self, section: bytes) -> RawHead:
        self.calls += 1
        return self.parse_head(section)


def calls_for(*heads: bytes, limits: Limits | None = None) -> int:
    """Return how often the library parses for these requests of one connection."""
    counted = Counted()
    reader = RequestReader(counted, limits or Limits())
    for one in heads:
        reader.feed(one)
        assert reader.next_request() is not None
        assert reader.next_body() is END_OF_BODY
    return counted.calls


KINDS = [head(*[b"A: b"] * number) for number in range(5)]
"""One head more than are cached."""

LONGEST = head(b"A: " + b"b" * (4096 - len(head(b"A: "))))
LONG = head(b"A: " + b"b" * (4097 - len(head(b"A: "))))


@pytest.mark.parametrize(
    ("heads", "calls"),
    [
        ([head(), head(), head(target=b"/a?b"), head(method=b"PUT", target=b"/c")], 1),
        ([head(), head(b"A: b"), head(b"A: b")], 2),
        ([head(), head(b"A: b"), head()], 2),
        ([*KINDS[:4], *KINDS[:4], *KINDS[3::-1]], 4),
        ([*KINDS, *KINDS], 10),
        ([*KINDS, *KINDS[4:0:-1]], 5),
        ([*KINDS[:4], KINDS[4], KINDS[1], KINDS[0]], 6),
        ([head(b"A: b"), head(), head(b"C: d"), head(), head(b"C: e"), head(b"A: b")], 4),
        ([head(b"A: b", b"C: d"), head(b"A: cde", b"C: "), head(b"A:", b"C:\t\xe9 ")], 1),
        ([head(b"A: b"), head(b"a: b")], 2),
        ([head(b"A: b"), head(b"AA: b")], 2),
        ([head(b"A: b", b"C: d"), head(b"C: d", b"A: b")], 2),
        ([head(b"Connection: a"), head(b"Connection: b")], 2),
        ([head(b"CONNECTION: a"), head(b"CONNECTION: b")], 2),
        ([head(b"Content-Length: 0"), head(b"Content-Length: 00")], 2),
        ([head(), head(target=b"http://x/"), head()], 3),
        ([head(target=b"*", method=b"OPTIONS")] * 2, 2),
        ([LONG, LONG], 2),
        ([LONGEST, LONGEST], 1),
        ([head(b"A: bc"), head(b"A: b")], 1),
        ([LONGEST, LONG], 2),
        ([LONG, LONGEST], 2),
        ([head(b"A: b:c"), head(b"A: d:e")], 1),
        ([head(b"Connection: a:b"), head(b"Connection: a:close")], 2),
    ],
)
def test_the_library_is_asked_once_for_what_is_alike(heads: list[bytes], calls: int) -> None:
    """Only long requests are parsed, and those that differ in more than method, target and values;
    and those that differ in the value of a field that the server uses."""
    assert calls_for(*heads) == calls


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"A: other", b"other"),
        (b"A:other", b"other"),
        (b"A: \t o  t\t ", b"o  t"),
        (b"A:", b""),
        (b"A: \xff", b"\xff"),
        (b"A: a:b", b"a:b"),
        (b"A: XoX", b"XoX"),
        (b"A: \x00", 400),
        (b"A: \n", 400),
        (b"A: \rB: c", 400),
        (b"A : b", 400),
        (b" A: b", 400),
        (b"A", 400),
    ],
)
@pytest.mark.parametrize("cut", [by_heads, lambda data: [data]])
def test_a_value_that_differs(
    parser: str, line: bytes, value: bytes | int, cut: Callable[[bytes], list[bytes]]
) -> None:
    """A value that differs is read as the syntax allows, and refused if it does not match."""
    stream = head(b"A: first", b"B: c") + head(line, b"B: c", target=b"/a?b")
    reading = read(parser, cut(stream))
    if isinstance(value, int):
        assert (len(reading.requests), reading.status) == (1, value)
    else:
        (_, _), (request, _) = reading.requests
        assert [value for _, value in request.fields] == [b"x", value, b"c"]
        assert (request.target, request.path, request.query) == ("/a?b", "/a", "b")


def test_what_is_forgotten_is_parsed_again() -> None:
    """After clear_cache() nothing of the last request is kept."""
    counted = Counted()
    reader = RequestReader(counted, Limits())
    for _ in range(2):
        reader.feed(head())
        assert reader.next_request() is not None
        assert reader.next_body() is END_OF_BODY
        reader.clear_cache()
    assert counted.calls == 2


def first(data: bytes, limits: Limits | None = None) -> Request:
    """Return how a head is read on a new connection."""
    reader = RequestReader(head_parser("h11"), limits or Limits())
    reader.feed(data)
    request = reader.next_request()
    assert request is not None
    return request


def predecessor(data: bytes, limits: Limits | None = None) -> HeadCache:
    """Return a cache with that head."""
    known = HeadCache(limits or Limits())
    known.store(data, first(data))
    return known


TWO_FIELDS = head(b"A: b", b"C: d")


@pytest.mark.parametrize(
    ("data", "same", "similar"),
    [
        (TWO_FIELDS, True, True),
        (head(b"A: b", b"C: d", target=b"/a?b?c"), True, True),
        (head(b"A: b", b"C: d", target=b"/" + b"a" * (4096 - len(TWO_FIELDS))), True, True),
        (head(b"A: b", b"C: d", target=b"/" + b"a" * (4097 - len(TWO_FIELDS))), False, False),
        (head(b"A: b", b"C: d", method=b"PUT"), False, True),
        (head(b"A: c", b"C:", target=b"/a?b"), False, True),
        (head(b"A: b", b"C: d", method=b"CONNECT"), False, False),
        (head(b"A: b", b"C: d", version=b"HTTP/1.0"), False, False),
        (head(b"A: b", b"C: d", version=b"HTTP/1.1x"), False, False),
        (head(b"A: b", b"C: d", version=b"HTTP/1.1:x"), False, False),
        (head(b"A: b", b"C: d", target=b"http://x/"), False, False),
        (head(b"A: b", b"C: d", target=b"*"), False, False),
        (head(b"A: b", b"C: d", target=b"/a#b"), False, False),
        (head(b"A: b", b"C: d", target=b"/a b"), False, False),
        (head(b"A: b", b"C: d", target=b"/a\x01"), False, False),
        (head(b"A: b", b"C: d", target=b"/a\x7f"), False, False),
        (head(b"A: b", b"C: d", target=b"/\xe9"), False, False),
        (head(b"A: b", b"C: d", target=b""), False, False),
        (head(b"A: b", b"C: d", method=b"GET "), False, False),
        (head(b"A: b", b"C: d", host=b"y"), False, False),
        (b"\r\n" + TWO_FIELDS, False, False),
        (b" " + TWO_FIELDS, False, False),
        (TWO_FIELDS * 2, False, False),
        (TWO_FIELDS[:-1], False, False),
        (TWO_FIELDS[1:], False, True),
        (head(b"A: b"), False, False),
        (b"", False, False),
    ],
)
def test_what_is_recognized(data: bytes, same: bool, similar: bool) -> None:
    """Heads with the same fields and method are recognised, and heads with other values."""
    known = predecessor(TWO_FIELDS)
    request = first(data) if similar else None
    assert known.latest.match_same(data) == (request if same else None)
    assert known.lookup(data) == request
    assert known.latest.match_same(data) == request


def test_which_bytes_are_recognized() -> None:
    """Targets and values are recognised if the syntax allows them, without fragments."""
    visible, every = set(range(0x21, 0x7F)), range(256)
    targets = {byte: head(b"A: b", b"C: d", target=b"/a%cb" % byte) for byte in every}
    values = {byte: head(b"A: b", b"C: d%ce" % byte) for byte in every}
    known = predecessor(TWO_FIELDS)
    same, similar = known.latest.match_same, known.lookup
    assert {byte for byte in every if same(targets[byte])} == visible - set(b"#")
    assert {byte for byte in every if similar(targets[byte])} == visible - set(b"#")
    in_values = visible | set(b" \t") | set(range(0x80, 0x100))
    assert {byte for byte in every if similar(values[byte])} == in_values


def test_fields_that_are_the_same_are_the_same_list() -> None:
    """Equal fields are the same list object, and a list that was returned is never changed."""
    request = first(TWO_FIELDS)
    fields = request.fields.copy()
    known = HeadCache(Limits())
    known.store(TWO_FIELDS, request)
    for method in (b"GET", b"PUT"):
        other = known.lookup(head(b"A: b", b"C: d", method=method))
        assert other is not None
        assert other.fields is request.fields
    other = known.lookup(head(b"A: c", b"C: d"))
    assert other is not None
    assert other.fields is not request.fields
    assert request.fields == fields


@pytest.mark.parametrize(
    ("data", "kin"),
    [
        (head(target=b"http://x/"), head()),
        (head(target=b"*", method=b"OPTIONS"), head()),
        (LONG, head(b"A: b")),
    ],
)
def test_what_is_not_remembered(data: bytes, kin: bytes) -> None:
    """After a long request, or one whose target changes its meaning, nothing is recognised."""
    known = predecessor(kin)
    known.store(data, first(data))
    for next_one in (data, kin):
        assert known.latest.match_same(next_one) is None
        assert known.lookup(next_one) is None


def test_nothing_is_held_of_what_was_forgotten() -> None:
    """clear_cache() frees the memory of a request."""

    class Watched(list[tuple[bytes, bytes]]):
        """A list that can have a weak reference."""

    fields = Watched(first(head()).fields)
    watch = weakref.ref(fields)
    known = HeadCache(Limits())
    known.store(head(), first(head())._replace(fields=fields))
    del fields
    gc.collect()
    assert watch() is not None
    known.clear()
    gc.collect()
    assert watch() is None


@pytest.mark.parametrize(
    ("before", "data", "taken"),
    [
        ([head()], head(), True),
        ([head(b"A: b")], head(b"A: c", target=b"/a"), True),
        ([head(), head(b"A: b")], head(target=b"/a"), True),
        ([head(), head(b"A: b"), head()], head(b"A: c", target=b"/a"), True),
        ([], head(), False),
        ([head(b"A: b")], head(), False),
        ([head(), b"\r"], b"\n" + head(), False),
        ([head(), b"\r"], head(), False),
        ([head(), b"G"], head(), False),
        ([head(), b"\r\n"], head(), False),
        ([head()], head() * 2, False),
        ([head(b"A: b")], head(b"A: c") + b"G", False),
        ([head()], head()[:-1], False),
        ([head(b"Content-Length: 1") + b"a"], head(b"Content-Length: 1"), False),
        ([head(b"Content-Length: 33")], SECOND, False),
        ([head(b"Transfer-Encoding: chunked")], head(b"Transfer-Encoding: chunked"), False),
        ([head(b"Connection: close")], head(b"Connection: close"), False),
    ],
)
def test_what_is_taken_at_once(before: list[bytes], data: bytes, taken: bool) -> None:
    """The fast path takes one complete head, similar to an earlier one, without a body, if nothing
    is buffered."""
    reader = RequestReader(head_parser("h11"), Limits())
    for piece in before:
        reader.feed(piece)
        if reader.next_request() is not None:
            while isinstance(reader.next_body(), bytes):
                pass
    held = reader.buffered
    request = reader.try_fast_path(data)
    assert request == (first(data) if taken else None)
    assert reader.buffered == held


FIRST, LONGER = head(), head(target=b"/longer")
LINE = len(b"GET /longer HTTP/1.1")


@pytest.mark.parametrize(
    "limits",
    [
        Limits(request_line=LINE, header_size=len(LONGER)),
        Limits(request_line=0, header_size=0),
    ],
)
def test_what_is_within_the_limits_is_not_parsed_again(limits: Limits) -> None:
    """The limits accept their own value; without limits everything cached is accepted."""
    assert calls_for(FIRST, LONGER, limits=limits) == 1
    assert predecessor(FIRST, limits).latest.match_same(LONGER) is not None


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (Limits(request_line=LINE), None),
        (Limits(request_line=LINE - 1), 414),
        (Limits(header_size=len(LONGER)), None),
        (Limits(header_size=len(LONGER) - 1), 431),
        (Limits(request_line=0, header_size=0), None),
    ],
)
@pytest.mark.parametrize("parser", PARSERS)
def test_limits_are_those_of_every_request(parser: str, limits: Limits, status: int | None) -> None:
    """A similar request is held to the limits by its own length."""
    for pieces in ([FIRST + LONGER], [FIRST, LONGER]):
        reading = read(parser, pieces, limits)
        assert (len(reading.requests), reading.status) == (1 if status else 2, status)


def test_known_names_are_bounded() -> None:
    """Clients that invent field names do not fill the memory."""
    parse_head = head_parser("h11")
    long = b"X-" + b"a" * semantics._MAX_CACHED_NAME_LENGTH
    for number in range(semantics._MAX_CACHED_NAMES + 100):
        semantics.interpret(parse_head(head(long + b"%d: y" % number)), Limits())
        semantics.interpret(parse_head(head(b"X-%d: y" % number)), Limits())
    assert max(map(len, semantics._ignored_names)) <= semantics._MAX_CACHED_NAME_LENGTH
    assert len(semantics._ignored_names) == semantics._MAX_CACHED_NAMES


KEPT = [row.sent for row in ROWS if row.status is None and not row.closes and len(row.sent) < 300]
EDITS = st.lists(
    st.tuples(st.integers(0, 2000), st.sampled_from([0, 1, 2]), st.binary(max_size=2)), max_size=2
)


@pytest.mark.parametrize("parser", PARSERS)
@settings(deadline=None, derandomize=True, max_examples=300)
@given(sent=st.sampled_from(KEPT), times=st.integers(2, 4), edits=EDITS)
def test_it_makes_no_difference(
    parser: str, sent: bytes, times: int, edits: list[tuple[int, int, bytes]]
) -> None:
    """A request that is repeated, and mutated in between, is read as if it were the first."""
    stream = sent * times
    for place, width, inserted in edits:
        at = place % (len(stream) + 1)
        stream = stream[:at] + inserted + stream[at + width :]
    alone = read(parser, [stream], forgetful=True)
    assert read(parser, [stream]) == alone
    assert read(parser, by_heads(stream)).alike == alone.alike
