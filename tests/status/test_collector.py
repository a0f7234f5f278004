"""From many threads to one count."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest

from aiowsgi.exchange.record import RequestRecord
from aiowsgi.status import collector as module
from aiowsgi.status.collector import BATCH, MetricsCollector
from aiowsgi.wsgi.handler import Response


def a_record(status=200, size=7):
    """The record of a request that took a second for each phase."""
    record = RequestRecord(None, ("", 0), "id", 1.0, 2.0)
    record.started_at, record.finished_at = 3.0, 4.0
    record.waited_before = 0.5
    record.thread_id = 1
    record.status, record.response_bytes = status, size
    return record


RECORD, RESPONSE = a_record(), Response(None)


def test_the_phases_of_an_exchange(monkeypatch):
    """What a proxy let it wait counts into the queue; the rest is as it was measured."""
    monkeypatch.setattr(module, "monotonic", lambda: 4.25)
    tally = MetricsCollector()
    tally.finished(RECORD, RESPONSE, {})
    timed = tally.snapshot()["seconds"]
    sums = {phase: timed[phase]["sum"] for phase in timed}
    assert sums == {"read": 1.0, "queue": 1.5, "app": 1.25, "write": 0.25, "request": 3.0}


@pytest.mark.parametrize("number", [0, 1, BATCH - 1, BATCH, 3 * BATCH + 5])
def test_a_snapshot_has_every_exchange_once(number):
    """Whether it was counted with a batch or not yet."""
    tally = MetricsCollector()
    for _ in range(number):
        tally.finished(RECORD, RESPONSE, {})
    for _ in range(2):
        snapshot = tally.snapshot()
        assert snapshot["requests"]["2xx"] == number
        assert snapshot["bytes"] == number * 7
        assert snapshot["seconds"]["app"]["buckets"][-1] == number


def test_statuses_beside_one_another():
    """Each is counted by itself, and all the sizes together."""
    tally = MetricsCollector()
    for status, size in ((200, 5), (404, 7), (200, 0), (0, 1)):
        tally.finished(a_record(status, size), RESPONSE, {})
    snapshot = tally.snapshot()
    requests = {kind: number for kind, number in snapshot["requests"].items() if number}
    assert (requests, snapshot["bytes"]) == ({"2xx": 2, "4xx": 1, "0xx": 1}, 13)


def test_many_threads():
    """None is lost and none is counted twice while snapshots are made."""
    tally, threads, each = MetricsCollector(), 4, 20 * BATCH + 3
    together = Barrier(threads + 1)

    def work():
        together.wait()
        for _ in range(each):
            tally.finished(RECORD, RESPONSE, {})

    workers = [Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    together.wait()
    seen = [0]
    while any(worker.is_alive() for worker in workers):
        snapshot = tally.snapshot()
        number = snapshot["requests"]["2xx"]
        assert snapshot["seconds"]["read"]["buckets"][-1] == number
        seen.append(snapshot["requests"]["2xx"])
    assert seen == sorted(seen)
    assert tally.snapshot()["requests"]["2xx"] == threads * each


def test_what_the_loop_tells():
    """Answers of its own, and clients that go."""
    tally = MetricsCollector()
    tally.refused(RECORD.refused(503, 11))
    tally.client_disconnected(RECORD)
    snapshot = tally.snapshot()
    assert (snapshot["refusals"]["overload"], snapshot["disconnects"]) == (1, 1)
    assert snapshot["bytes"] == 11


@pytest.mark.parametrize(("status", "timed"), [(503, 1), (504, 1), (408, 0), (400, 0)])
def test_errors_of_the_server_are_timed_and_those_of_clients_are_not(status, timed):
    """All are counted with their bytes; a request that was refused in an overload has waited."""
    tally = MetricsCollector()
    record = RequestRecord(None, ("", 0), "id", 1.0, 2.0)
    tally.refused(record.refused(status, 11))
    snapshot = tally.snapshot()
    assert snapshot["seconds"]["queue"]["buckets"][-1] == timed
    assert (snapshot["seconds"]["request"]["sum"] > 0) is bool(timed)
    assert (snapshot["codes"][str(status)], snapshot["bytes"]) == (1, 11)
