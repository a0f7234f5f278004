"""An application that is interrupted: where the exception is raised, and where it never is."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from threading import Event, Lock, Thread, get_ident

import pytest
from support import PATIENCE, eventually

from aiowsgi.exceptions import RequestTimedOut
from aiowsgi.exchange import interrupts
from aiowsgi.exchange.disconnect import DisconnectEvent
from aiowsgi.exchange.interrupts import (
    InterruptibleSection,
    forget,
    interrupt,
    make_interruptible,
    outside_application,
)
from aiowsgi.wsgi.file_wrapper import FileWrapper


@pytest.fixture
def thread():
    """A worker thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Every request's section is removed at its end."""
    yield
    assert not interrupts._sections


def spin(begun):
    """Code of an application's that never ends by itself, whatever Exception it catches."""
    while True:
        try:
            begun.set()
            sum(range(100))
        except Exception:
            pytest.fail("taken for an ordinary error")


def run(app, environ=None, start_response=None):
    """What a worker thread does with a request: call, iterate, close; returns what was raised."""
    environ = {"wsgi.errors": StringIO()} if environ is None else environ
    raised, iterable = [], None
    try:
        try:
            iterable = make_interruptible(app)(environ, start_response)
            for _ in iterable:
                pass
        except BaseException as error:
            raised.append(type(error))
        close = getattr(iterable, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as error:
                raised.append(type(error))
    finally:
        forget()
    return raised


class Blocks:
    """An iterable that hangs in one of its methods."""

    def __init__(self, method, begun):
        self.method, self.begun = method, begun
        self.closed = 0

    def __iter__(self):
        if self.method == "iter":
            spin(self.begun)
        return self

    def __next__(self):
        if self.method == "next":
            spin(self.begun)
        raise StopIteration

    def close(self):
        self.closed += 1
        if self.method == "close":
            spin(self.begun)


@pytest.mark.parametrize("method", ["call", "iter", "next", "close"])
def test_the_application_is_interrupted_wherever_it_hangs(thread, method):
    """In the call, in its iterable, in close(); and close() is called once all the same."""
    begun, idents = Event(), []
    blocks = Blocks(method, begun)

    def app(environ, start_response):
        idents.append(get_ident())
        if method == "call":
            spin(begun)
        return blocks

    future = thread.submit(run, app)
    assert begun.wait(PATIENCE)
    assert interrupt(idents[0])
    assert future.result(PATIENCE) == [RequestTimedOut]
    assert blocks.closed == (method != "call")
    assert not interrupt(idents[0])


def test_a_thread_without_a_request_is_not_interrupted():
    """There is nothing that the exception could end."""
    assert not interrupt(get_ident())


@pytest.mark.parametrize("result", [[b"a"], (b"a",), FileWrapper(StringIO()), None, 7])
def test_what_needs_no_code_of_the_applications_is_passed_on(result):
    """A list is sent in one piece, a file by the kernel, and None is an error that names it."""
    try:
        app = make_interruptible(lambda environ, start_response: result)
        assert app({"wsgi.errors": StringIO()}, None) is result
    finally:
        forget()


def test_the_server_is_not_interrupted_and_the_application_is_afterwards(thread):
    """A request that is in write() at that moment gets the exception when write() returns."""
    entered, leave, seen = Event(), Event(), []

    def write(block):
        entered.set()
        assert leave.wait(PATIENCE)
        # Long enough for an exception that is pending to be raised.
        seen.append(sum(range(100_000)))

    def app(environ, start_response):
        app.ident = get_ident()
        start_response("200 OK", [])(b"x")
        seen.append("behind write()")
        return []

    future = thread.submit(run, app, None, lambda status, headers, exc_info: write)
    assert entered.wait(PATIENCE)
    assert interrupt(app.ident)
    leave.set()
    assert future.result(PATIENCE) == [RequestTimedOut]
    assert seen == [sum(range(100_000))]


def test_an_application_that_catches_it_goes_on_and_is_not_hit_again(thread):
    """The exception is raised once in a request."""
    begun, seen = Event(), []

    def app(environ, start_response):
        app.ident = get_ident()
        try:
            spin(begun)
        except RequestTimedOut:
            seen.append("caught")
        with outside_application():
            seen.append(sum(range(100_000)))
        yield b"x"
        seen.append("went on")

    future = thread.submit(run, lambda *args: list(app(*args)))
    assert begun.wait(PATIENCE)
    assert interrupt(app.ident)
    assert future.result(PATIENCE) == []
    assert seen == ["caught", sum(range(100_000)), "went on"]


def test_close_is_called_if_the_request_was_to_be_interrupted_before():
    """PEP 3333: close() is called in every outcome."""
    blocks = Blocks("none", Event())

    def app(environ, start_response):
        return blocks

    iterable = make_interruptible(app)({"wsgi.errors": StringIO()}, None)
    assert interrupt(get_ident())
    with pytest.raises(RequestTimedOut):
        iter(iterable)
    iterable.close()
    assert blocks.closed == 1
    forget()


def test_other_threads_of_the_application_may_call_the_server(thread):
    """Only the request's own thread has a section; write() works from any."""
    written = []

    def app(environ, start_response):
        write = start_response("200 OK", [])
        other = Thread(target=write, args=(b"other",))
        other.start()
        other.join(PATIENCE)
        write(b"own")
        return []

    assert run(app, None, lambda *args: written.append) == []
    assert written == [b"other", b"own"]


def test_wsgi_errors_is_the_servers():
    """Logging takes locks, so the stream leaves the application's code; close() only flushes."""

    class Stream(StringIO):
        def write(self, text):
            assert interrupts._sections[get_ident()]._depth == 1
            return super().write(text)

    stream = Stream()

    def app(environ, start_response):
        errors = environ["wsgi.errors"]
        assert interrupts._sections[get_ident()]._depth == 0
        assert errors.writable()
        assert errors.write("a\n") == 2
        errors.writelines(["b\n", "c\n"])
        print("d", file=errors, flush=True)
        errors.close()
        errors.write("e\n")
        return []

    assert run(app, {"wsgi.errors": stream}) == []
    assert stream.getvalue() == "a\nb\nc\nd\ne\n"


def test_no_interrupt_leaves_a_lock_taken(thread):
    """Hundreds of requests that call the server in every way, interrupted at random moments."""
    lock, event, rng = Lock(), DisconnectEvent(), random.Random(1)
    outcomes, begun = [], Event()

    def write(block):
        # Deliberately not `with`: an exception between the two statements would leave it taken.
        lock.acquire()
        try:
            sum(range(20))
        finally:
            lock.release()

    def app(environ, start_response):
        app.ident = get_ident()
        write = start_response("200 OK", [])
        begun.set()
        while True:
            write(b"x")
            event.wait(0)
            event.add_callback(bool)
            event._callbacks = None
            environ["wsgi.errors"].write("x")
            yield b""

    for _ in range(300):
        begun.clear()
        future = thread.submit(run, app, None, lambda *args: write)
        assert begun.wait(PATIENCE)
        sum(range(rng.randrange(50_000)))
        assert interrupt(app.ident)
        outcomes.append(future.result(PATIENCE))
        assert lock.acquire(timeout=PATIENCE)
        lock.release()
        # The module's lock, which every event shares.
        event.add_callback(bool)
    assert outcomes == [[RequestTimedOut]] * 300


def test_the_thread_is_free_of_it_afterwards(thread):
    """An interrupt at the very end of the application is raised in its request or not at all."""
    sections = []

    def request():
        section = InterruptibleSection()
        sections.append(section)
        try:
            for _ in range(50):
                section.enter_application()
                section.leave_application()
        except RequestTimedOut:
            return 1
        return 0

    for _ in range(300):
        sections.clear()
        future = thread.submit(request)
        eventually(lambda: sections)
        sections[0].interrupt()
        assert future.result(PATIENCE) in (0, 1)
        # What a worker thread does next must not be hit.
        assert thread.submit(sum, range(10_000)).result(PATIENCE) == sum(range(10_000))


def test_the_interpreter_is_left_as_it_was(thread):
    """No exception stays pending, which CPython 3.11 would look for at every instruction; a traced
    thread would never go on."""

    def request(section):
        try:
            section.enter_application()
            section.interrupt()
            section.leave_application()
        except RequestTimedOut:
            return

    for _ in range(100):
        thread.submit(lambda: request(InterruptibleSection())).result(PATIENCE)
    traced = []

    def trace(frame, event, argument):
        traced.append(event)

    def work():
        sys.settrace(trace)
        try:
            (lambda: None)()
        finally:
            sys.settrace(None)

    tracing = Thread(target=work, daemon=True)
    tracing.start()
    tracing.join(PATIENCE)
    assert not tracing.is_alive()
    assert traced
