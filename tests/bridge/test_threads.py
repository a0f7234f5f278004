"""Looking at threads from outside."""

from __future__ import annotations

from threading import Event, Thread, get_ident

from support import PATIENCE

from aiowsgi.bridge.threads import stacks, thread_names


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
