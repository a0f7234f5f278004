"""When a process is saturated, and what the log says of it: with a clock of the test's own."""

from __future__ import annotations

import logging
from threading import Thread

import pytest
from support import PATIENCE, Gate

from aiowsgi.exchange.record import RequestRecord
from aiowsgi.http1.messages import Request
from aiowsgi.threads.saturation import (
    MOST,
    REPEAT,
    SaturationDetector,
    SaturationOptions,
    describe_requests,
)


def a_record(started_at=0.0, path="/", number=1, ident=0):
    """The record of a request that runs."""
    request = Request("GET", path, path, "", "x", "HTTP/1.1", [], 0, True, False)
    record = RequestRecord(request, ("", 0), f"id-{number}", started_at, started_at)
    record.started_at, record.thread_id = started_at, ident
    return record


class Scene:
    """A pool of two threads, and a clock."""

    def __init__(self, *, after=5.0, log=True):
        self.running = []
        self.waiting = 0
        self.now = 100.0
        self.detector = SaturationDetector(
            2, lambda: self.running, lambda: self.waiting, SaturationOptions(after, log=log)
        )

    def pass_time(self, seconds):
        """Check as the wheel would, until ``seconds`` have passed."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.detector.check_deadlines(self.now))
        self.detector.check_deadlines(self.now)


@pytest.fixture
def scene():
    """With both threads busy since second 90, and a request that waits."""
    scene = Scene()
    scene.running = [a_record(90.0), a_record(90.0)]
    scene.waiting = 1
    return scene


@pytest.fixture(autouse=True)
def _captured(caplog):
    caplog.set_level(logging.INFO, "aiowsgi")


def test_saturation_is_said_once_and_again_each_minute(scene, caplog):
    """And its end, with its length."""
    scene.pass_time(4.9)
    assert not scene.detector.saturated
    assert scene.detector.stalled_since == 100.0
    scene.pass_time(0.2)
    assert scene.detector.saturated
    scene.pass_time(REPEAT - 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith(
        "no thread has been free for 5 s while requests wait: 2 threads busy, 1 requests waiting;"
    )
    scene.pass_time(2)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    scene.running.pop()
    scene.pass_time(1)
    assert caplog.messages[2:] == ["a thread is free again, after 66 s"]
    assert (scene.detector.saturated, scene.detector.stalled_since) == (False, 0.0)


def test_an_empty_queue_does_not_end_it(scene):
    """What has waited was refused; the next request would wait too."""
    scene.pass_time(2)
    scene.waiting = 0
    scene.pass_time(4)
    assert scene.detector.saturated
    scene.pass_time(100)
    assert scene.detector.saturated


def test_a_thread_that_takes_a_request_ends_it(scene, caplog):
    """Though all threads are busy again, and a request waits again."""
    scene.pass_time(6)
    scene.running[0] = a_record(106.5)
    scene.pass_time(1)
    assert not scene.detector.saturated
    assert "free again" in caplog.messages[-1]


@pytest.mark.parametrize("missing", ["waiting", "busy"])
def test_without_either_there_is_none(scene, missing, caplog):
    """Threads that are busy for long with nothing waiting, or a free one, are no saturation."""
    if missing == "waiting":
        scene.waiting = 0
    else:
        scene.running.pop()
    scene.pass_time(1000)
    assert not scene.detector.saturated
    assert not caplog.records


def test_a_busy_server_that_goes_on_is_not_saturated(scene, caplog):
    """All threads are always busy and requests always wait, but threads take new ones."""
    for second in range(100, 200):
        scene.running = [a_record(second + 0.1), a_record(90.0)]
        scene.pass_time(1)
    assert not scene.detector.saturated
    assert not caplog.records


def test_it_can_be_detected_without_the_log(caplog):
    """``--saturation-log 0``: readiness still knows."""
    scene = Scene(log=False)
    scene.running, scene.waiting = [a_record(90.0), a_record(90.0)], 1
    scene.pass_time(6)
    assert scene.detector.saturated
    scene.running.clear()
    scene.pass_time(1)
    assert not caplog.records


def hang_here(gate):
    """The application's own code, below which other code waits."""
    gate.pass_through()


def test_requests_at_one_line_are_grouped():
    """The oldest first, with the line's text; what is more than can be read is counted."""
    gates = [Gate() for _ in range(MOST + 2)]
    threads = [Thread(target=hang_here, args=(gate,)) for gate in gates]
    for thread in threads:
        thread.start()
    try:
        for gate in gates:
            gate.wait()
        records = [
            a_record(number, f"/{number}", number, thread.ident)
            for number, thread in enumerate(threads)
        ]
        lines = describe_requests([*reversed(records), a_record(50.0, "/gone", 99, 1)])
    finally:
        for gate, thread in zip(gates, threads, strict=True):
            gate.open()
            thread.join(PATIENCE)
    assert lines[0].startswith(f"{MOST + 2} requests at ")
    assert "support.py" in lines[0]
    assert "pass_through: " in lines[0]
    assert [line.split(",")[0] for line in lines[1 : MOST + 1]] == [
        f"  GET /{number} HTTP/1.1" for number in range(MOST)
    ]
    assert lines[1].endswith("id id-0")
    assert lines[MOST + 1] == "  and 2 more"
    assert lines[MOST + 2] == "1 request elsewhere"


def test_many_lines_of_code_are_bounded(monkeypatch):
    """An application that hangs everywhere does not fill the log."""
    from aiowsgi.threads import saturation as module

    places = {number: module.CodeLine("a.py", number, "f", "x") for number in range(MOST + 3)}
    monkeypatch.setattr(module, "code_lines", lambda idents, *, source: places)
    lines = describe_requests([a_record(ident=number) for number in places])
    assert lines[-1] == "and requests at 3 other lines"
    assert len(lines) == 2 * MOST + 1
