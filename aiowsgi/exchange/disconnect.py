"""``environ["aiowsgi.disconnected"]``: the event loop tells the application that the client left.

The event is set as soon as the client has closed its side of the connection, or reset it, while the
application runs. A client that has closed only its sending side (few do) still gets the response,
as a close and a half-close look the same until something is sent.

A callback never runs in the thread that registers it, nor in the event loop's: it may take locks
that the application holds while it registers, and it may block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Condition, Lock, Thread
from typing import final

from aiowsgi.exchange.interrupts import outside_application

__all__ = ["DisconnectEvent"]

logger = logging.getLogger("aiowsgi.application")

# One lock for all events: it is taken only if an application waits or registers a callback, or a
# client leaves. A lock for every request would cost more than the contention that it saves.
_lock = Lock()
_changed = Condition(_lock)


@final
class DisconnectEvent:
    """An event that is set at most once, when the client goes before its response is complete."""

    __slots__ = ("_callbacks", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        # The registered callbacks; None if there are none, or if they have been called.
        self._callbacks: list[Callable[[], object]] | None = None

    def is_set(self) -> bool:
        """Whether the client has gone."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the client has gone, at most ``timeout`` seconds; returns whether it has."""
        with outside_application(), _lock:
            return _changed.wait_for(self.is_set, timeout)

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Have ``callback()`` called once the client has gone; soon if it has gone already.

        It runs in a thread of its own and may block, as cancelling a query does. What it raises is
        logged. It is not called after the response is complete.
        """
        with outside_application():
            with _lock:
                if not self._is_set:
                    self._callbacks = [*(self._callbacks or ()), callback]
                    return
            _run_in_thread([callback])

    def set(self) -> None:
        """Note that the client has gone. The event loop calls this."""
        with _lock:
            if self._is_set:
                return
            self._is_set = True
            callbacks, self._callbacks = self._callbacks, None
            _changed.notify_all()
        if callbacks:
            _run_in_thread(callbacks)


def _run_in_thread(callbacks: list[Callable[[], object]]) -> None:
    try:
        Thread(target=_run, args=(callbacks,), name="aiowsgi-disconnected", daemon=True).start()
    except RuntimeError as error:
        # The system has no thread left. The event loop, or the application, must go on.
        logger.error("the callbacks of aiowsgi.disconnected are dropped: %s", error)


def _run(callbacks: list[Callable[[], object]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:
            logger.exception("a callback of aiowsgi.disconnected failed")
