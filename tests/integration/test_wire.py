"""The table of what comes on the wire, over real sockets, against a server that runs.

What a row says of the reader (see ``http1/test_wire_table.py``) must hold for a client: the answers
that it gets, in order and no more; that it can read a refusal, however much it still sends; and
that the application saw the requests that the row says, and no other.
"""

from __future__ import annotations

import itertools

import pytest
from support import LOOPS, PARSERS, PATIENCE
from wire import ROWS, SECOND, Seen, echo
from wire.client import Sending, converse

pytestmark = pytest.mark.slow("soak")

SECOND_SEEN = Seen("GET", "/second", "x", b"")

PIECES = 16
"""Bytes of a piece for rows that are too long to be sent byte by byte."""

LATE = b"x" * 100
"""Sent behind a row that ends the connection, when its end may long have come."""


class Counted:
    """The echo, and how often it was called."""

    def __init__(self):
        self.calls = itertools.count()

    def __call__(self, environ, start_response):
        next(self.calls)
        return echo.app(environ, start_response)


def whole(row):
    """The row and a second request in one piece."""
    return [row.sent + SECOND]


def apart(row):
    """The row, and behind it the second request."""
    return [row.sent, SECOND]


def small(row):
    """Byte by byte, or as near to it as the row's length allows."""
    sent = row.sent + SECOND
    step = 1 if len(sent) < 300 else PIECES if len(sent) < 3000 else 1499
    return [sent[at : at + step] for at in range(0, len(sent), step)]


def expected_of(row):
    """What the application must have seen, and the answers' status codes."""
    seen = row.seen if row.closes else (*row.seen, SECOND_SEEN)
    refusal = () if row.status is None else (row.status,)
    return list(seen), [*[200] * len(seen), *refusal]


def fault(row, came):
    """What is wrong with what came of a row; None where nothing is."""
    seen, codes = expected_of(row)
    if [answer.status for answer in came.answers] != codes or came.rest:
        return f"the answers are {came.answers} and {came.rest!r}"
    heard = [echo.heard(answer) for answer in came.answers]
    if heard != [*map(echo.of, seen), None][: len(heard)]:
        return f"the application saw {heard}"
    if any("date" not in answer.fields for answer in came.answers):
        return "an answer has no Date"
    closes = [answer.fields.get("connection") == "close" for answer in came.answers]
    if row.closes and closes != [False] * (len(closes) - 1) + [True]:
        return f"Connection: close stands in {closes}"
    # A client that has asked for the end and sends on may be cut; one that was refused may not.
    may_be_cut = row.closes and row.status is None
    if not may_be_cut and (came.reset or not came.ended):
        return "the server has not closed the connection in order"
    return None


def faults(server, rows, split):
    """Run rows over a server; what is wrong, by the rows' ids."""
    sendings = []
    for row in rows:
        late = [LATE] * 3 if row.status is not None else []
        methods = tuple(request.method for request in row.seen)
        sendings.append(Sending([*split(row), *late], methods, len(expected_of(row)[1])))
    conversations = converse(("127.0.0.1", server.port), sendings, PATIENCE)
    found = zip(rows, map(fault, rows, conversations), strict=True)
    return {row.id: problem for row, problem in found if problem}


@pytest.mark.parametrize("split", [whole, apart, small])
@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("loop", LOOPS)
def test_every_row(serve_on, loop, parser, split):
    """A running server answers, refuses and closes as the row says; on one loop, a sample does."""
    app = Counted()
    server = serve_on(loop, parser, app)
    rows = ROWS if loop == LOOPS[0] else ROWS[::5]
    assert faults(server, rows, split) == {}
    assert next(app.calls) == sum(len(expected_of(row)[0]) for row in rows)


@pytest.mark.parametrize("mode", ["on", "off"])
def test_every_row_however_bodies_are_held(serve_on, mode):
    """The answers are the same where the application begins before the fault in a body comes."""
    server = serve_on("auto", "auto", echo.app, request_buffering=mode)
    assert faults(server, ROWS, apart) == {}
