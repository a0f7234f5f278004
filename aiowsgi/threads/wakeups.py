"""From a worker thread to the loop: ask for a callback, soon, once.

``call_soon_threadsafe`` writes to a pipe and costs a system call; a burst of wake-ups needs only
one. So callbacks go into a queue, and only the first after a run asks the loop.

Why no lock is needed: `call` appends before it looks at the flag, and the run clears the flag
before it looks at the queue. Whichever comes first, an appended callback is either seen by the run
in progress or finds the flag cleared and asks for another. Two threads that both find it cleared
ask twice, and the second run finds nothing to do. ``deque`` is safe to use from several threads,
with and without the GIL.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Wakeups"]


class Wakeups:
    """Coalesced ``call_soon_threadsafe``; callbacks must not raise."""

    __slots__ = ("_asked", "_callbacks", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callbacks: deque[Callable[[], object]] = deque()
        self._asked = False

    def call(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called on the loop; dropped where that is closed. From any thread."""
        self._callbacks.append(callback)
        if not self._asked:
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                # The loop is closed: whatever waited for news from here has been closed with it.
                self._asked = False
                self._callbacks.clear()

    def _run(self) -> None:
        self._asked = False
        callbacks = self._callbacks
        # Only what is here now: a callback that asks again must not keep the loop from its I/O.
        for _ in range(len(callbacks)):
            callbacks.popleft()()
