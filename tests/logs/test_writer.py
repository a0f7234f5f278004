"""The writer of the access log, with sinks that fail, block and remember."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from aiowsgi.logs.sinks import FileSink
from aiowsgi.logs.writer import BATCH, PLACE, LogWriter

SECONDS = 10.0
"""More than any of these tests waits unless something is wrong."""


class Memory:
    """Remembers what it is told, and fails, or waits, as long as it should."""

    def __init__(self) -> None:
        self.calls: list[list[str] | str] = []
        self.errors: list[Exception] = []
        self.entered = Event()
        self.may_write = Event()
        self.may_write.set()

    @property
    def lines(self) -> list[str]:
        """All lines in order."""
        return [line for call in self.calls if isinstance(call, list) for line in call]

    def write(self, lines: Sequence[str]) -> None:
        """Wait, then fail or remember."""
        self.entered.set()
        assert self.may_write.wait(SECONDS)
        if self.errors:
            raise self.errors.pop(0)
        self.calls.append(list(lines))

    def reopen(self) -> None:
        """Fail or remember."""
        if self.errors:
            raise self.errors.pop(0)
        self.calls.append("reopen")

    def close(self) -> None:
        """Fail or remember."""
        if self.errors:
            raise self.errors.pop(0)
        self.calls.append("close")


@contextmanager
def writing(
    sink: Memory | FileSink, capacity: int = 1000, linger: float = 0.0
) -> Iterator[LogWriter]:
    """A writer that is closed in the end."""
    writer = LogWriter(sink, capacity=capacity, linger=linger)
    try:
        yield writer
    finally:
        writer.close(SECONDS)


@pytest.fixture
def sink() -> Memory:
    """A sink that works until it is told otherwise."""
    return Memory()


@pytest.fixture(autouse=True)
def _captured(caplog: pytest.LogCaptureFixture) -> None:
    """Everything from INFO on is captured."""
    caplog.set_level(logging.INFO, "aiowsgi")


def test_lines_arrive_in_order_and_in_batches(sink: Memory) -> None:
    """Every line is written, in the order of put(), many lines to a call."""
    count = 3 * BATCH + 1
    with writing(sink, capacity=count) as writer:
        for number in range(count):
            writer.put(f"/{number}")
        assert writer.flush(SECONDS)
        assert sink.lines == [f"/{number}" for number in range(count)]
    assert all(len(call) <= BATCH for call in sink.calls)


def test_a_line_needs_no_flush(sink: Memory) -> None:
    """A line that finds the writer asleep wakes it."""
    with writing(sink) as writer:
        for _ in range(3):
            sink.entered.clear()
            writer.put("/")
            assert sink.entered.wait(SECONDS)


def test_a_line_that_comes_while_the_thread_falls_asleep(sink: Memory) -> None:
    """The thread does not sleep on a line that came too early to wake it."""
    with writing(sink) as writer:
        pass
    writer._wake.clear()
    writer._queue.append("/")
    writer._sleep()
    assert not writer._idle


def test_flush_and_close_cut_the_linger_short(sink: Memory) -> None:
    """Who flushes or closes does not wait for the pause between two rounds to end."""
    with writing(sink, linger=10 * SECONDS) as writer:
        writer.put("/1")
        assert writer.flush(SECONDS)
        writer.put("/2")
        assert writer.flush(SECONDS)
        writer.put("/3")
    assert sink.calls == [["/1"], ["/2"], ["/3"], "close"]


def test_flush_of_an_empty_writer(sink: Memory) -> None:
    """With nothing to write a flush returns at once, and more than once."""
    with writing(sink) as writer:
        assert writer.flush(SECONDS)
        assert writer.flush(SECONDS)
    assert sink.calls == ["close"]


def test_flush_gives_up(sink: Memory) -> None:
    """A flush ends at its timeout and says so."""
    sink.may_write.clear()
    with writing(sink) as writer:
        writer.put("/")
        assert not writer.flush(0.01)
        sink.may_write.set()
        assert writer.flush(SECONDS)


def test_a_full_queue_drops_counts_and_says_so(
    sink: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the capacity lines are dropped, and their number is logged after recovery, once."""
    sink.may_write.clear()
    with writing(sink, capacity=4) as writer:
        writer.put("/0")
        assert sink.entered.wait(SECONDS)  # the queue is empty again
        for number in range(1, 8):
            writer.put(f"/{number}")
        assert caplog.messages == []
        sink.may_write.set()
        assert writer.flush(SECONDS)
        assert writer.flush(SECONDS)
        assert sink.lines == [f"/{number}" for number in range(5)]
    assert caplog.messages == ["access log: 3 lines were lost"]


@pytest.mark.parametrize("size", [1, PLACE, PLACE + 1, 10 * PLACE, 10_000 * PLACE])
def test_the_queue_is_bounded_in_bytes(
    sink: Memory, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """A line counts as many places as it is long; lines that were taken are written whole."""
    capacity, each = 64, -(-size // PLACE)
    sink.may_write.clear()
    with writing(sink, capacity=capacity) as writer:
        writer.put("/0")
        assert sink.entered.wait(SECONDS)  # the queue is empty again
        lines = [
            f"{number:0{size}}"[:size] for number in range(capacity + 10 if size <= PLACE else 70)
        ]
        for line in lines:
            writer.put(line)
        taken = -(-capacity // each)
        assert len(writer._queue) == taken * each
        sink.may_write.set()
        assert writer.flush(SECONDS)
        assert sink.lines == ["/0", *lines[:taken]]
    assert caplog.messages == [f"access log: {len(lines) - taken} lines were lost"]


def test_a_failing_sink_is_reported_once_and_tried_again(
    sink: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full for a while costs lines, one message, and one more when it has room."""
    with writing(sink) as writer:
        sink.errors = [OSError(28, "No space left on device")] * 2
        for number in range(3):
            writer.put(f"/{number}")
            assert writer.flush(SECONDS)
        assert sink.lines == ["/2"]
    assert caplog.messages == [
        "access log: [Errno 28] No space left on device",
        "access log: 2 lines were lost",
    ]
    assert not any(entry.exc_info for entry in caplog.records)


def test_an_unexpected_error_does_not_end_the_thread(
    sink: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a handler of the operator's raises is logged with its traceback, and survived."""
    with writing(sink) as writer:
        sink.errors = [RuntimeError("a handler broke")]
        writer.put("/0")
        assert writer.flush(SECONDS)
        writer.put("/1")
        assert writer.flush(SECONDS)
        assert sink.lines == ["/1"]
    assert caplog.records[0].message == "access log: a handler broke"
    assert caplog.records[0].exc_info


def test_a_sink_that_fails_to_the_end(sink: Memory, caplog: pytest.LogCaptureFixture) -> None:
    """Lines that never could be written are counted when the writer closes."""
    sink.errors = [OSError("gone"), OSError("gone")]
    with writing(sink) as writer:
        writer.put("/")
    assert caplog.messages == ["access log: gone", "access log: 1 lines were lost"]


def test_reopen_happens_between_batches(sink: Memory, caplog: pytest.LogCaptureFixture) -> None:
    """The sink is asked once for each reopen(), and a failure is logged and changes nothing."""
    with writing(sink) as writer:
        writer.put("/0")
        assert writer.flush(SECONDS)
        writer.reopen()
        assert writer.flush(SECONDS)
        sink.errors = [OSError("no such directory")]
        writer.reopen()
        assert writer.flush(SECONDS)
        writer.put("/1")
    assert sink.calls == [["/0"], "reopen", ["/1"], "close"]
    assert caplog.messages == ["access log: no such directory"]


def test_close_writes_what_is_queued_and_is_idempotent(sink: Memory) -> None:
    """After close() everything is written, and what is put later is dropped without an error."""
    sink.may_write.clear()
    writer = LogWriter(sink, linger=0)
    for number in range(2 * BATCH):
        writer.put(f"/{number}")
    sink.may_write.set()
    writer.close(SECONDS)
    writer.close(SECONDS)
    writer.put("/late")
    assert writer.flush(SECONDS)
    assert sink.lines == [f"/{number}" for number in range(2 * BATCH)]
    assert sink.calls[-1] == "close"
    assert sink.calls.count("close") == 1


def test_close_gives_up(sink: Memory, caplog: pytest.LogCaptureFixture) -> None:
    """A sink that never returns does not keep the process from ending."""
    sink.may_write.clear()
    writer = LogWriter(sink)
    writer.put("/0")
    assert sink.entered.wait(SECONDS)
    writer.put("/1")
    writer.close(0.01)
    assert caplog.messages == ["access log: closed with 1 lines not written"]
    sink.may_write.set()
    writer.close(SECONDS)
    assert sink.lines == ["/0", "/1"]


@pytest.mark.parametrize("linger", [0.0, 0.001])
def test_many_threads_lose_nothing(sink: Memory, linger: float) -> None:
    """Lines of several threads all arrive, and those of each thread in order."""
    threads, each = 4, 2000

    def put_all(thread: int) -> None:
        for number in range(each):
            writer.put(f"{thread}:{number}")

    with writing(sink, capacity=threads * each, linger=linger) as writer:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(put_all, range(threads)))
        assert writer.flush(SECONDS)
        arrived = [line.split(":") for line in sink.lines]
    for thread in range(threads):
        assert [n for t, n in arrived if t == str(thread)] == [str(n) for n in range(each)]


def test_rotation_of_a_real_file(tmp_path: Path) -> None:
    """After renaming and reopen() the old lines are in the old file, the new ones in a new one."""
    path = tmp_path / "access.log"
    with writing(FileSink(str(path))) as writer:
        writer.put("/old")
        assert writer.flush(SECONDS)
        path.rename(tmp_path / "access.log.1")
        writer.reopen()
        writer.put("/new")
    assert (tmp_path / "access.log.1").read_text() == "/old\n"
    assert path.read_text() == "/new\n"


WORKER = """
import sys
sys.path[:] = PATH
from aiowsgi.logs.writer import LogWriter
from aiowsgi.logs.sinks import open_sink
writer = LogWriter(open_sink(DESTINATION))
for number in range(3000):
    writer.put({name!r} * 50 + str(number))
writer.close()
"""


@pytest.mark.parametrize("destination", ["-", "access.log"])
@pytest.mark.slow("processes")
def test_processes_share_a_pipe_or_a_file(tmp_path: Path, destination: str) -> None:
    """Lines of several processes never mix, on one standard output as in one file."""
    script = WORKER.replace("PATH", repr(sys.path)).replace("DESTINATION", repr(destination))
    reader, out = os.pipe()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script.format(name=name)],
            stdout=out,
            cwd=tmp_path,
        )
        for name in "ab"
    ]
    os.close(out)
    with open(reader, encoding="ascii") as pipe:
        lines = pipe.read().splitlines()
    assert [worker.wait(SECONDS) for worker in workers] == [0, 0]
    if destination != "-":
        lines = (tmp_path / destination).read_text().splitlines()
    expected = {name: [name * 50 + str(n) for n in range(3000)] for name in "ab"}
    assert {name: [line for line in lines if line[0] == name] for name in "ab"} == expected
