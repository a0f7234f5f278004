"""``aiowsgi.disconnected``: set once, waited for, called back."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock, current_thread

import pytest
from support import PATIENCE

from aiowsgi.exchange import disconnect as disconnected_module
from aiowsgi.exchange.disconnect import DisconnectEvent


def test_it_is_set_once_and_for_ever():
    """Setting it again changes nothing."""
    event = DisconnectEvent()
    assert not event.is_set()
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait() is True


def test_a_wait_ends_with_its_timeout():
    """False says that the client is still there."""
    assert DisconnectEvent().wait(0) is False


def test_a_waiting_thread_is_woken_by_its_own_event_only():
    """Two requests share the lock and not the event."""
    mine, other = DisconnectEvent(), DisconnectEvent()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(mine.wait, PATIENCE)
        other.set()
        assert not waiting.done()
        mine.set()
        assert waiting.result(PATIENCE) is True


def test_callbacks_run_in_a_thread_of_their_own_in_order():
    """All are called, once, and may block without holding the loop."""
    event, done, seen = DisconnectEvent(), Event(), []
    event.add_callback(lambda: seen.append(current_thread().name))
    event.add_callback(done.set)
    event.set()
    assert done.wait(PATIENCE)
    assert seen == ["aiowsgi-disconnected"]


def test_a_late_callback_is_called_soon_and_in_a_thread_of_its_own():
    """The application may hold a lock, while it registers a callback, that the callback takes."""
    event, seen, done, lock = DisconnectEvent(), [], Event(), Lock()
    event.set()

    def callback():
        with lock:
            seen.append(current_thread().name)
        done.set()

    with lock:
        event.add_callback(callback)
    assert done.wait(PATIENCE)
    assert seen == ["aiowsgi-disconnected"]


def test_a_callback_that_raises_is_logged_and_the_next_is_called(caplog):
    """One that fails does not keep the others from knowing."""
    event, done = DisconnectEvent(), Event()
    event.add_callback(lambda: 1 / 0)
    event.add_callback(done.set)
    event.set()
    assert done.wait(PATIENCE)
    assert "ZeroDivisionError" in caplog.text
    assert caplog.records[0].name == "aiowsgi.application"


def test_no_thread_left_for_callbacks_is_no_error_of_the_loops(monkeypatch, caplog):
    """The system refuses a thread: the loop, or the application, goes on; the log says so."""

    class NoThread:
        def __init__(self, **options):
            pass

        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(disconnected_module, "Thread", NoThread)
    event = DisconnectEvent()
    event.add_callback(lambda: pytest.fail("called"))
    with caplog.at_level(logging.ERROR):
        event.set()
        event.add_callback(lambda: pytest.fail("called"))
    assert event.is_set()
    assert caplog.text.count("can't start new thread") == 2
