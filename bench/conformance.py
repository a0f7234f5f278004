"""Checks how strictly a server reads requests: ``python -m bench.conformance 127.0.0.1:8000``.

It needs Python and this checkout only. Serve ``wire.echo:app`` (with ``tests`` on the path) with
the server in question, and name its host and port. With another application that answers each
request with 200, the number of requests is checked, but not their content.

Each row of the table in ``tests/wire`` is sent whole, followed by a second request. The verdicts:

======  =========================================================================================
pass    read, or refused with any 4xx or 5xx status or by closing, as the table has it
strict  refused, where the table reads it: a choice, and mostly a harmless one
lax     taken for a request, where the table refuses it
fail    a request was seen that another reader of the same bytes takes for content, or behind bytes
        that were refused or dropped; or a good one was read otherwise, or got no answer
======  =========================================================================================

The table refuses some things that RFC 9112 merely allows to refuse, so that "lax" calls for a
look at the row. A "fail" is how requests are smuggled past a proxy that reads the same bytes
differently.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from wire import ROWS, SECOND, Seen, echo
from wire.client import Sending, converse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wire import Row
    from wire.client import Came

QUIET = 1.0
"""Seconds without a byte after which an answer counts as complete. A guess: servers answer a row
within milliseconds, and a server that waits for more bytes would wait much longer."""

SECOND_SEEN = Seen("GET", "/second", "x", b"")


class Verdict(Enum):
    """See the module's docstring."""

    PASS = "pass"
    STRICT = "strict"
    LAX = "lax"
    FAIL = "fail"


class Outcome(NamedTuple):
    """What came of one row."""

    row: Row
    verdict: Verdict
    statuses: tuple[int, ...]
    """Of the answers, in order."""
    detail: str
    """What is wrong; empty for a pass."""


# Judging


def judge(row: Row, came: Came) -> Outcome:
    """Compare the answers with the row."""
    statuses = tuple(answer.status for answer in came.answers)
    taken = len([status for status in statuses if 200 <= status < 300])
    verdict, detail = (_judge_good if row.status is None else _judge_bad)(row, came, taken)
    return Outcome(row, verdict, statuses, detail)


def _judge_good(row: Row, came: Came, taken: int) -> tuple[Verdict, str]:
    expected = [*row.seen] if row.closes else [*row.seen, SECOND_SEEN]
    if taken > len(expected):
        return Verdict.FAIL, "more requests were seen than were sent"
    if misread := _misread(expected, came):
        return Verdict.FAIL, misread
    if taken == len(expected):
        return Verdict.PASS, ""
    if taken == len(row.seen):
        return Verdict.STRICT, "the connection was not kept"
    if came.answers:
        return Verdict.STRICT, "it was refused"
    return Verdict.FAIL, "no answer came"


def _judge_bad(row: Row, came: Came, taken: int) -> tuple[Verdict, str]:
    targets = {told.target for told in map(echo.heard, came.answers) if told is not None}
    beyond = taken - len(row.seen)
    if "/hidden" in targets:
        return Verdict.FAIL, "the hidden request was seen"
    if beyond > 2 + row.sent.count(SECOND):
        return Verdict.FAIL, "more requests were seen than were sent"
    if taken < len(came.answers) and came.answers[-1].status < 300:
        return Verdict.FAIL, "a request was seen behind a refusal"
    if beyond == 1 and "/second" in targets:
        return Verdict.FAIL, "the second request was seen behind bytes that are none"
    if beyond > 0:
        kept = ", and the connection kept" if beyond > 1 else ""
        return Verdict.LAX, f"it was taken for a request{kept}"
    if came.answers[taken:] or came.ended or came.reset:
        return Verdict.PASS, ""
    return Verdict.LAX, "more was waited for"


def _misread(expected: Sequence[Seen], came: Came) -> str:
    """Which of the requests the application has seen otherwise than it was sent, if one.

    Host and targets that are no path are left out: many servers hand them on in a form of theirs.
    """
    for request, answer in zip(expected, came.answers, strict=False):
        told, sent = echo.heard(answer), echo.of(request)
        if told is None:
            continue
        if (told.method, told.digest) != (sent.method, sent.digest):
            return f"the method was read as {told.method}, or the content otherwise"
        if sent.target == SECOND_SEEN.target != told.target:
            return f"the second request was read as {told.target}"
    return ""


def measure(address: tuple[str, int], rows: Sequence[Row], quiet: float) -> list[Outcome]:
    """Send the rows to the server at ``address``."""
    sendings = [
        Sending(
            [row.sent + SECOND],
            tuple(request.method for request in row.seen),
            len(row.seen) + (not row.closes or row.status is not None),
        )
        for row in rows
    ]
    return list(map(judge, rows, converse(address, sendings, quiet)))


# Printing


def report(outcomes: Sequence[Outcome], *, verbose: bool) -> Iterable[str]:
    """The lines of the table: a section of the RFCs each, the rows that did not pass, a summary."""
    sections = dict.fromkeys(outcome.row.section for outcome in outcomes)
    yield f"{'section':<28}" + "".join(f"{verdict.value:>8}" for verdict in Verdict)
    for section in sections:
        part = [outcome for outcome in outcomes if outcome.row.section == section]
        yield f"{section:<28}{_counts(part)}"
        if verbose:
            yield from map(_line, (o for o in part if o.verdict is not Verdict.PASS))
    yield f"{'all':<28}{_counts(outcomes)}"
    refused = [o for o in outcomes if o.row.status is not None and o.verdict is Verdict.PASS]
    same = sum(outcome.statuses[-1:] == (outcome.row.status,) for outcome in refused)
    yield f"{same} of {len(refused)} refusals have the status of the table"


def _counts(outcomes: Sequence[Outcome]) -> str:
    counter = Counter(outcome.verdict for outcome in outcomes)
    return "".join(f"{counter[verdict]:>8}" for verdict in Verdict)


def _line(outcome: Outcome) -> str:
    advisory = f" ({outcome.row.cve})" if outcome.row.cve else ""
    statuses = ",".join(map(str, outcome.statuses)) or "-"
    return f"  {outcome.verdict.value:<7}{outcome.row.id:<52}{statuses}: {outcome.detail}{advisory}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a row failed or was taken laxly."""
    parser = argparse.ArgumentParser(prog="python -m bench.conformance", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("-v", "--verbose", action="store_true", help="name the rows")
    parser.add_argument("-k", "--only", default="", help="only rows with this in their id")
    parser.add_argument("--quiet", type=float, default=QUIET, help="seconds to wait for an answer")
    options = parser.parse_args(arguments)
    host, _, port = options.address.rpartition(":")
    rows = [row for row in ROWS if options.only in row.id]
    outcomes = measure((host.strip("[]"), int(port)), rows, options.quiet)
    print(*report(outcomes, verbose=options.verbose), sep="\n")
    return int(any(outcome.verdict in (Verdict.LAX, Verdict.FAIL) for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
