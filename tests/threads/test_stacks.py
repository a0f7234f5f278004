"""The stacks of threads that hang."""

from __future__ import annotations

import json
from io import StringIO
from queue import SimpleQueue
from threading import Event, Thread, get_ident

import pytest
from support import PATIENCE, Gate, eventually

from aiowsgi import exceptions
from aiowsgi.exchange.interrupts import forget, make_interruptible
from aiowsgi.http1.response import response_context
from aiowsgi.threads.stacks import (
    code_lines,
    is_own_code,
    short_path,
    stack_of,
    stacks,
    thread_names,
)
from aiowsgi.wsgi.handler import Response, run_application


class FakeSink:
    """Takes a response."""

    def context(self):
        return response_context(head_only=False, http_11=True, keep_alive=True, date="", server="")

    def send(self, *buffers, last):
        """Take it."""

    def describe(self):
        return "GET /"


def hang_here(gate):
    """Its name is looked for in the stack."""
    gate.pass_through()


def test_the_stack_of_a_thread():
    """The outermost call comes first, with the code's lines."""
    gate = Gate()
    thread = Thread(target=hang_here, args=(gate,))
    thread.start()
    try:
        gate.wait()
        stack = stack_of(thread.ident)
    finally:
        gate.open()
        thread.join(PATIENCE)
    assert stack.index("in hang_here") < stack.index("in pass_through")
    assert "gate.pass_through()" in stack


@pytest.mark.parametrize("wrap", [lambda app: app, make_interruptible])
def test_the_servers_own_frames_are_left_out(wrap):
    """The stack of a request begins with the application's function."""
    stacks = []

    def app(environ, start_response):
        stacks.append(stack_of(get_ident()))
        start_response("200 OK", [])
        return []

    sink = FakeSink()
    try:
        run_application(wrap(app), {"wsgi.errors": StringIO()}, Response(sink), sink)
    finally:
        forget()
    assert stacks[0].splitlines()[0].endswith(", in app")


def test_there_is_no_such_thread():
    """One that has ended has no stack."""
    thread = Thread(target=get_ident)
    thread.start()
    ident = thread.ident
    thread.join(PATIENCE)
    # Another may have got its number, but not before the system has gone round all others.
    eventually(lambda: not stack_of(ident))


def waits_here(entered, leave):
    """A function to be found in a stack."""
    entered.set()
    assert leave.wait(PATIENCE)


def test_a_thread_that_waits():
    """Its name and where it stands can be seen as long as it lives."""
    entered, leave = Event(), Event()
    thread = Thread(target=waits_here, args=(entered, leave), name="patient")
    thread.start()
    assert entered.wait(PATIENCE)
    ident = thread.ident
    assert thread_names()[ident] == "patient"
    seen = stacks([ident, get_ident()])
    assert set(seen) == {ident, get_ident()}
    assert "in waits_here" in seen[ident].text
    assert "in test_a_thread_that_waits" in seen[get_ident()].text
    assert seen[ident].where.endswith(" waits_here")
    assert "test_stacks.py:" in seen[ident].where
    assert seen[ident].source == "assert leave.wait(PATIENCE)"
    assert "in wait\n" in seen[ident].text
    assert "in wait\n" not in seen[ident].own
    assert "in waits_here" in seen[ident].own
    line = code_lines([ident, 1], source=True)[ident]
    assert (line.function, line.source) == ("waits_here", "assert leave.wait(PATIENCE)")
    assert str(line) == seen[ident].where
    leave.set()
    thread.join(PATIENCE)
    assert stacks([ident]) == code_lines([ident]) == {}


def test_a_thread_without_code_of_the_application():
    """The innermost line is shown then, whatever it belongs to."""
    queue = SimpleQueue()
    thread = Thread(target=queue.get)
    thread.start()
    ident = thread.ident
    eventually(lambda: code_lines([ident])[ident].file == "threading.py")
    assert stacks([ident])[ident].own == ""
    assert stacks([ident])[ident].where.startswith("threading.py:")
    queue.put(None)
    thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/srv/shop/views.py", True),
        (json.__file__, False),
        (exceptions.__file__, False),
        (pytest.__file__, False),
        ("/usr/lib/python3/dist-packages/django/db.py", False),
        ("<frozen importlib._bootstrap>", False),
        ("<string>", False),
    ],
)
def test_whose_code_a_file_is(file, own):
    """Python's, an installed package's and the server's own are not the application's."""
    assert is_own_code(file) is own


def test_a_path_is_relative_to_where_it_is_imported_from(monkeypatch):
    """The longest entry that contains it counts; without one the path stays as it is."""
    monkeypatch.setattr("sys.path", ["", "/srv", "/srv/shop/", "/srv/shopper"])
    assert short_path.__wrapped__("/srv/shop/orders/views.py") == "orders/views.py"
    assert short_path.__wrapped__("/opt/views.py") == "/opt/views.py"
