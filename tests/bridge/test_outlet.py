"""The sending side of a connection: order, freedom, waiting, failure, and threads against it."""

from __future__ import annotations

import errno
import os
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from support import PATIENCE, FakePort, Signal, no_descriptor_leaks

from aiowsgi.bridge import backlog as backlog_module
from aiowsgi.bridge import outlet as outlet_module
from aiowsgi.bridge.backlog import BacklogLimits, Spool
from aiowsgi.bridge.outlet import Drained, Outlet
from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.file_wrapper import FileRange

OWNER = object()
ERRORS = (errno.ECONNRESET, errno.EPIPE, errno.ENOBUFS)


@pytest.fixture
def worker():
    """A thread that sends."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def file(tmp_path):
    """A file of a thousand bytes, open."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(250)) * 4)
    with path.open("rb", buffering=0) as opened:
        yield opened


def lent(port, wake=None, *, memory=1000, spool=0, notify=False):
    """An outlet that is lent to OWNER, who has begun."""
    outlet = Outlet(port, wake or Signal(), BacklogLimits(memory, spool))
    outlet.lend(OWNER, notify=notify)
    assert outlet.claim(OWNER)
    return outlet


def drained(outlet, port, step=7):
    """Drain with ``step`` bytes of room at a time, until there is nothing left to wait for."""
    port.room = 0
    while True:
        port.room += step
        if (result := outlet.drain()) is not Drained.BLOCKED:
            return result


# Freedom


def test_a_response_that_the_port_takes_is_one_call_and_wakes_nobody():
    """The fast path: one send, the outlet is free, and the loop sleeps on."""
    port, wake = FakePort(), Signal()
    outlet = lent(port, wake)
    assert outlet.in_use()
    outlet.lend(OWNER)
    outlet.send(OWNER, (b"head", b"body"), last=True)
    assert (port.taken, port.calls, wake.count) == (b"headbody", ["send"], 0)
    assert not outlet.in_use()
    assert not outlet.closing
    assert outlet.finished_at > 0


@pytest.mark.parametrize("asked", ["lend", "in_use"])
def test_the_loop_is_woken_where_it_asked_to_be(asked):
    """Who asked whether the outlet is in use, or lent it with a note, hears of the end."""
    wake = Signal()
    outlet = lent(FakePort(), wake, notify=asked == "lend")
    if asked == "in_use":
        assert outlet.in_use()
    outlet.send(OWNER, (b"x",), last=True)
    assert wake.count == 1


def test_the_loop_is_woken_to_close():
    """A response that ends its connection needs the loop to do so."""
    wake = Signal()
    outlet = lent(FakePort(), wake)
    outlet.send(OWNER, (b"x",), last=True, close=True)
    assert wake.count == 1
    assert outlet.closing


@pytest.mark.parametrize("method", ["send", "send_file"])
@pytest.mark.parametrize("why", ["not the owner", "finished", "revoked", "closed", "torn"])
def test_only_the_present_owner_can_send(method, why, file):
    """Whoever else tries is told that the client has gone, and no byte leaves."""
    port = FakePort()
    outlet = lent(port)
    owner = OWNER
    match why:
        case "not the owner":
            owner = object()
        case "finished":
            outlet.send(OWNER, (), last=True)
        case "revoked":
            assert outlet.revoke(OWNER, unless_claimed=False)
        case "closed":
            outlet.close()
        case "torn":
            outlet.abort(OWNER)
    part = FileRange(file.fileno(), 0, 5)
    calls = {
        "send": lambda: outlet.send(owner, (b"x",), last=True),
        "send_file": lambda: outlet.send_file(owner, b"x", part, close=False),
    }
    with pytest.raises(ClientDisconnected):
        calls[method]()
    assert port.taken == b""


def test_an_exchange_that_waits_for_a_thread_can_be_revoked():
    """Until a worker has begun, and once only; the worker is then told not to begin."""
    outlet = Outlet(FakePort(), Signal(), BacklogLimits())
    outlet.lend(OWNER)
    assert not outlet.revoke(object(), unless_claimed=True)
    assert outlet.revoke(OWNER, unless_claimed=True)
    assert not outlet.revoke(OWNER, unless_claimed=True)
    assert not outlet.claim(OWNER)
    assert outlet.owner is None


def test_an_exchange_that_has_begun_is_not_revoked_by_mistake():
    """A queue timeout that comes too late changes nothing."""
    outlet = lent(FakePort())
    assert not outlet.revoke(OWNER, unless_claimed=True)
    outlet.send(OWNER, (b"x",), last=True)


def test_an_outlet_is_in_use_until_the_last_byte_is_taken():
    """What waits for the client is still the response; only then may the next one begin."""
    port, wake = FakePort(room=1), Signal()
    outlet = lent(port, wake)
    outlet.send(OWNER, (b"xyz",), last=True, close=True)
    assert outlet.in_use()
    assert outlet.pending
    assert wake.count == 1
    assert not outlet.revoke(OWNER, unless_claimed=False)
    outlet.abort(OWNER)
    assert not outlet.broken
    assert drained(outlet, port) is Drained.FINISHED
    assert not outlet.in_use()
    assert not outlet.pending
    assert outlet.closing


def test_the_end_of_a_response_can_come_after_its_bytes():
    """A last call without bytes ends the response once the bytes before it are taken."""
    port, wake = FakePort(room=0), Signal()
    outlet = lent(port, wake)
    outlet.send(OWNER, (b"abc",), last=False)
    outlet.send(OWNER, (), last=True)
    assert outlet.in_use()
    assert drained(outlet, port) is Drained.FINISHED
    assert port.taken == b"abc"
    outlet.lend(OWNER)
    outlet.send(OWNER, (b"def",), last=False)
    assert outlet.drain() is Drained.EMPTY
    outlet.send(OWNER, (), last=True)
    assert not outlet.in_use()


def test_a_port_of_the_loops_is_left_to_the_loop():
    """A worker never calls a port that is not for any thread."""
    port, wake = FakePort(any_thread=False), Signal()
    outlet = lent(port, wake)
    outlet.send(OWNER, (b"ab", b"", b"c"), last=True)
    assert port.calls == []
    assert wake.count == 1
    assert outlet.drain() is Drained.FINISHED
    assert port.taken == b"abc"


@pytest.mark.parametrize("buffers", [(b"", b"body"), (b"head", b""), (b"",), (b"", b"")])
@pytest.mark.parametrize("room", [0, 1, 4])
def test_an_empty_buffer_is_nothing_to_wait_for(buffers, room):
    """However much the port takes, it is not kept: a drain could never get rid of it."""
    port = FakePort(room=room)
    outlet = lent(port)
    outlet.send(OWNER, buffers, last=True)
    if outlet.pending:
        assert drained(outlet, port) is Drained.FINISHED
    assert not outlet.in_use()
    assert port.taken == b"".join(buffers)


def test_a_drain_gives_others_their_turn(monkeypatch):
    """After `DRAIN` bytes it asks to be called again."""
    monkeypatch.setattr(outlet_module, "DRAIN", 10)
    port = FakePort(room=0, most=6)
    outlet = lent(port)
    outlet.send(OWNER, (b"x" * 30,), last=True)
    port.room = 100
    assert [outlet.drain() for _ in range(3)] == [Drained.MORE, Drained.MORE, Drained.FINISHED]


# Every place where the system can fail


def say(outlet, step, file):
    """One call of a worker's."""
    if step[0] == "file":
        outlet.send_file(OWNER, step[1], FileRange(file.fileno(), 5, 60), close=False)
    else:
        outlet.send(OWNER, step[1], last=step[0] == "last")


RESPONSES = {
    "one": [("last", (b"head and body",))],
    "two buffers": [("last", (b"head", b"body" * 5))],
    "stream": [("more", (b"head",)), ("more", (b"ab", b"c" * 9, b"d")), ("last", (b"end",))],
    "stream, then nothing": [("more", (b"head", b"body")), ("last", ())],
    "file": [("file", b"head")],
    "hint and file": [("more", (b"hint",)), ("file", b"head")],
}


def whole(response, file):
    """All bytes of a response."""
    return b"".join(
        step[1] + os.pread(file.fileno(), 60, 5) if step[0] == "file" else b"".join(step[1])
        for step in response
    )


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_port_that_is_full_at_any_place_loses_nothing(response, step, file):
    """Whenever the kernel takes no more, the rest follows in order, and the outlet is free."""
    expected = whole(response, file)
    with no_descriptor_leaks():
        for k in range(len(expected) + 1):
            port = FakePort(room=k)
            outlet = lent(port)
            for call in response:
                say(outlet, call, file)
            if outlet.in_use():
                assert drained(outlet, port, step) is Drained.FINISHED
            assert port.taken == expected
            assert not outlet.in_use()
            assert outlet.close() is None
            assert port.closed


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_port_that_breaks_at_any_place_is_given_up(response, code, at_once, file):
    """The worker gets ClientDisconnected, or the loop is told to abort; nothing leaks."""
    expected = whole(response, file)
    with no_descriptor_leaks():
        for k in range(len(expected)):
            port, wake = FakePort(k, OSError(code, "gone") if at_once else None), Signal()
            outlet = lent(port, wake)
            outlet.in_use()
            broken_at_once = False
            for call in response:
                try:
                    say(outlet, call, file)
                except ClientDisconnected:
                    broken_at_once = True
                    break
                if not port.room:
                    port.error = OSError(code, "gone")
            if not broken_at_once:
                port.error = OSError(code, "gone")
                assert outlet.drain() is Drained.BROKEN
            assert outlet.drain() is Drained.BROKEN
            assert outlet.broken
            assert wake.count >= 1
            outlet.close()
            assert outlet.close() is None
            assert expected.startswith(port.taken)


def test_closing_tells_whose_response_was_cut_off():
    """The loop learns which exchange to tell that its client has gone, if any."""
    outlet = lent(FakePort())
    assert outlet.close() is OWNER
    assert outlet.drain() is Drained.BROKEN
    outlet = lent(FakePort(room=0))
    outlet.send(OWNER, (b"x",), last=True)
    assert outlet.close() is OWNER
    outlet = lent(FakePort())
    outlet.send(OWNER, (b"x",), last=True)
    assert outlet.close() is None


@pytest.mark.parametrize("room", [0, 2, 4, 9])
def test_a_file_without_a_descriptor_for_its_duplicate_is_torn(room, file, monkeypatch):
    """No descriptor is left (EMFILE): the response cannot be finished, and must not look it."""

    def no_descriptor(_):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(backlog_module.os, "dup", no_descriptor)
    outlet = lent(FakePort(room=room))
    with pytest.raises(ClientDisconnected):
        outlet.send_file(OWNER, b"head", FileRange(file.fileno(), 0, 60), close=False)
    assert outlet.broken
    assert outlet.in_use()
    assert outlet.close() is OWNER


@pytest.mark.parametrize("room", [0, 4, 9])
def test_a_file_that_became_shorter_is_torn(room, tmp_path):
    """The end of the file before its time breaks the connection, at once or when drained."""
    path = tmp_path / "short"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        port = FakePort(room=room)
        outlet = lent(port)
        part = FileRange(file.fileno(), 3, 5)
        if room > 4:
            with pytest.raises(ClientDisconnected):
                outlet.send_file(OWNER, b"head", part, close=False)
        else:
            outlet.send_file(OWNER, b"head", part, close=False)
            assert drained(outlet, port) is Drained.BROKEN
        assert outlet.broken
        outlet.close()


@pytest.mark.parametrize("room", [0, 2, 4])
def test_a_file_of_no_bytes_is_finished_with_its_head(file, room):
    """An answer to HEAD, or an empty range."""
    port = FakePort(room=room)
    outlet = lent(port)
    outlet.send_file(OWNER, b"head", FileRange(file.fileno(), 0, 0), close=True)
    if room < 4:
        assert drained(outlet, port) is Drained.FINISHED
    assert port.taken == b"head"
    assert not outlet.in_use()
    assert outlet.closing


# Memory, disk, and waiting


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
            if (result := outlet.drain()) is not Drained.BLOCKED:
                break
        if not outlet.in_use():
            future.result(PATIENCE)
            return
        assert result is Drained.EMPTY


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
        assert outlet.drain() is Drained.EMPTY
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
    monkeypatch.setattr(outlet_module, "monotonic", lambda: now)
    port = FakePort(room=0)
    outlet = lent(port)
    outlet.send(OWNER, (b"abc",), last=False)
    assert outlet.progress_at == 100
    now = 101.0
    outlet.send(OWNER, (b"def",), last=False)
    assert outlet.drain() is Drained.BLOCKED
    assert outlet.progress_at == 100
    now, port.room = 102.0, 1
    assert outlet.drain() is Drained.BLOCKED
    assert outlet.progress_at == 102
    now, port.room = 103.0, 10
    assert outlet.drain() is Drained.EMPTY
    now, port.room = 110.0, 0
    outlet.send(OWNER, (b"ghi",), last=True)
    assert outlet.progress_at == 110
    now, port.room = 111.0, 9
    assert outlet.drain() is Drained.FINISHED
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
