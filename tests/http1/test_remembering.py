"""What a reader remembers: that it saves work, that it is bounded, and that it changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import PARSERS, by_heads, read
from wire import ROWS
from wire.row import head

from aiowsgi.http1 import head_parser, semantics
from aiowsgi.http1.events import END_OF_BODY, Limits, RawHead
from aiowsgi.http1.reader import RequestReader


class Counted:
    """A parser that counts how often it is asked."""

    def __init__(self) -> None:
        self.parse_head = head_parser("h11")
        self.calls = 0

    def __call__(self, section: bytes) -> RawHead:
        self.calls += 1
        return self.parse_head(section)


def calls_for(*heads: bytes) -> int:
    """How often the library is asked for these requests of one connection."""
    counted = Counted()
    reader = RequestReader(counted, Limits())
    for one in heads:
        reader.feed(one)
        assert reader.next_request() is not None
        assert reader.next_body() is END_OF_BODY
    return counted.calls


LONG = head(b"A: " + b"b" * 5000)
LONGEST = head(b"A: " + b"b" * (4096 - len(head(b"A: "))))


@pytest.mark.parametrize(
    ("heads", "calls"),
    [
        ([head(), head(), head(target=b"/a?b"), head(method=b"PUT", target=b"/c")], 1),
        ([head(), head(b"A: b"), head(b"A: b")], 2),
        ([head(), head(b"A: b"), head()], 3),
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
    ],
)
def test_the_library_is_asked_once_for_what_is_alike(heads: list[bytes], calls: int) -> None:
    """Parsed are only long requests, and those that differ in more than method, target and values.

    But for the values of fields that this server acts upon.
    """
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
    """It is taken as the grammar has it, and refused where that has no such value."""
    stream = head(b"A: first", b"B: c") + head(line, b"B: c", target=b"/a?b")
    reading = read(parser, cut(stream))
    if isinstance(value, int):
        assert (len(reading.requests), reading.status) == (1, value)
    else:
        (_, _), (request, _) = reading.requests
        assert [value for _, value in request.fields] == [b"x", value, b"c"]
        assert (request.target, request.path, request.query) == ("/a?b", "/a", "b")


def test_what_is_forgotten_is_parsed_again() -> None:
    """Behind `forget` nothing of the request before is left."""
    counted = Counted()
    reader = RequestReader(counted, Limits())
    for _ in range(2):
        reader.feed(head())
        assert reader.next_request() is not None
        assert reader.next_body() is END_OF_BODY
        reader.forget()
    assert counted.calls == 2


FIRST, LONGER = head(), head(target=b"/longer")
LINE = len(b"GET /longer HTTP/1.1")


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
    """A request like the one before is held to the limits by its own length."""
    reading = read(parser, [FIRST + LONGER], limits)
    assert (len(reading.requests), reading.status) == (1 if status else 2, status)


def test_known_names_are_bounded() -> None:
    """Clients that invent names fill no memory."""
    parse_head = head_parser("h11")
    for number in range(semantics._REMEMBERED + 100):
        semantics.interpret(parse_head(head(b"X-%d: y" % number)), Limits())
    assert len(semantics._passed_over) == semantics._REMEMBERED


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
