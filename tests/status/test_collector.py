"""From many threads to one count."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest

from aiowsgi.exchange.record import RequestRecord
from aiowsgi.status import collector as module
from aiowsgi.status.collector import BATCH, MetricsCollector


def a_record(status=200, size=7):
    """The record of a request that took a second for each phase."""
    record = RequestRecord(None, ("", 0), "id", 1.0, 2.0)
    record.started_at, record.finished_at = 3.0, 4.0
    record.waited_before = 0.5
    record.thread_id = 1
    record.status, record.response_bytes = status, size
    return record


RECORD, RESPONSE = a_record(), object()


def watched():
    """A tally that somebody looks at."""
    tally = MetricsCollector()
    tally.watch()
    return tally


def test_the_phases_of_an_exchange(monkeypatch):
    """What a proxy let it wait counts into the queue; the rest is as it was measured."""
    monkeypatch.setattr(module, "monotonic", lambda: 4.25)
    tally = watched()
    tally.finished(RECORD, RESPONSE, {})
    timed = tally.snapshot()["seconds"]
    sums = {phase: timed[phase]["sum"] for phase in timed}
    assert sums == {"read": 1.0, "queue": 1.5, "app": 1.25, "write": 0.25, "request": 3.0}


@pytest.mark.parametrize("number", [0, 1, BATCH - 1, BATCH, 3 * BATCH + 5])
def test_a_snapshot_has_every_exchange_once(number):
    """Whether it was counted with a batch or not yet."""
    tally = watched()
    for _ in range(number):
        tally.finished(RECORD, RESPONSE, {})
    for _ in range(2):
        snapshot = tally.snapshot()
        assert snapshot["requests"]["2xx"] == number
        assert snapshot["bytes"] == number * 7
        assert snapshot["seconds"]["app"]["buckets"][-1] == number


@pytest.mark.parametrize("number", [1, BATCH - 1, BATCH, 3 * BATCH + 5])
def test_times_are_kept_for_who_looks(number):
    """What was answered is counted always; how long it took, once somebody looks."""
    tally = MetricsCollector()
    for _ in range(number):
        tally.finished(RECORD, RESPONSE, {})
    tally.watch()
    tally.finished(RECORD, RESPONSE, {})
    snapshot = tally.snapshot()
    assert (snapshot["requests"]["2xx"], snapshot["bytes"]) == (number + 1, (number + 1) * 7)
    assert snapshot["seconds"]["app"]["buckets"][-1] == 1


def test_statuses_beside_one_another():
    """Each is counted by itself, without times too, and all the sizes together."""
    tally = MetricsCollector()
    for status, size in ((200, 5), (404, 7), (200, 0), (0, 1)):
        tally.finished(a_record(status, size), RESPONSE, {})
    snapshot = tally.snapshot()
    requests = {kind: number for kind, number in snapshot["requests"].items() if number}
    assert (requests, snapshot["bytes"]) == ({"2xx": 2, "4xx": 1, "0xx": 1}, 13)


def test_times_are_kept_no_longer_than_that(monkeypatch):
    """Some minutes after the last look, a snapshot ends it, or a batch does."""
    tally = watched()
    monkeypatch.setattr(module, "WATCH", -1.0)
    tally.finished(RECORD, RESPONSE, {})
    tally.snapshot()
    tally.finished(RECORD, RESPONSE, {})
    assert tally.snapshot()["seconds"]["app"]["buckets"][-1] == 2
    tally.watch()
    for _ in range(BATCH + 1):
        tally.finished(RECORD, RESPONSE, {})
    snapshot = tally.snapshot()
    assert snapshot["requests"]["2xx"] == 2 + BATCH + 1
    assert snapshot["seconds"]["app"]["buckets"][-1] == 2 + BATCH


@pytest.mark.parametrize("timed", [False, True])
def test_many_threads(timed):
    """None is lost and none is counted twice while snapshots are made, with times and without."""
    tally, threads, each = watched() if timed else MetricsCollector(), 4, 20 * BATCH + 3
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
        assert snapshot["seconds"]["read"]["buckets"][-1] == (number if timed else 0)
        seen.append(snapshot["requests"]["2xx"])
    assert seen == sorted(seen)
    assert tally.snapshot()["requests"]["2xx"] == threads * each


def test_what_the_loop_tells():
    """Answers of its own, and clients that go."""
    tally = MetricsCollector()
    tally.refused(RECORD.refused(503, 11))
    tally.left(RECORD)
    snapshot = tally.snapshot()
    assert (snapshot["refusals"]["overload"], snapshot["disconnects"]) == (1, 1)
    assert snapshot["bytes"] == 11


def test_orphans():
    """A request whose client has left is kept as long as its thread is busy with it."""
    tally, queued, busy, other = MetricsCollector(), a_record(), a_record(), a_record()
    queued.thread_id = 0
    for record in (queued, busy):
        tally.left(record)
    assert tally.orphans() == {busy}
    tally.left(other)
    busy.ended = True
    assert tally.orphans() == {other}
