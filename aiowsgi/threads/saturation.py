"""Detects that all worker threads are busy and take no requests while some wait, and logs it.

A process is *stalled* from when a request is seen to wait for a thread until a thread takes a
request or is free. A stall of `SaturationOptions.after` seconds is *saturation*: the process then
gets no more requests (``server/status.py``), and the log says what its threads are doing.

That the queue becomes empty does not end a stall: the requests in it may have been refused after
``queue_timeout``, or their clients may have left, and the next one would wait as they did.

The detector is checked by the `TimerWheel` about once a second, and costs a request nothing. On the
event loop only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple, final

from aiowsgi.threads.stacks import CodeLine, code_lines

if TYPE_CHECKING:
    from aiowsgi.exchange.record import RequestRecord

__all__ = ["SaturationDetector", "SaturationOptions", "describe_requests"]

logger = logging.getLogger("aiowsgi.server")

INTERVAL: Final = 1.0
"""Seconds between two checks, at most."""

REPEAT: Final = 60.0
"""Seconds after which saturation that lasts is logged again."""

MOST: Final = 5
"""Requests that are named for each line of code, and lines of code that are named, in a message."""


class SaturationOptions(NamedTuple):
    """When a stall is saturation."""

    after: float = 5.0
    """Seconds."""
    log: bool = True
    """Whether it is logged."""


@final
class SaturationDetector:
    """See the module's docstring. It is a `Timed` of the `TimerWheel`."""

    def __init__(
        self,
        threads: int,
        running: Callable[[], Sequence[RequestRecord]],
        waiting: Callable[[], int],
        options: SaturationOptions,
    ) -> None:
        """``threads`` is the size of the pool; ``running`` gives the requests that its threads are
        busy with, and ``waiting`` the number of requests that wait for a thread."""
        # The wheel's own; see `Timed`.
        self.watched_at = 0
        self._threads = threads
        self._running = running
        self._waiting = waiting
        self._options = options
        self.interval: Final = min(INTERVAL, options.after / 5)
        """Seconds between two checks."""
        self.stalled_since = 0.0
        """When the present stall began, monotonic seconds; 0.0 if there is none."""
        self.saturated = False
        """Whether it has become saturation."""
        # When saturation was logged last.
        self._logged_at = 0.0

    def check_deadlines(self, now: float) -> float:
        """See `Timed`."""
        running = self._running()
        if self.stalled_since:
            # A thread is free, or has taken a request since.
            over = len(running) < self._threads or _last_start(running) > self.stalled_since
            if over:
                self._end(now)
            elif now - self.stalled_since >= self._options.after:
                self._saturated(running, now)
        if not self.stalled_since and len(running) >= self._threads and self._waiting():
            self.stalled_since = now
        return now + self.interval

    def _saturated(self, running: Sequence[RequestRecord], now: float) -> None:
        first = not self.saturated
        self.saturated = True
        if self._options.log and (first or now - self._logged_at >= REPEAT):
            self._logged_at = now
            logger.warning(
                "no thread has been free for %.0f s while requests wait: %d threads busy,"
                " %d requests waiting; the oldest requests are\n%s",
                now - self.stalled_since,
                len(running),
                self._waiting(),
                "\n".join(describe_requests(running)),
            )

    def _end(self, now: float) -> None:
        if self.saturated and self._options.log:
            logger.info("a thread is free again, after %.0f s", now - self.stalled_since)
        self.stalled_since = 0.0
        self.saturated = False


def _last_start(running: Sequence[RequestRecord]) -> float:
    return max((record.started_at for record in running), default=0.0)


def describe_requests(records: Sequence[RequestRecord]) -> list[str]:
    """Lines that say where requests are in the application's code: the oldest first, those at the
    same line together, `MOST` of each."""
    now = monotonic()
    places = code_lines((record.thread_id for record in records), source=True)
    groups: dict[CodeLine | None, list[RequestRecord]] = {}
    for record in sorted(records, key=attrgetter("received_at")):
        groups.setdefault(places.get(record.thread_id), []).append(record)
    lines = []
    for place, group in list(groups.items())[:MOST]:
        number = f"{len(group)} request{'s' * (len(group) > 1)}"
        lines.append(f"{number} at {place}: {place.source}" if place else f"{number} elsewhere")
        lines += [
            f"  {record.describe()[:LONGEST]}, {now - record.received_at:.1f} s,"
            f" id {record.request_id}"
            for record in group[:MOST]
        ]
        if len(group) > MOST:
            lines.append(f"  and {len(group) - MOST} more")
    if len(groups) > MOST:
        lines.append(f"and requests at {len(groups) - MOST} other lines")
    return lines


LONGEST: Final = 200
"""Characters of a request line in a message."""
