"""What a reader remembers: that it saves work, that it is bounded, and that it changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import PARSERS, read
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
        ([head(), head(target=b"http://x/"), head()], 3),
        ([head(target=b"*", method=b"OPTIONS")] * 2, 2),
        ([LONG, LONG], 2),
        ([LONGEST, LONGEST], 1),
        ([head(b"A: bc"), head(b"A: b")], 2),
    ],
)
def test_the_library_is_asked_once_for_what_is_alike(heads: list[bytes], calls: int) -> None:
    """Only a request that differs in more than method and target is parsed, or is a long one."""
    assert calls_for(*heads) == calls


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
    assert read(parser, [stream]) == read(parser, [stream], forgetful=True)
