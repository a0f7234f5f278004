"""The stacks of threads that hang."""

from __future__ import annotations

from threading import Event, Thread, get_ident

from support import PATIENCE, Gate, eventually

from aiowsgi.threads.stacks import stack_of, stacks, thread_names


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
    assert "in waits_here" in seen[ident]
    assert "in test_a_thread_that_waits" in seen[get_ident()]
    leave.set()
    thread.join(PATIENCE)
    assert stacks([ident]) == {}
