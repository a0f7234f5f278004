"""What the kernel does not take at once: kept, spilled, waited for, and threads against it."""

from __future__ import annotations

import errno
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from outputs import OWNER, lent
from support import PATIENCE, FakePort, Signal, no_descriptor_leaks

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange import keeper as keeper_module
from aiowsgi.exchange import output as outlet_module
from aiowsgi.exchange.output import DrainResult
from aiowsgi.exchange.output_buffer import Spool


@pytest.fixture
def worker():
    """A thread that sends."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def feed(outlet, blocks):
    """What a worker does with a response in blocks."""
    for block in blocks:
        outlet.send(OWNER, (block,), last=False)
    outlet.send(OWNER, (), last=True)


def drain_for(outlet, port, wake, future, rng=None, most=50):
    """What the loop does until the worker is done and everything is sent."""
    while True:
        wake.wait()
        while True:
            port.room = rng.randint(1, most) if rng else most
            if (result := outlet.drain()) is not DrainResult.BLOCKED:
                break
        if not outlet.in_use():
            future.result(PATIENCE)
            return
        assert result is DrainResult.EMPTY


@pytest.mark.parametrize(
    ("memory", "spool"), [(1000, 0), (0, 0), (10, 0), (10, 64), (0, 64), (10, 10_000), (50, 7)]
)
def test_a_worker_sends_more_than_is_kept(worker, memory, spool):
    """Whatever the bounds, the worker waits as it must and all bytes leave in order."""
    blocks = [bytes([65 + n % 26]) * (n * 13 % 90 + 1) for n in range(40)]
    with no_descriptor_leaks():
        port, wake = FakePort(room=0), Signal()
        outlet = lent(port, wake, memory=memory, spool=spool)
        drain_for(outlet, port, wake, worker.submit(feed, outlet, blocks))
        assert port.taken == b"".join(blocks)
        outlet.close()


def test_thousands_of_interleavings_of_send_and_drain(worker):
    """Two threads against one outlet, with random bounds, blocks and rooms: the same bytes."""
    with no_descriptor_leaks():
        for seed in range(1500):
            rng = random.Random(seed)
            blocks = [rng.randbytes(rng.randint(1, 60)) for _ in range(rng.randint(1, 8))]
            port, wake = FakePort(room=rng.randint(0, 30)), Signal()
            limits = {"memory": rng.choice((0, 20, 60)), "spool": rng.choice((0, 16, 64, 500))}
            outlet = lent(port, wake, **limits, notify=True)
            future = worker.submit(feed, outlet, blocks)
            drain_for(outlet, port, wake, future, rng)
            assert port.taken == b"".join(blocks), seed
            outlet.close()


def test_thousands_of_interleavings_of_send_and_close(worker):
    """A close at any moment frees the worker, closes every file once, and sends nothing after."""
    with no_descriptor_leaks():
        for seed in range(1500):
            rng = random.Random(seed)
            blocks = [rng.randbytes(rng.randint(1, 60)) for _ in range(8)]
            port, wake = FakePort(room=rng.randint(0, 30)), Signal()
            limits = {"memory": rng.choice((0, 20, 60)), "spool": rng.choice((0, 16, 64, 500))}
            outlet = lent(port, wake, **limits)
            future = worker.submit(feed, outlet, blocks)
            for _ in range(rng.randint(0, 4)):
                outlet.drain()
            outlet.close()
            error = future.exception(PATIENCE)
            assert error is None or isinstance(error, ClientDisconnected)
            assert b"".join(blocks).startswith(port.taken)


@pytest.mark.parametrize("spool", [0, 64])
def test_a_worker_that_waits_is_freed_by_a_close(worker, spool):
    """The client has gone: waiting for it ends, and the spool's file is closed."""
    with no_descriptor_leaks():
        port, wake = FakePort(room=0), Signal()
        outlet = lent(port, wake, memory=10, spool=spool)
        future = worker.submit(feed, outlet, [b"x" * 100] * 3)
        while outlet._room is None:
            wake.wait()
        assert outlet.close() is OWNER
        assert isinstance(future.exception(PATIENCE), ClientDisconnected)


def test_a_close_while_the_spool_is_written_leaves_the_file_to_the_writer(worker, monkeypatch):
    """The descriptor is not closed under a thread that uses it, and is closed afterwards."""
    begun, go_on = Event(), Event()
    write_at = Spool.write_at

    def slow(region, data):
        begun.set()
        assert go_on.wait(PATIENCE)
        return write_at(region, data)

    monkeypatch.setattr(Spool, "write_at", staticmethod(slow))
    with no_descriptor_leaks():
        outlet = lent(FakePort(room=0), memory=0, spool=64)
        future = worker.submit(feed, outlet, [b"x" * 100])
        assert begun.wait(PATIENCE)
        assert outlet.drain() is DrainResult.EMPTY
        assert outlet.close() is OWNER
        go_on.set()
        assert isinstance(future.exception(PATIENCE), ClientDisconnected)


@pytest.mark.parametrize("room", [0, 5, 30])
def test_a_full_disk_leaves_memory_to_wait_in(worker, monkeypatch, caplog, room):
    """When the spool cannot be written any more, the worker waits for room, and loses nothing."""
    write_at = Spool.write_at

    def full(region, data):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "no space left")
        written = write_at(region, data[: min(room, 10)])
        room -= written
        return written

    monkeypatch.setattr(Spool, "write_at", staticmethod(full))
    blocks = [b"a" * 30, b"b" * 70, b"c" * 30]
    with no_descriptor_leaks():
        port, wake = FakePort(room=0), Signal()
        outlet = lent(port, wake, memory=40, spool=1000)
        drain_for(outlet, port, wake, worker.submit(feed, outlet, blocks))
        assert port.taken == b"".join(blocks)
        outlet.close()
    assert "cannot be written: " in caplog.text


def test_progress_is_noted_from_the_moment_something_waits(monkeypatch):
    """The write timeout counts from when the client was first slow, and from each byte it took."""
    now = 100.0
    for module in (keeper_module, outlet_module):
        monkeypatch.setattr(module, "monotonic", lambda: now)
    port = FakePort(room=0)
    outlet = lent(port)
    outlet.send(OWNER, (b"abc",), last=False)
    assert outlet.progress_at == 100
    now = 101.0
    outlet.send(OWNER, (b"def",), last=False)
    assert outlet.drain() is DrainResult.BLOCKED
    assert outlet.progress_at == 100
    now, port.room = 102.0, 1
    assert outlet.drain() is DrainResult.BLOCKED
    assert outlet.progress_at == 102
    now, port.room = 103.0, 10
    assert outlet.drain() is DrainResult.EMPTY
    now, port.room = 110.0, 0
    outlet.send(OWNER, (b"ghi",), last=True)
    assert outlet.progress_at == 110
    now, port.room = 111.0, 9
    assert outlet.drain() is DrainResult.FINISHED
    assert outlet.finished_at == 111


# Patience


class QuickPort(FakePort):
    """A client that has always read what was sent, a moment later."""

    def __init__(self, room):
        super().__init__(room)
        self.waits = 0
        self.refill = room

    def wait(self, seconds):
        """Make room again."""
        self.waits += 1
        self.room = self.refill
        return True


def test_a_quick_client_is_waited_for_while_the_response_goes_on():
    """What a client that reads fast cannot take at once does not make the detour by the backlog."""
    port, wake = QuickPort(10), Signal()
    outlet = lent(port, wake)
    outlet.send(OWNER, (b"x" * 25, b"y" * 5), last=False)
    assert port.taken == b"x" * 25 + b"y" * 5
    assert port.waits == 2
    assert not outlet.pending
    assert wake.count == 0


def test_nobody_is_waited_for_at_the_end_of_a_response():
    """A response that is finished holds no thread, however fast its client reads."""
    port, wake = QuickPort(10), Signal()
    outlet = lent(port, wake)
    outlet.send(OWNER, (b"x" * 25,), last=True)
    assert port.waits == 0
    assert outlet.pending


def test_a_slow_client_is_waited_for_once():
    """Who has read nothing in time is not waited for again in the same response."""
    port, wake = FakePort(0), Signal()
    waits = []
    port.wait = waits.append
    outlet = lent(port, wake)
    outlet.send(OWNER, (b"abc",), last=False)
    outlet.send(OWNER, (b"def",), last=False)
    assert len(waits) == 1
    assert outlet.pending
