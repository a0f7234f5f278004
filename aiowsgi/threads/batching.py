"""Hands the requests of one turn of the event loop to the worker threads together, at its end.

A thread that is woken while the event loop still reads competes with it for the interpreter's lock
and for the processor: both are stopped and woken again for nearly every request. So in batching
mode, which begins when two requests come within `BATCH_INTERVAL`, requests are held until the loop
has read what there is, and are then handed over one after the other. The mode ends with a turn that
brought only one. Measured (32 connections, one processor, side by side): 0.2 context switches for a
request instead of 0.5, and 6 to 14 % more requests. A request that comes alone is handed over at
once, since nothing is gained by waiting.

On the event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

__all__ = ["BatchedSubmit"]

BATCH_INTERVAL: Final = 0.0001
"""Seconds between two requests that begin batching mode. Shorter than the time between two requests
of one client that sends the next as soon as it has the response, so that it is not delayed."""

Task = Callable[[], object]


class BatchedSubmit:
    """Gives tasks to an executor's threads; see the module's docstring."""

    __slots__ = ("_batching", "_execute", "_last", "_loop", "held")

    def __init__(self, loop: asyncio.AbstractEventLoop, execute: Callable[[Task], object]) -> None:
        """``execute`` hands a callable to a thread, and never raises."""
        self._loop = loop
        self._execute = execute
        self.held: Final[list[Task]] = []
        """Tasks that are handed over at the end of this turn; for reading only."""
        # Batching mode: the last turn in which tasks were held brought several.
        self._batching = False
        # Time of the last task submitted outside batching mode (monotonic seconds).
        self._last = 0.0

    def submit(self, task: Task) -> None:
        """Have a thread call ``task``, by the end of this turn of the loop."""
        held = self.held
        if not held:
            if not self._batching:
                last, self._last = self._last, monotonic()
                if self._last - last >= BATCH_INTERVAL:
                    self._execute(task)
                    return
            self._loop.call_soon(self._flush)
        held.append(task)

    def _flush(self) -> None:
        # A copy, since what is executed may submit.
        tasks = self.held.copy()
        self.held.clear()
        self._batching = len(tasks) > 1
        for task in tasks:
            self._execute(task)
