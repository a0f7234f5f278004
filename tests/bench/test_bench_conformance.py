"""``bench/conformance.py``: its verdicts, its table, and what it says of this server."""

from __future__ import annotations

import json

import pytest
from wire import ROWS, Row, Seen, echo
from wire.client import Answer, Came

from bench.conformance import SECOND_SEEN, Verdict, judge, main

ROOT = Seen("GET", "/", "x", b"")
HIDDEN = ROOT._replace(target="/hidden")


def answered(*whats, rest=b"", ended=True):
    """A conversation in which requests were answered as seen, or with a status code."""
    answers = [
        Answer(what, {}, b"")
        if isinstance(what, int)
        else Answer(200, {echo.FIELD.lower(): json.dumps(echo.of(what))}, b"")
        for what in whats
    ]
    return Came(answers, rest, 1, ended, reset=False)


GOOD = Row("id", b"", (ROOT,), None, closes=False, cve="", section="")
LAST = GOOD._replace(closes=True)
BAD = Row("id", b"", (), 400, closes=True, cve="", section="")


@pytest.mark.parametrize(
    ("row", "came", "verdict"),
    [
        (GOOD, answered(ROOT, SECOND_SEEN), Verdict.PASS),
        (GOOD, answered(200, 200), Verdict.PASS),
        (GOOD, answered(ROOT), Verdict.STRICT),
        (GOOD, answered(400), Verdict.STRICT),
        (GOOD, answered(), Verdict.FAIL),
        (GOOD, answered(ROOT, SECOND_SEEN, SECOND_SEEN), Verdict.FAIL),
        (GOOD, answered(ROOT._replace(method="POST"), SECOND_SEEN), Verdict.FAIL),
        (GOOD, answered(ROOT._replace(body=b"x"), SECOND_SEEN), Verdict.FAIL),
        (GOOD, answered(ROOT, HIDDEN), Verdict.FAIL),
        (LAST, answered(ROOT), Verdict.PASS),
        (LAST, answered(ROOT, SECOND_SEEN), Verdict.FAIL),
        (BAD, answered(400), Verdict.PASS),
        (BAD, answered(501), Verdict.PASS),
        (BAD, answered(), Verdict.PASS),
        (BAD, answered(ended=False), Verdict.LAX),
        (BAD, answered(ROOT), Verdict.LAX),
        (BAD, answered(ROOT, SECOND_SEEN), Verdict.LAX),
        (BAD, answered(200, 200), Verdict.LAX),
        (BAD, answered(200, 200, 200), Verdict.FAIL),
        (BAD, answered(ROOT, HIDDEN, SECOND_SEEN), Verdict.FAIL),
        (BAD, answered(SECOND_SEEN), Verdict.FAIL),
        (BAD, answered(400, SECOND_SEEN), Verdict.FAIL),
        (BAD, answered(400, 200), Verdict.FAIL),
    ],
)
def test_verdicts(row, came, verdict):
    """A row passes, or it is strict, lax or a failure, and why is said."""
    outcome = judge(row, came)
    assert outcome.verdict is verdict
    assert bool(outcome.detail) is (verdict is not Verdict.PASS)
    assert outcome.statuses == tuple(answer.status for answer in came.answers)


def test_this_server_passes(serve_once, capsys):
    """Run by hand against this server, the program finds nothing, and says so by its status."""
    server = serve_once(echo.app)
    assert main([f"127.0.0.1:{server.port}", "--only", "rfc9112-9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = sum("rfc9112-9" in row.id for row in ROWS)
    assert lines[0].split() == ["section", "pass", "strict", "lax", "fail"]
    assert lines[1].startswith("RFC 9112 section 9.3 ")
    assert lines[-2].split() == ["all", str(count), "0", "0", "0"]
    assert "refusals have the status of the table" in lines[-1]


def test_a_server_that_reads_otherwise_is_shown(serve_once, capsys):
    """What did not pass is named, with its advisory, and the status is 1."""

    def app(environ, start_response):
        environ["REQUEST_METHOD"] = "OTHER"
        return echo.app(environ, start_response)

    server = serve_once(app)
    assert main([f"127.0.0.1:{server.port}", "-v", "--only", "9.3.2-ten"]) == 1
    output = capsys.readouterr().out
    assert "fail" in output
    assert "rfc9112-9.3.2-ten" in output
    assert "read as OTHER" in output
    assert "(CVE-2024-41671)" in output
