"""Time limits without a timer for each: every watched object is checked now and then.

An object is checked no later than ``period`` seconds after its last check; ``period`` is the
shortest limit that could apply to it. A limit that begins between two checks ends no sooner than
the next one, so beginning a limit costs an attribute and no call. At the check, the object acts on
what is overdue and says when it wants to be checked next.

With a period of ten seconds, ten thousand connections cost a thousand checks a second, which is
about a thousandth of a processor's time, whether they are busy or idle.

A check that raises ends neither the timer wheel nor the checks of other objects: the error is
logged once, and the object is checked again after a period.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic
from typing import Final, Protocol, final

__all__ = ["Timed", "TimerWheel"]

logger = logging.getLogger("aiowsgi.server")

TICKS: Final = 20
"""Ticks in a period: a limit is exceeded by a twentieth of itself at most."""

AT_ONCE: Final = 50
"""Checks in one turn of the event loop, some tenths of a millisecond. Thousands of connections that
were accepted together are due together; other requests shall not wait for all of them."""

PAUSE: Final = 0.001
"""Seconds until the next ones, as the event loop's clock counts milliseconds."""

COARSEST: Final = 1.0
FINEST: Final = 0.005
"""Bounds of a tick, in seconds."""


class Timed(Protocol):
    """What a `TimerWheel` checks; it must be hashable."""

    watched_at: int
    """The tick at which the next check is due; 0 if none is. Set by the timer wheel alone."""

    def check_deadlines(self, now: float) -> float:
        """Act on what is overdue; returns the time by which to check again.

        Times are monotonic seconds."""


@final
class TimerWheel:
    """Checks objects; on one event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, period: float) -> None:
        """``period`` in seconds; see the module's docstring."""
        self._loop = loop
        self._period = period
        self._tick = min(max(period / TICKS, FINEST), COARSEST)
        # Objects by the tick at which they are due.
        self._due: dict[int, set[Timed]] = {}
        # The callback for the next tick, during a walk the one that has fired; None while nothing
        # is watched.
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        # The errors that were logged, by the types of the object and of the error.
        self._logged: set[tuple[type, type]] = set()

    def watch(self, item: Timed) -> None:
        """Begin to check ``item``."""
        self._schedule(item, monotonic() + self._period)

    def hasten(self, item: Timed, when: float) -> None:
        """Check ``item`` by ``when``: for a limit that may be shorter than the period."""
        self.forget(item)
        self._schedule(item, when)

    def forget(self, item: Timed) -> None:
        """Stop checking ``item``. Idempotent."""
        due = self._due.get(item.watched_at)
        if due is not None:
            due.discard(item)
        item.watched_at = 0

    def close(self) -> None:
        """Check nothing any more."""
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
        """Check what is due."""
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
                # What should have been checked again already is so at the next tick.
                self._schedule(item, max(now, min(self._check(item, now), latest)))
            if items or self._closed:
                break
            del self._due[tick]
        self._timer = None
        if self._due:
            delay = self._tick if budget else PAUSE
            self._timer = self._loop.call_later(delay, self._walk)

    def _check(self, item: Timed, now: float) -> float:
        try:
            return item.check_deadlines(now)
        except Exception as error:
            kind = type(item), type(error)
            if kind not in self._logged:
                self._logged.add(kind)
                # A filter or handler of the application's may raise here, too.
                with suppress(Exception):
                    logger.exception("a check of time limits failed; it will be repeated")
            return now + self._period
