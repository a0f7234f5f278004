"""Time limits without a timer for each: every watched object is looked at now and then.

An object is looked at no later than ``period`` seconds after it was looked at last, where
``period`` is the shortest limit that could apply to it. Whatever limit begins in between ends no
sooner than that next look, so that beginning one costs an attribute and no call. At the look, the
object acts on what is overdue and says when it wants to be looked at next.

With a period of ten seconds, ten thousand connections cost a thousand looks a second, which is
about a thousandth of a processor's time, whether they are busy or idle.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol

__all__ = ["Timed", "TimerWheel"]

TICKS: Final = 20
"""Ticks in a period: a limit is overrun by a twentieth of itself at most."""

AT_ONCE: Final = 50
"""Looks in one turn of the loop, some tenths of a millisecond. Thousands of connections that came
together are due together; the requests of others shall not wait for all of them."""

PAUSE: Final = 0.001
"""Seconds until the next ones, as the loop's clock counts milliseconds."""

COARSEST: Final = 1.0
FINEST: Final = 0.005
"""Bounds of a tick, in seconds."""


class Timed(Protocol):
    """What a `TimerWheel` looks at; it must be hashable."""

    watched_at: int
    """The tick at which the next look is due; 0 when none is. The wheel's own."""

    def check_deadlines(self, now: float) -> float:
        """Act on what is overdue; returns the time by which to look again.

        Times are monotonic seconds. Must not raise."""


class TimerWheel:
    """Looks at objects; on one event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, period: float) -> None:
        """``period`` in seconds; see the module's docstring."""
        self._loop = loop
        self._period = period
        self._tick = min(max(period / TICKS, FINEST), COARSEST)
        # Objects by the tick at which they are due.
        self._due: dict[int, set[Timed]] = {}
        # The callback for the next tick, in a walk the one that has fired; None while nothing is
        # watched.
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def watch(self, item: Timed) -> None:
        """Begin to look at ``item``."""
        self._schedule(item, monotonic() + self._period)

    def hasten(self, item: Timed, when: float) -> None:
        """Look at ``item`` by ``when``: for a limit that may be shorter than the period."""
        self.forget(item)
        self._schedule(item, when)

    def forget(self, item: Timed) -> None:
        """Stop looking at ``item``, if that has not been done."""
        due = self._due.get(item.watched_at)
        if due is not None:
            due.discard(item)
        item.watched_at = 0

    def close(self) -> None:
        """Look at nothing any more."""
        self._closed = True
        for items in self._due.values():
            items.clear()
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, item: Timed, when: float) -> None:
        if self._closed:
            return
        tick = int(when / self._tick) + 1
        item.watched_at = tick
        self._due.setdefault(tick, set()).add(item)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick, self._walk)

    def _walk(self) -> None:
        """Look at what is due."""
        now = monotonic()
        latest = now + self._period
        current = int(now / self._tick)
        budget = AT_ONCE
        for tick in [tick for tick in self._due if tick <= current]:
            items = self._due[tick]
            while items and budget:
                budget -= 1
                item = items.pop()
                item.watched_at = 0
                # What should have been looked at again already is so at the next tick.
                self._schedule(item, max(now, min(item.check_deadlines(now), latest)))
            if items or self._closed:
                break
            del self._due[tick]
        self._timer = None
        if self._due:
            delay = self._tick if budget else PAUSE
            self._timer = self._loop.call_later(delay, self._walk)
