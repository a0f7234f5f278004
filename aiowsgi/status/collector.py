"""Collects what is counted of requests, from the threads that end them to whoever asks for it.

Guarantees:

1. `MetricsCollector.finished` never waits, except that one call in `BATCH` counts a batch under the
   lock, which takes less than a tenth of a millisecond.
2. `MetricsCollector.snapshot` contains every request whose ``finished`` had returned, once.

Properties relied upon: extending a list by a tuple, slicing it and deleting a slice are atomic, on
free-threaded Python too, whose lists have locks of their own. Only the thread that holds the lock
deletes, so that what it has seen in the list stays there.

The race, and why it is harmless: *several threads find a whole batch*. One of them counts it; the
others wait for the lock and find less than a batch, which they count too.
"""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from aiowsgi.status.metrics import WIDTH, Counts

if TYPE_CHECKING:
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.status.metrics import Tree
    from aiowsgi.wsgi.handler import Environ, Response

__all__ = ["MetricsCollector"]

BATCH: Final = 256
"""Samples that are counted at once. Measured: half as many cost a tenth more for each, and twice as
many save nothing, since they have to be sorted. Keeping the records instead of the numbers costs
more than it saves: memory that they hold cannot be used for the next request."""

_FULL: Final = BATCH * WIDTH


class MetricsCollector:
    """Counts requests; from any thread. The first two methods are hooks of `AppContext`."""

    __slots__ = ("_counts", "_lock", "_samples")

    def __init__(self) -> None:
        # The fields of one `Sample` after the other.
        self._samples: list[Any] = []
        self._lock = Lock()
        # Used under the lock only.
        self._counts = Counts()

    def finished(self, record: RequestRecord, response: Response, environ: Environ) -> None:  # noqa: ARG002
        """An application's response is complete or was cut off. Called by the worker thread."""
        now = monotonic()
        received, queued = record.received_at, record.queued_at
        started, sent = record.started_at, record.finished_at
        samples = self._samples
        samples.extend(
            (
                record.status,
                record.response_bytes,
                queued - received,
                started - queued + record.waited_before,
                now - started,
                now - sent,
                sent - received,
            )
        )
        if len(samples) >= _FULL:
            with self._lock:
                self._count()

    def refused(self, record: RequestRecord) -> None:
        """The server answered by itself. Called by the event loop.

        Its errors (5xx) are timed: a latency without the requests that were answered 503 or 504
        would look best when the server is at its worst. A client's errors are not: how long a slow
        client took for its header section says nothing about the server.
        """
        timed = record.status >= 500
        if timed:
            self._samples.extend(
                (
                    record.status,
                    record.response_bytes,
                    record.queued_at - record.received_at,
                    record.started_at - record.queued_at + record.waited_before,
                    record.finished_at - record.started_at,
                    0.0,
                    record.finished_at - record.received_at,
                )
            )
        with self._lock:
            if record.cut:
                self._counts.cut()
            else:
                self._counts.refused(record.status)
            if not timed:
                self._counts.untimed(record.status, record.response_bytes)

    def client_disconnected(self, record: RequestRecord) -> None:  # noqa: ARG002
        """A client closed before its response was complete. Called by the event loop."""
        with self._lock:
            self._counts.disconnected()

    def snapshot(self) -> Tree:
        """All counts so far; see `Counts.snapshot`."""
        with self._lock:
            self._count()
            return self._counts.snapshot()

    def _count(self) -> None:
        batch = self._samples[:]
        del self._samples[: len(batch)]
        self._counts.add(batch)
