"""From the threads that end exchanges to the counts that the loop shows.

Times are kept only while somebody looks: from the first `MetricsCollector.watch` until `WATCH`
seconds after the last. What is answered, and how much, is always counted. Nearly all of the cost is
in the times, and a server that nobody looks at need not pay it; who looks regularly gets all of
them.

Guarantees:

1. `MetricsCollector.finished` never waits, but for one call in `BATCH`, which counts a batch under
   the lock: less than a tenth of a millisecond.
2. `MetricsCollector.snapshot` has every exchange whose `finished` had returned, each of them once.

Property relied upon: appending to a list, extending it by a tuple, slicing it, deleting a slice and
``dict.setdefault`` are atomic, on free-threaded Python too, where a list and a dict have locks of
their own. Only who has the tally's lock deletes, so that what was seen to be there is there.

The races, and why they are harmless: *several threads find a whole batch*. One of them counts it;
the others wait for the lock and find less than a batch, which they count too. *Somebody begins to
look while exchanges end.* Their times are kept or not; they are counted all the same.
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
"""Samples counted at once. Measured: half as many cost a tenth more for each, and twice as many
save nothing, since they have to be sorted. Keeping the exchanges, to look at them by the batch,
costs more than it saves: the memory that they hold back has to be replaced for each request."""

_FULL: Final = BATCH * WIDTH

WATCH: Final = 600.0
"""Seconds for which times are kept after somebody has looked. Twice as long as Prometheus, whose
intervals are much shorter, remembers a figure."""


class MetricsCollector:
    """Counts exchanges; from any thread. The first two are the hooks of ``AppContext``."""

    __slots__ = ("_counts", "_lock", "_orphans", "_samples", "_timing", "_until", "_untimed")

    def __init__(self) -> None:
        # The fields of one `Sample` after the other.
        self._samples: list[Any] = []
        # Bytes of the bodies that were not timed.
        self._untimed = _Sizes()
        # Times are kept; until when, monotonic seconds.
        self._timing = False
        self._until = 0.0
        self._lock = Lock()
        # Only with the lock.
        self._counts = Counts()
        # Exchanges whose clients have gone while a thread was busy with them. The loop's alone.
        self._orphans: set[RequestRecord] = set()

    def finished(self, record: RequestRecord, response: Response, environ: Environ) -> None:  # noqa: ARG002
        """An application's response is done, for better or worse. Called by the worker."""
        if not self._timing:
            status = record.status
            sizes = self._untimed[status]
            sizes.append(record.response_bytes)
            if len(sizes) >= BATCH:
                with self._lock:
                    self._counts.add_untimed(status, _taken(sizes))
            return
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
        """The event loop has answered by itself. Called by the loop."""
        with self._lock:
            self._counts.refused(record.status, record.response_bytes)

    def left(self, record: RequestRecord) -> None:
        """A client left before its response was complete. Called by the loop."""
        if record.thread_id:
            self._orphans = {*self.orphans(), record}
        with self._lock:
            self._counts.disconnected()

    def orphans(self) -> set[RequestRecord]:
        """Requests whose clients have left and whose threads still run; at most one a thread."""
        return {record for record in self._orphans if not record.ended}

    def watch(self) -> None:
        """Somebody looks at the times: keep them, for a while."""
        self._until = monotonic() + WATCH
        self._timing = True

    def snapshot(self) -> Tree:
        """All counts so far; see `Counts.snapshot`."""
        with self._lock:
            for status, sizes in self._untimed.copy().items():
                self._counts.add_untimed(status, _taken(sizes))
            self._count()
            return self._counts.snapshot()

    def _count(self) -> None:
        self._counts.add(_taken(self._samples))
        # Here, so that no exchange has to ask.
        self._timing = self._timing and monotonic() < self._until


class _Sizes(dict[int, list[int]]):
    """Lists by status. Measured: half of what it costs to keep pairs of both."""

    def __missing__(self, status: int) -> list[int]:
        # Of two threads, both go on with the list of one.
        return self.setdefault(status, [])


def _taken(values: list[Any]) -> list[Any]:
    batch = values[:]
    del values[: len(batch)]
    return batch
