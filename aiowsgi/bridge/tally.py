"""From the threads that end exchanges to the counts that the loop shows.

Guarantees:

1. `Tally.finished` waits for nobody, but for one call in `BATCH`, which counts a batch under the
   lock: less than a tenth of a millisecond.
2. `Tally.snapshot` has every exchange whose `finished` had returned, each of them once.

Property relied upon: extending a list by a tuple, slicing it and deleting a slice are atomic, on
free-threaded Python too, where a list has a lock of its own. Only who has the tally's lock deletes,
so that what was seen to be there is there.

The race, and why it is harmless: *several threads find a whole batch*. One of them counts it; the
others wait for the lock and find less than a batch, which they count too.
"""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from aiowsgi.metrics import WIDTH, Counts

if TYPE_CHECKING:
    from aiowsgi.bridge.exchange import Exchange
    from aiowsgi.environ import Peer
    from aiowsgi.http1.events import Request
    from aiowsgi.metrics import Tree
    from aiowsgi.wsgi import Environ, Response

__all__ = ["Tally"]

BATCH: Final = 256
"""Samples counted at once. Measured: half as many cost a tenth more for each, and twice as many
save nothing, since they have to be sorted. Keeping the exchanges, to look at them by the batch,
costs more than it saves: the memory that they hold back has to be replaced for each request."""

_FULL: Final = BATCH * WIDTH


class Tally:
    """Counts exchanges; from any thread. The first two are the hooks of ``Service``."""

    def __init__(self) -> None:
        # The fields of one `Sample` after the other.
        self._samples: list[Any] = []
        self._lock = Lock()
        # Only with the lock.
        self._counts = Counts()
        # Exchanges whose clients have gone while a thread was busy with them. The loop's alone.
        self._orphans: set[Exchange] = set()

    def finished(self, exchange: Exchange, response: Response, environ: Environ) -> None:  # noqa: ARG002
        """An application's response is done, for better or worse. Called by the worker."""
        now = monotonic()
        received, queued = exchange.received_at, exchange.queued_at
        started, sent = exchange.started_at, exchange.finished_at
        samples = self._samples
        samples.extend(
            (
                response.status,
                response.body_bytes,
                queued - received,
                started - queued + exchange.waited_before,
                now - started,
                now - sent,
                sent - received,
            )
        )
        if len(samples) >= _FULL:
            with self._lock:
                self._count()

    def refused(
        self,
        peer: Peer,  # noqa: ARG002
        request: Request | None,  # noqa: ARG002
        status: int,
        size: int,
        received_at: float,  # noqa: ARG002
    ) -> None:
        """The server answered by itself. Called by the loop."""
        with self._lock:
            self._counts.refused(status, size)

    def left(self, exchange: Exchange) -> None:
        """A client went before its response was complete. Called by the loop."""
        if exchange.thread_id:
            self._orphans = {*self.orphans(), exchange}
        with self._lock:
            self._counts.disconnected()

    def orphans(self) -> set[Exchange]:
        """What threads are busy with though nobody waits for it; there are as many as threads."""
        return {exchange for exchange in self._orphans if not exchange.ended}

    def snapshot(self) -> Tree:
        """All counts so far; see `Counts.snapshot`."""
        with self._lock:
            self._count()
            return self._counts.snapshot()

    def _count(self) -> None:
        samples = self._samples
        batch = samples[:]
        del samples[: len(batch)]
        self._counts.add(batch)
