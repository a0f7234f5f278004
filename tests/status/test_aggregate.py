"""What several workers say, as one."""

from __future__ import annotations

import json

import pytest
from status_samples import a_report

from aiowsgi.status.aggregate import MOST, ServerFacts, WorkerReport, overview

FACTS = ServerFacts(time=100.0, uptime=5.0)


def request(age):
    """A request in flight of that age."""
    return {"id": str(age), "age": age}


def test_sums():
    """What can be added up is; what cannot stays with its worker."""
    tree = overview(
        FACTS, [WorkerReport(1, 1, "ready", a_report()), WorkerReport(2, 3, "retiring", a_report())]
    )
    assert tree["threads"] == {"busy": 4, "idle": 10, "detached": 2}
    assert (tree["queued"], tree["in_flight"], tree["rss"]) == (12, 4, 2000)
    assert tree["counts"]["requests"]["2xx"] == 2
    assert tree["connections"]["idle"] == 8
    assert [(w["pid"], w["generation"], w["rss"]) for w in tree["workers"]] == [
        (1, 1, 1000),
        (2, 3, 1000),
    ]
    assert tree["worker_states"] == {"ready": 1, "retiring": 1}
    assert tree["waited"] == 1.5
    assert overview(FACTS, [])["waited"] == 0


SILENT = "worker 2 does not answer; py-spy dump --pid 2 shows where it is"
WAITS, HANGS = "a request has waited", "too many threads hang"


def seat(*, held_up=False, unfit="", state="ready"):
    """A worker, whose requests may wait too long."""
    report = a_report() | {"unready": WAITS if held_up else ""}
    return WorkerReport(1, 1, state, report, unfit)


@pytest.mark.parametrize(
    ("seats", "unready"),
    [
        ([], ""),
        ([seat()], ""),
        ([seat(held_up=True)], WAITS),
        ([seat(held_up=True), seat()], ""),
        ([seat(held_up=True), seat(unfit=HANGS)], WAITS),
        ([seat(unfit=HANGS), seat(held_up=True)], HANGS),
        ([seat(held_up=True), seat(state="retiring")], WAITS),
        ([seat(), seat(held_up=True, state="retiring")], ""),
        ([seat(held_up=True), WorkerReport(2, 1, "starting", None)], WAITS),
        ([WorkerReport(2, 1, "ready", None)], SILENT),
        ([WorkerReport(2, 1, "ready", None, HANGS)], HANGS),
        ([WorkerReport(2, 1, "ready", None), seat()], ""),
    ],
)
def test_unready(seats, unready):
    """As long as one worker may get requests, the whole is ready; else the first reason is told."""
    assert overview(FACTS, seats)["unready"] == unready
    draining = overview(FACTS._replace(unready="draining"), seats)
    assert (draining["unready"], draining["workers_unready"]) == ("draining", unready)


def test_each_worker_says_what_is_the_matter():
    """Also where the whole is ready."""
    tree = overview(FACTS, [seat(held_up=True), seat(unfit=HANGS), seat()])
    assert [worker["unready"] for worker in tree["workers"]] == [WAITS, HANGS, ""]


def test_silent_workers():
    """One that should answer and does not is unresponsive; one that starts has nothing to say."""
    tree = overview(
        FACTS, [WorkerReport(1, 1, "ready", None), WorkerReport(2, 1, "starting", None)]
    )
    assert [worker["state"] for worker in tree["workers"]] == ["unresponsive", "starting"]
    assert [worker["threads"] for worker in tree["workers"]] == [None, None]
    assert tree["in_flight"] == 0


@pytest.mark.parametrize(
    ("stalled", "unready", "state"),
    [
        ((0.0, 0.0), ("", ""), "ready"),
        ((2.5, 0.0), ("", ""), "saturated"),
        ((7.0, 0.0), (WAITS, ""), "saturated"),
        ((7.0, 6.0), (WAITS, WAITS), "unready"),
        ((0.0, 0.0), (WAITS, WAITS), "unready"),
    ],
)
def test_the_state_of_the_whole(stalled, unready, state):
    """One worker without a free thread makes it saturated; only all of them make it unready."""
    reports = [
        a_report() | {"stalled": seconds, "unready": reason}
        for seconds, reason in zip(stalled, unready, strict=True)
    ]
    tree = overview(FACTS, [WorkerReport(1, 1, "ready", report) for report in reports])
    assert (tree["state"], tree["stalled"]) == (state, max(stalled))
    assert [worker["stalled"] for worker in tree["workers"]] == [*stalled]


@pytest.mark.parametrize(
    ("expiries", "expiry"), [((), 0.0), ((0.0,), 0.0), ((5.0, 0.0), 5.0), ((5.0, 3.0), 3.0)]
)
def test_the_certificate_that_expires_first_counts(expiries, expiry):
    """Workers may have read different ones; without TLS there is none."""
    seats = [
        WorkerReport(1, 1, "ready", a_report() | {"certificate_expiry": each}) for each in expiries
    ]
    assert overview(FACTS, seats)["certificate_expiry"] == expiry


def test_counts_of_the_gone():
    """They stay in the sum."""
    gone = a_report()["counts"]
    tree = overview(FACTS._replace(gone=gone), [WorkerReport(1, 1, "ready", a_report())])
    assert tree["counts"]["requests"]["2xx"] == 2


def test_requests_and_stacks():
    """The oldest of all first, and not more than can be looked through."""
    one, other = a_report(), a_report()
    one["requests"] = [request(age) for age in (9.0, 2.0)]
    other["requests"] = [request(5.0), *map(request, [0.0] * MOST)]
    one["stacks"] = [{"request": "9.0"}]
    tree = overview(FACTS, [WorkerReport(1, 1, "ready", one), WorkerReport(2, 1, "ready", other)])
    assert [each["age"] for each in tree["requests"][:3]] == [9.0, 5.0, 2.0]
    assert len(tree["requests"]) == MOST
    assert tree["stacks"] == [{"request": "9.0"}]


def test_reports_are_not_changed_and_the_tree_is_json():
    """An overview can be made again of the same reports."""
    report = a_report()
    first = overview(FACTS, [WorkerReport(1, 1, "ready", report)] * 2)
    assert report == a_report()
    assert overview(FACTS, [WorkerReport(1, 1, "ready", report)] * 2) == first
    json.dumps(first)
