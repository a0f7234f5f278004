"""Wake-ups of the event loop by worker threads, coalesced.

``call_soon_threadsafe`` writes to a pipe, which costs a system call. A burst of wake-ups needs only
one. So callbacks go into a queue, and only the first callback after a run of the queue wakes the
event loop.

Why no lock is needed: `Wakeups.call` appends the callback before it reads the flag, and a run
clears the flag before it reads the queue. So either the run in progress sees the callback, or the
thread sees that the flag is cleared and asks for another run. If two threads see it cleared, both
ask, and the second run finds nothing to do. Operations of a ``deque`` are atomic, with and without
the interpreter's lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import final

__all__ = ["Wakeups"]


@final
class Wakeups:
    """Coalesced ``call_soon_threadsafe``; callbacks must not raise."""

    __slots__ = ("_asked", "_callbacks", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callbacks: deque[Callable[[], object]] = deque()
        # The event loop was asked for a run that has not begun.
        self._asked = False

    def call(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called on the event loop soon; from any thread.

        The callback is dropped if the loop is closed.
        """
        self._callbacks.append(callback)
        if not self._asked:
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                # The loop is closed, and so is everything that a callback could attend to.
                self._asked = False
                self._callbacks.clear()

    def _run(self) -> None:
        self._asked = False
        callbacks = self._callbacks
        # Only the present ones: a callback that calls `call` must not keep the loop from its I/O.
        for _ in range(len(callbacks)):
            callbacks.popleft()()
