"""The other crossings of threads in every schedule: bodies, queues, wake-ups, events, interrupts.

Schedules explored by default: 3,000 in all, with two or three preemptions each, in about three
seconds of processor time; each test says how many it explores at least.
"""

from __future__ import annotations

import errno
import io
from types import SimpleNamespace

import pytest
from fake_kernel import context_for
from schedules import explore as explorer
from schedules.explore import Lock, Loop, ScheduleError, explore, instrumented, wait_until
from support import FakeWriter

from aiowsgi.exceptions import ClientDisconnected, RequestTimedOut
from aiowsgi.exchange import disconnect, interrupts, output, request_body
from aiowsgi.exchange import exchange as exchange_module
from aiowsgi.exchange.disconnect import DisconnectEvent
from aiowsgi.exchange.exchange import Exchange
from aiowsgi.exchange.interrupts import InterruptibleSection
from aiowsgi.exchange.output import ResponseOutput
from aiowsgi.exchange.output_buffer import OutputLimits
from aiowsgi.exchange.request_body import StreamedBody
from aiowsgi.http1.messages import Request
from aiowsgi.logs import writer as log_writer
from aiowsgi.logs.writer import LogWriter
from aiowsgi.threads import pool, scheduler, wakeups
from aiowsgi.threads.pool import TaskQueue, WorkerPool
from aiowsgi.threads.scheduler import RequestScheduler
from aiowsgi.threads.wakeups import Wakeups
from aiowsgi.wsgi.environ import ConnectionInfo, EnvironBuilder


@pytest.fixture(autouse=True)
def primitives(monkeypatch):
    """Locks, conditions, events and threads are the explorer's."""
    with instrumented(monkeypatch, request_body, disconnect, pool, log_writer) as patch:
        patch.setattr(disconnect, "_lock", Lock())
        patch.setattr(disconnect, "_changed", explorer.Condition(disconnect._lock))
        yield patch


# Request bodies


class Upload:
    """A client, the kernel that holds what it has sent, and the loop that reads for a body."""

    def __init__(self, data, high_water):
        self.kernel = data
        self.loop = Loop()
        self.reading = True
        self.remaining = len(data)
        self.body = StreamedBody(self._resume, high_water)

    def _resume(self):
        self.loop.call_soon_threadsafe(self.resume)

    def resume(self):
        """The reading thread has read, or received, some of the body."""
        self.remaining -= self.body.take_received()
        if not self.remaining:
            self.body.end()
        elif self.body.waits_for_client:
            self.reading = True

    def receive_into(self, buffer):
        """The kernel gives two bytes at a time."""
        if not self.kernel:
            raise BlockingIOError(errno.EAGAIN, "nothing has come")
        data, self.kernel = self.kernel[:2], self.kernel[2:]
        count = min(len(buffer), len(data))
        self.kernel = data[count:] + self.kernel
        buffer[:count] = data[:count]
        return count

    def serve(self, *, direct):
        """In the loop's task: read and feed until all of the body has come."""
        while self.remaining:
            wait_until(lambda: self.loop.callbacks or (self.reading and self.kernel), "the loop")
            if self.loop.callbacks:
                self.loop.callbacks.pop(0)()
                continue
            data, self.kernel = self.kernel[:3], self.kernel[3:]
            self.remaining -= len(data)
            if self.body.feed(data):
                self.reading = False
                if direct and self.remaining:
                    self.body.receive_directly(self.receive_into, self.remaining)
            if not self.remaining:
                self.body.end()


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("size", [2, 100])
def test_feeding_and_reading_a_body(direct, size):
    """Every byte is read once and in order, and the reading thread always sees the end."""

    def scenario():
        upload, read = Upload(b"abcdefgh", high_water=2), []

        def worker():
            block = bytearray(size)
            while count := upload.body.readinto(block):
                read.append(bytes(block[:count]))

        def check():
            assert b"".join(read) == b"abcdefgh"
            assert upload.body.whole
            upload.body.close()

        return {"worker": worker, "loop": lambda: upload.serve(direct=direct)}, check

    assert explore(scenario, preemptions=2) > 50


def test_a_body_and_a_connection_that_is_lost():
    """The reading thread gets the error, whatever it was doing, and never waits for ever."""

    def scenario():
        upload, seen = Upload(b"abcdefgh", high_water=2), []

        def worker():
            try:
                while upload.body.readinto(bytearray(3)):
                    pass
            except ClientDisconnected as error:
                seen.append(error)

        def loop():
            upload.body.feed(b"abc")
            upload.body.receive_directly(upload.receive_into, 8)
            upload.body.end(ClientDisconnected("gone"))

        def check():
            assert seen or upload.body.whole
            assert upload.body.take_received() in (0, 2, 4, 6, 8)
            upload.body.close()

        return {"worker": worker, "loop": loop}, check

    assert explore(scenario, preemptions=3) > 100


def test_a_reader_that_is_not_woken_is_found(primitives):
    """A fault put back: the end of a body does not wake the thread that waits for it."""

    def end(body, error=None):
        with body._lock:
            body._ended = True

    primitives.setattr(StreamedBody, "end", end)
    with pytest.raises(ScheduleError, match="worker"):
        test_feeding_and_reading_a_body(False, 2)


# The pool's queue


@pytest.mark.parametrize("threads", [1, 2])
def test_putting_and_getting_tasks(threads):
    """Every task is taken once, and a thread that sleeps is woken."""

    def scenario():
        queue, taken = TaskQueue(), []

        def worker():
            while (task := queue.get()) is not None:
                taken.append(task)

        def loop():
            for task in "abc":
                queue.put(task)
            for _ in range(threads):
                queue.put(None)

        def check():
            assert sorted(taken) == list("abc")
            assert threads > 1 or taken == list("abc")

        workers = {f"worker {number}": worker for number in range(threads)}
        return {**workers, "loop": loop}, check

    assert explore(scenario, preemptions=3 - threads, traced=[pool]) > 100


def test_a_worker_that_sleeps_on_is_found(primitives):
    """A fault put back: a thread looks for tasks before it says that it sleeps."""

    def get(queue):
        while True:
            if queue._tasks:
                return queue._tasks.popleft()
            wake_up = Lock()
            wake_up.acquire()
            queue._sleepers.append(wake_up)
            wake_up.acquire()
            queue._waking = False

    primitives.setattr(TaskQueue, "get", get)
    with pytest.raises(ScheduleError, match="wait"):
        test_putting_and_getting_tasks(1)


@pytest.fixture
def pool_of_ours(primitives):
    """The pool that Pythons before 3.13 have, whose queue is not C code."""
    primitives.setattr(pool, "_make_queue", TaskQueue)
    primitives.setattr(pool, "current_thread", explorer.current_thread)


def test_detaching_a_thread_and_the_end_of_its_task(pool_of_ours):
    """A thread that is replaced in the middle of its task takes no other; every task runs once,
    and every thread ends."""
    outcomes = set()

    def scenario():
        ran, began, ended = {}, [], []

        def first():
            began.append(explorer.current_thread().ident)
            explorer.step("the first task")
            ended.append(True)

        def second():
            ran["second"] = explorer.current_thread().ident

        def loop():
            workers = WorkerPool(1)
            workers.execute(first)
            wait_until(lambda: began, "the first task")
            assert workers.detach(began[0])
            ran["in time"] = not ended
            workers.execute(second)
            workers.shutdown()
            assert workers.size == 1

        def check():
            assert ended == [True]
            assert not ran["in time"] or ran["second"] != began[0]
            outcomes.add(ran["in time"])

        return {"loop": loop}, check

    assert explore(scenario, preemptions=2) > 100
    assert outcomes == {True, False}


def test_a_detached_thread_that_goes_on_is_found(primitives, pool_of_ours):
    """A fault put back: a thread does not look whether it was replaced."""
    primitives.setattr(WorkerPool, "_retire", lambda pool: False)
    with pytest.raises(ScheduleError):
        test_detaching_a_thread_and_the_end_of_its_task(None)


# Wake-ups


def test_waking_the_loop_and_running_its_callbacks():
    """Every callback runs, once, whatever the loop is doing when it is asked."""

    def scenario():
        loop, ran = Loop(), []
        asked = Wakeups(loop)

        def worker():
            for name in "abc":
                asked.call(lambda name=name: ran.append(name))

        def check():
            assert ran == list("abc")

        return {"worker": worker, "loop": lambda: loop.run_until(lambda: len(ran) == 3)}, check

    assert explore(scenario, preemptions=3, traced=[wakeups]) > 400


def test_a_callback_that_is_forgotten_is_found(primitives):
    """A fault put back: the run clears its flag after it has looked at the queue."""

    def run(wakeups):
        for _ in range(len(wakeups._callbacks)):
            wakeups._callbacks.popleft()()
        explorer.step("looked")
        wakeups._asked = False

    primitives.setattr(Wakeups, "_run", run)
    with pytest.raises(ScheduleError, match="loop"):
        test_waking_the_loop_and_running_its_callbacks()


# Disconnects


def test_a_disconnect_and_a_thread_that_waits_for_it():
    """The waiting thread is woken, and each callback runs once, in a thread of its own."""

    def scenario():
        event, called, waited = DisconnectEvent(), [], []

        def worker():
            event.add_callback(lambda: called.append("early"))
            waited.append(event.wait())
            event.add_callback(lambda: called.append("late"))

        def check():
            assert waited == [True]
            assert sorted(called) == ["early", "late"]

        return {"worker": worker, "loop": event.set}, check

    assert explore(scenario, preemptions=3) > 100


# Interrupts


def test_an_interrupt_never_strikes_the_server(primitives):
    """In every schedule the exception is raised once, in the application's code, or not at all."""
    idents, outcomes = SimpleNamespace(current=None), set()

    def set_exception(ident):
        explorer.set_pending(RequestTimedOut())

    primitives.setattr(interrupts, "_set_exception", set_exception)
    primitives.setattr(
        interrupts, "sleep", lambda seconds: wait_until(lambda: idents.current._set, "sleep")
    )

    def scenario():
        lock, seen, sections = Lock(), [], []

        def server():
            with sections[0]:
                lock.acquire()
                seen.append("in the server")
                lock.release()

        def worker():
            section = idents.current = InterruptibleSection()
            sections.append(section)
            try:
                section.enter_application()
                server()
                section.leave_application()
            except RequestTimedOut:
                seen.append("raised")
            lock.acquire()
            lock.release()

        def loop():
            wait_until(lambda: sections, "the request")
            sections[0].interrupt()

        def check():
            assert not lock.taken
            assert seen.count("raised") <= 1
            outcomes.add(tuple(seen))
            assert explorer.pending() is None

        return {"worker": worker, "loop": loop}, check

    assert explore(scenario, preemptions=2, traced=[interrupts]) > 300
    assert outcomes == {("raised",), ("in the server",), ("in the server", "raised")}


def test_an_interrupt_that_strikes_the_server_is_found(primitives):
    """A fault put back: the exception is set whether or not the application's code runs."""

    def interrupt(section):
        explorer.set_pending(RequestTimedOut())

    primitives.setattr(InterruptibleSection, "interrupt", interrupt)
    with pytest.raises(ScheduleError):
        test_an_interrupt_never_strikes_the_server(primitives)


# Cancelled requests


def test_a_request_that_is_abandoned_while_a_thread_starts_on_it(primitives):
    """The application is called, or the request is dropped; nothing stays in the set of these."""
    primitives.setattr(output, "Lock", Lock)
    outcomes = set()

    def scenario():
        calls, loop = [], Loop()

        def app(environ, start_response):
            calls.append(environ["PATH_INFO"])
            start_response("200 OK", [])
            return [b"x"]

        context = context_for(app)
        out = ResponseOutput(FakeWriter(), bool, OutputLimits())
        request = Request("GET", "/a", "/a", "", "x", "HTTP/1.1", [], 0, True, False)
        peer = ConnectionInfo("127.0.0.1", "1", "localhost", "80", "http")
        exchange = Exchange(context, out, EnvironBuilder(context.environ, peer), request, 1.0)
        stream = io.BytesIO(b"body")
        exchange.set_body(stream, 4)
        executor = SimpleNamespace(submit=loop.callbacks.append)
        requests = RequestScheduler(
            loop, context, executor, Wakeups(loop), scheduler.SchedulerOptions()
        )
        out.assign(exchange)

        def event_loop():
            if not out.close().started:
                requests.drop(exchange)

        def check():
            assert len(calls) + requests.dropped == 1
            assert not context.abandoned
            assert stream.closed
            outcomes.add(len(calls))

        return {"worker": exchange.run, "loop": event_loop}, check

    assert explore(scenario, preemptions=2, traced=[scheduler, exchange_module]) > 100
    assert outcomes == {0, 1}


# The access log


class Sink:
    """Keeps lines."""

    def __init__(self):
        self.lines = []
        self.closed = 0

    def write(self, lines):
        assert not self.closed
        self.lines += lines

    def reopen(self):
        """Nothing to do."""

    def close(self):
        self.closed += 1


def test_logging_flushing_and_closing():
    """A line that was put before a flush, or a close, is written; the sink is closed once."""

    def scenario():
        sink = Sink()

        def worker():
            writer = LogWriter(sink)
            writer.put("a")
            assert writer.flush()
            assert sink.lines == ["a"]
            writer.put("b")
            writer.close()
            writer.put("too late")

        def check():
            assert sink.lines == ["a", "b"]
            assert sink.closed == 1

        return {"worker": worker}, check

    assert explore(scenario, preemptions=2) > 100
