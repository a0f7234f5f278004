"""What is shown in a terminal, as lines and tables."""

from __future__ import annotations

import pytest
from status_samples import REQUEST, STACK, a_report

from aiowsgi.admin.tables import (
    Table,
    fit,
    plain,
    request_grid,
    seconds,
    stack_lines,
    summary,
    worker_grid,
)
from aiowsgi.status.aggregate import ServerFacts, WorkerReport, overview
from aiowsgi.status.metrics import Counts, Sample

NASTY = "/\x1b[31m\x9b31m\u202e\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 µs"),
        (0.0000123, "12 µs"),
        (0.00234, "2.34 ms"),
        (0.25, "250 ms"),
        (1.0, "1 s"),
        (12.345, "12.3 s"),
        (60.0, "1 min 0 s"),
        (3725.0, "1 h 2 min"),
        (90_061.0, "1 d 1 h"),
    ],
)
def test_seconds(value, text):
    """Two or three figures, in the unit that makes them short."""
    assert seconds(value) == text


def test_plain():
    """Columns line up; numbers to the right, and no blanks at the end of a line."""
    grid = Table((">AGE", "PATH"), [["1 s", "/a"], ["12 ms", "/long"]], ["", ""])
    assert plain(grid) == ["  AGE  PATH", "  1 s  /a", "12 ms  /long"]


@pytest.mark.parametrize("width", [200, 120, 100, 80, 60, 40])
@pytest.mark.parametrize("length", [5, 20, 60, 200])
@pytest.mark.parametrize("where", ["", "shop.py:14 report", "x" * 100])
def test_requests_fit(width, length, where):
    """Age, worker and place are whole whatever the path; only the request gives way, and then the
    client and the phase."""
    row = {**REQUEST, "path": "/" + "x" * length, "where": where, "age": 5.18, "worker": 29939}
    table = fit(request_grid([row, REQUEST]), width)
    lines = plain(table)
    assert max(map(len, lines)) <= max(width, 66)
    for heading in ("AGE", "WORKER", "WHERE", "REQUEST"):
        assert heading in lines[0]
    assert lines[1].startswith("5.18 s")
    assert "29939" in lines[1]
    place = (where or "-") if len(where) <= 36 else "…" + "x" * 35
    assert f"  {place}  " in lines[1]
    assert "GET /xxx" in lines[1]
    natural = max(map(len, plain(request_grid([row, REQUEST]))))
    if natural <= width:
        assert lines == plain(request_grid([row, REQUEST]))
    elif len(place) < 20 and width >= 80:
        assert "PHASE" in lines[0]


def test_a_table_without_an_elastic_column_stays_as_it_is():
    """What cannot give way is not cut."""
    table = Table(("A",), [["x" * 50]], [""])
    assert plain(fit(table, 10)) == plain(table)


def at(time, counts, **facts):
    """An overview at that time."""
    report = a_report()
    report["counts"] = {**counts.snapshot(), "dropped": 0}
    return overview(ServerFacts(time, 65.0, **facts), [WorkerReport(7, 2, "ready", report)])


def test_summary():
    """Rates and latencies are those between two looks."""
    counts = Counts()
    counts.add(list(Sample(200, 1, 0, 0, 9, 0, 9)))
    before = at(100.0, counts)
    for _ in range(10):
        counts.add(list(Sample(200, 1, 0, 0, 0.002, 0, 0.002)))
    counts.refused(503)
    counts.untimed(503, 1)
    head, rates, state = summary(at(102.0, counts), before)
    assert head == "up 1 min 5 s, ready"
    assert rates == (
        "requests 5.5/s   5xx 0.5/s   refused 0.5/s   p50 1.75 ms   p90 2.35 ms   p99 2.49 ms"
    )
    assert state == ("threads 2 of 7 busy, 1 detached   queue 6   connections 4   memory 0 MB")


def test_summary_of_nothing():
    """Without responses there are no latencies; a server that was started anew has no rates."""
    counts, fresh = Counts(), Counts()
    counts.add(list(Sample(200, 1, 0, 0, 9, 0, 9)))
    _, rates, _ = summary(at(101.0, counts), at(101.0, counts))
    assert rates.endswith("p50 -   p90 -   p99 -")
    _, rates, _ = summary(at(102.0, fresh), at(101.0, counts))
    assert rates.startswith("requests 0.0/s")
    assert rates.endswith("p99 -")


def test_unready():
    """It stands in the first line, and whatever the reason holds, a terminal stays as it is."""
    head, *_ = summary(at(1.0, Counts(), unready=f"draining {NASTY}"), at(0.0, Counts()))
    assert head.startswith("up 1 min 5 s, NOT READY: draining ")
    assert head.isprintable()


def test_saturated():
    """A state between ready and not ready, with how long it has lasted."""
    tree = at(1.0, Counts())
    tree["stalled"] = 63.0
    head, *_ = summary(tree, at(0.0, Counts()))
    assert head == (
        "up 1 min 5 s, SATURATED: a worker has had no free thread for 1 min 3 s while requests wait"
    )
    tree["unready"] = "draining"
    assert "NOT READY" in summary(tree, at(0.0, Counts()))[0]
    tree["workers"][0]["stalled"] = 63.0
    assert worker_grid(tree).colours == ["yellow"]
    assert worker_grid(tree).rows[0][1] == "saturated"


def test_workers():
    """One that says nothing has nothing to show but its name."""
    seats = [WorkerReport(7, 2, "ready", a_report()), WorkerReport(8, 3, "ready", None)]
    seats[0].report["rss"] = 2.5e9
    grid = worker_grid(overview(ServerFacts(1.0, 1.0), seats))
    assert grid.rows[0] == ["7", "ready", "2", "2/7", "1", "6", "2.50 GB", "1 s"]
    assert grid.rows[1] == ["8", "unresponsive", "3", "-", "-", "-", "-", "-"]
    assert grid.colours == ["", "red"]
    seats[0].report["unready"] = "a request has waited"
    assert worker_grid(overview(ServerFacts(1.0, 1.0), seats)).colours == ["red", "red"]
    assert all(len(row) == len(grid.headings) for row in grid.rows)


@pytest.mark.parametrize(("age", "colour"), [(0.5, ""), (1.0, "yellow"), (10.0, "red")])
def test_requests(age, colour):
    """A row for each; the old ones have a colour."""
    request = {"id": "x", "worker": 7, "thread": "", "client": "", "method": "GET", "path": NASTY}
    grid = request_grid([{**request, "age": age, "phase": "queued"}])
    assert grid.colours == [colour]
    assert grid.rows[0][1:5] == ["queued", "7", "-", "unix socket"]
    assert grid.headings[3] == "WHERE"
    assert all(cell.isprintable() for cell in grid.rows[0])


def test_stacks():
    """No line is more than text, whatever a client has sent."""
    nasty = {**STACK, "what": NASTY, "own": f'  File "{NASTY[:-1]}", line 1\n    wait()\n'}
    lines = stack_lines([nasty])
    assert lines[0] == "1 request at shop.py:3 yearly `with lock:`"
    assert lines[1].endswith("id r1, aiowsgi-thread-1 of worker 7")
    assert lines[3:] == ["    wait()", ""]
    assert all(line.isprintable() for line in lines)
    assert stack_lines([]) == ["No thread is busy."]


def test_equal_stacks_are_shown_once():
    """The most frequent first, and of each the oldest request first; others by themselves."""
    other = {**STACK, "own": '  File "shop.py", line 9, in other\n', "where": "shop.py:9 other"}
    ages = (1.0, 12.0, 5.0)
    same = [{**STACK, "age": age, "request": f"r{age:.0f}"} for age in ages]
    lines = stack_lines([other, *same])
    assert lines[:5] == [
        "3 requests at shop.py:3 yearly `with lock:`",
        "  12 s  GET /reports/yearly HTTP/1.1  id r12, aiowsgi-thread-1 of worker 7",
        "  5 s  GET /reports/yearly HTTP/1.1  id r5, aiowsgi-thread-1 of worker 7",
        "  1 s  GET /reports/yearly HTTP/1.1  id r1, aiowsgi-thread-1 of worker 7",
        '  File "shop.py", line 3, in yearly',
    ]
    assert "1 request at shop.py:9 other `with lock:`" in lines
    assert "threading.py" not in "".join(lines)


def test_all_calls_of_a_stack():
    """Those of Python and of the server, if they are asked for, or if there are no others."""
    assert "threading.py" in "".join(stack_lines([STACK], whole=True))
    assert "threading.py" in "".join(stack_lines([{**STACK, "own": ""}]))
