"""``environ["aiowsgi.disconnected"]``: from the loop to the application, that nobody listens.

It is set as soon as the client has closed its side of the connection or reset it, while the
application runs. A client that closed only its sending side (few do) is still sent the response,
as a close and a half-close look the same until something is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Condition, Lock, Thread

__all__ = ["DisconnectEvent"]

logger = logging.getLogger("aiowsgi.application")

# One for all: it is taken when somebody asks to be told, or when a client has gone, and so seldom
# that a lock for every request would cost more than it saves.
_lock = Lock()
_changed = Condition(_lock)


class DisconnectEvent:
    """An event that is set at most once, when the client goes before its response is complete."""

    __slots__ = ("_callbacks", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        # What `add_callback` was given; None while it was given nothing.
        self._callbacks: list[Callable[[], object]] | None = None

    def is_set(self) -> bool:
        """Whether the client has gone."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the client has gone, at most ``timeout`` seconds; returns whether it has."""
        with _lock:
            return _changed.wait_for(self.is_set, timeout)

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Have ``callback()`` called once the client has gone; at once if it has already.

        It runs in a thread of its own and may block, as cancelling a query does. What it raises is
        logged. It is not called any more after the response is complete.
        """
        with _lock:
            if not self._is_set:
                self._callbacks = [*(self._callbacks or ()), callback]
                return
        _run([callback])

    def set(self) -> None:
        """The client has gone. Called by the loop."""
        with _lock:
            if self._is_set:
                return
            self._is_set = True
            callbacks, self._callbacks = self._callbacks, None
            _changed.notify_all()
        if callbacks:
            name = "aiowsgi-disconnected"
            try:
                Thread(target=_run, args=(callbacks,), name=name, daemon=True).start()
            except RuntimeError as error:
                # The system has no thread left. The loop must go on all the same.
                logger.error("the callbacks of aiowsgi.disconnected are dropped: %s", error)


def _run(callbacks: list[Callable[[], object]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:
            logger.exception("a callback of aiowsgi.disconnected failed")
