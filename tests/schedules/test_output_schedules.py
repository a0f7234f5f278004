"""The sending side of a connection in every schedule: a worker thread against the event loop.

Schedules explored by default: 12,000 in all, with two or three preemptions each, in about ten
seconds of processor time; each test says how many it explores at least.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from schedules.explore import Loop, ScheduleError, explore, instrumented, step, wait_until
from support import FakeWriter, no_descriptor_leaks

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange import output as output_module
from aiowsgi.exchange.output import DrainResult, OutputState, ResponseOutput
from aiowsgi.exchange.output_buffer import OutputLimits

OWNER, NEXT = "owner", "next"


@pytest.fixture(autouse=True)
def primitives(monkeypatch):
    """The output's lock and condition are the explorer's."""
    with instrumented(monkeypatch, output_module) as patch:
        yield patch


class Writer(FakeWriter):
    """A kernel whose calls are steps."""

    def send(self, buffers, *, more=False):
        step("send")
        return super().send(buffers, more=more)

    def wait(self, seconds):
        step("wait")
        return False

    def close(self):
        step("close")
        super().close()


class Scene:
    """An output, its writer, and the event loop that it wakes."""

    def __init__(self, space, *, memory=1000, spool=0):
        self.writer = Writer(space)
        self.loop = Loop()
        self.output = ResponseOutput(self.writer, self._wake, OutputLimits(memory, spool))
        self.blocked = False

    def _wake(self):
        self.loop.call_soon_threadsafe(self.attend)

    def attend(self):
        """What a connection does when it is woken: drain, and watch the descriptor."""
        self.blocked = self.output.drain() is DrainResult.BLOCKED

    def make_writable(self, space):
        """The client reads: the descriptor is writable, and the loop hears of it."""
        self.writer.space = space
        self.output.resume()
        self.attend()

    def serve(self, space):
        """In the loop's task: attend, and let the client read, until the response is finished."""
        while self.output.in_use():
            wait_until(lambda: self.loop.callbacks or self.blocked, "the event loop")
            if self.loop.callbacks:
                self.loop.callbacks.pop(0)()
            else:
                self.make_writable(space)

    def respond(self, *blocks):
        """In the worker's task: a response of these blocks."""
        assert self.output.start(OWNER)
        for block in blocks[:-1]:
            self.output.send(OWNER, (block,), last=False)
        self.output.send(OWNER, blocks[-1:], last=True)


@pytest.mark.parametrize("space", [100, 3, 0])
def test_a_finish_and_the_next_request(space):
    """Whatever comes first, the loop learns that the output is free, and the next one begins."""

    def scenario():
        scene = Scene(space)
        scene.output.assign(OWNER)

        def loop():
            scene.serve(100)
            scene.output.assign(NEXT)

        def check():
            assert scene.writer.taken == b"response"
            assert (scene.output.state, scene.output.owner) == (OutputState.QUEUED, NEXT)

        return {"worker": lambda: scene.respond(b"response"), "loop": loop}, check

    assert explore(scenario, preemptions=2, traced=[output_module]) > 200


def test_a_lost_wake_up_is_found(primitives):
    """A fault of the past, put back: the finish looks at the note before it frees the output."""

    def finish(output):
        wake = output._notify or output.must_close
        output._lock.release()
        output._lock.acquire()
        output._owner = None
        output._state = OutputState.FREE
        return wake

    primitives.setattr(ResponseOutput, "_finish", finish)
    with pytest.raises(ScheduleError, match=r"'loop'. wait"):
        test_a_finish_and_the_next_request(100)


@pytest.mark.parametrize(("memory", "spool"), [(1000, 0), (4, 0), (4, 8), (0, 64)])
def test_sending_and_draining(memory, spool):
    """All bytes leave in order, in memory, on disk, and with a thread that waits for space."""
    blocks = [b"abcde", b"fghij", b"klmno"]

    def scenario():
        scene = Scene(2, memory=memory, spool=spool)
        scene.output.assign(OWNER)

        def check():
            assert scene.writer.taken == b"".join(blocks)
            assert scene.output.state is OutputState.FREE
            scene.output.close()

        return {"worker": lambda: scene.respond(*blocks), "loop": lambda: scene.serve(6)}, check

    with no_descriptor_leaks():
        assert explore(scenario, preemptions=2) > 300


def test_a_spill_that_the_drain_overtakes_is_found(primitives):
    """A fault put back: a spilled block is visible to the reader before those that precede it."""
    store = ResponseOutput._store

    def overtaking(output, owner, data):
        buffer = output._buffer
        if buffer is not None and buffer.spool is not None:
            with output._lock:
                output._open_buffer().append(data)
            output._wake_to_drain()
        else:
            store(output, owner, data)

    primitives.setattr(ResponseOutput, "_store", overtaking)
    with pytest.raises(ScheduleError):
        test_sending_and_draining(4, 64)


@pytest.mark.parametrize(("memory", "spool"), [(1000, 0), (4, 0), (4, 8)])
def test_sending_and_closing(memory, spool):
    """The worker thread ends, nothing is sent on a closed descriptor, every file is closed once."""
    blocks = [b"abcde", b"fghij", b"klmno"]

    def scenario():
        scene = Scene(7, memory=memory, spool=spool)
        scene.output.assign(OWNER)

        def worker():
            if not scene.output.start(OWNER):
                return
            with suppress(ClientDisconnected):
                for block in blocks:
                    scene.output.send(OWNER, (block,), last=False)
                scene.output.send(OWNER, (), last=True)

        def loop():
            scene.attend()
            scene.output.close()

        def check():
            assert scene.output.state is OutputState.CLOSED
            assert scene.writer.closed
            assert b"".join(blocks).startswith(scene.writer.taken)

        return {"worker": worker, "loop": loop}, check

    with no_descriptor_leaks():
        assert explore(scenario, preemptions=3) > 500


def test_a_send_on_a_closed_descriptor_is_found(primitives):
    """A fault put back: a close that does not take the lock."""
    close = ResponseOutput.close

    def hasty(output):
        output._writer.close()
        output._writer.close = bool
        return close(output)

    primitives.setattr(ResponseOutput, "close", hasty)
    with pytest.raises(ScheduleError, match="closed"):
        test_sending_and_closing(1000, 0)


@pytest.mark.parametrize("space", [100, 4])
def test_a_cancellation_and_a_finish(space):
    """The client gets the response or the loop's 504, whole, and never bytes of both."""
    outcomes = set()

    def scenario():
        scene = Scene(space)
        scene.output.assign(OWNER)

        def worker():
            if scene.output.start(OWNER):
                with suppress(ClientDisconnected):
                    scene.output.send(OWNER, (b"response",), last=True)

        def loop():
            if scene.output.cancel(OWNER, only_queued=False):
                # Nothing of the response was sent, or the connection would be reset.
                if scene.writer.taken:
                    scene.output.close()
                    return
                scene.output.answer(b"overdue!", close=False)
            scene.serve(100)

        def check():
            if scene.output.state is not OutputState.CLOSED:
                outcomes.add(scene.writer.taken)
                assert scene.output.state is OutputState.FREE

        return {"worker": worker, "loop": loop}, check

    assert explore(scenario, preemptions=2, traced=[output_module]) > 200
    assert outcomes == {b"response", b"overdue!"}


@pytest.mark.parametrize(("memory", "spool"), [(1000, 0), (2, 64)])
def test_a_cancellation_and_an_interim_response(memory, spool):
    """The loop's 504 comes after a whole 103, or before any of it, or not at all."""
    outcomes = set()

    def scenario():
        scene = Scene(3, memory=memory, spool=spool)
        scene.output.assign(OWNER)

        def worker():
            if scene.output.start(OWNER):
                with suppress(ClientDisconnected):
                    scene.output.send(OWNER, (b"hints|",), last=False)
                    scene.output.send(OWNER, (b"hints|",), last=False)

        def loop():
            if scene.output.cancel(OWNER, only_queued=False):
                with suppress(ClientDisconnected):
                    scene.output.answer(b"overdue", close=False)
                    scene.serve(100)
            scene.make_writable(100)

        def check():
            broken = scene.output.state is OutputState.BROKEN
            scene.output.close()
            outcomes.add(b"broken" if broken else scene.writer.taken)

        return {"worker": worker, "loop": loop}, check

    with no_descriptor_leaks():
        assert explore(scenario, preemptions=2) > 30
    whole = {b"overdue", b"hints|overdue", b"hints|hints|overdue"}
    assert b"overdue" in outcomes
    assert outcomes <= whole | {b"broken"}


def test_a_response_that_follows_a_part_of_another_is_found(primitives):
    """A fault of the past, which this exploration found: a cancellation between two sends of one
    interim response."""
    cancel = ResponseOutput.cancel

    def forgetful(output, owner, *, only_queued):
        cancelled = cancel(output, owner, only_queued=only_queued)
        output._cut_off = False
        return cancelled

    primitives.setattr(ResponseOutput, "cancel", forgetful)
    with pytest.raises(AssertionError, match="hinoverdue"):
        test_a_cancellation_and_an_interim_response(1000, 0)


def test_a_queue_timeout_and_a_start():
    """Either the thread starts, or the loop answers 503; never both, never neither."""
    outcomes = set()

    def scenario():
        scene = Scene(100)
        scene.output.assign(OWNER)
        started = []

        def worker():
            if scene.output.start(OWNER):
                started.append(True)
                scene.output.send(OWNER, (b"response",), last=True)

        def loop():
            if scene.output.cancel(OWNER, only_queued=True):
                scene.output.answer(b"busy", close=False)
            scene.serve(100)

        def check():
            assert scene.writer.taken == (b"response" if started else b"busy")
            outcomes.add(scene.writer.taken)

        return {"worker": worker, "loop": loop}, check

    assert explore(scenario, preemptions=2, traced=[output_module]) > 100
    assert outcomes == {b"response", b"busy"}


def test_a_connection_that_is_lost_while_a_thread_starts():
    """The close says whether a thread has started on the request; no other thread starts later."""

    def scenario():
        scene = Scene(100)
        scene.output.assign(OWNER)
        seen = {}

        def worker():
            seen["started"] = scene.output.start(OWNER)

        def loop():
            seen["closed"] = scene.output.close()

        def check():
            assert seen["closed"] == (OWNER, seen["started"])

        return {"worker": worker, "loop": loop}, check

    assert explore(scenario, preemptions=3, traced=[output_module]) > 50
