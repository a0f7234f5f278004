"""Which requests are given to worker threads, which are refused, and which are taken back.

A `RequestScheduler` stands between the connections and the executor that runs the application. It
bounds the queue, batches what the event loop hands over, applies the limits for each client and
route (`FairQueue`), and replaces threads that hang (`RequestWatchdog`). On the event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, final

from aiowsgi.threads.batching import BatchedSubmit
from aiowsgi.threads.fair_queue import FairQueue, QueueRules
from aiowsgi.threads.pool import WorkerPool
from aiowsgi.threads.saturation import SaturationDetector, SaturationOptions
from aiowsgi.threads.watchdog import DetachPolicy, RequestWatchdog

if TYPE_CHECKING:
    from aiowsgi.exchange.app_context import AppContext
    from aiowsgi.exchange.exchange import Exchange
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.threads.wakeups import Wakeups

__all__ = ["RequestScheduler", "SchedulerOptions"]


class SchedulerOptions(NamedTuple):
    """Bounds on waiting and running. Times are seconds; 0 is no limit."""

    queue_size: int = 1024
    """Requests that may wait for a worker thread."""
    queue_timeout: float = 30.0
    """How long a request may wait for one, including the time in a trusted proxy's queue."""
    request_timeout: float = 0.0
    """How long the application may run for a request."""
    slow_request: float = 0.0
    """How long it may run before its stack is logged."""
    rules: QueueRules = QueueRules()
    """How many threads a client or a route may have at a time."""
    saturation: SaturationOptions = SaturationOptions()
    """When it is logged that no thread is free while requests wait."""
    detaching: DetachPolicy = DetachPolicy()
    """How many threads may hang beyond the request timeout, and what happens then."""


@final
class RequestScheduler:
    """Gives exchanges to worker threads; see the module's docstring."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: AppContext,
        executor: Executor,
        wakeups: Wakeups,
        options: SchedulerOptions,
    ) -> None:
        """``executor`` is a `WorkerPool`, or one that an embedding program brings along."""
        self.executor: Final = executor
        self.options: Final = options
        self.requests = 0
        """Number of requests submitted so far."""
        self.dropped = 0
        """Number of requests that no thread started on because their clients had gone."""
        self._abandoned = context.abandoned
        self._running = context.running
        # The two methods that every request calls.
        self._execute: Callable[[Callable[[], object]], object]
        self.waiting: Callable[[], int]
        """Gives the number of entries in the pool's queue; 0 for a program's own executor."""
        # Tasks that reach the pool's queue at the end of this turn of the event loop.
        self._batched: list[Callable[[], object]] = []
        if isinstance(executor, WorkerPool):
            batching = BatchedSubmit(loop, executor.execute)
            self._execute, self._batched = batching.submit, batching.held
            self.waiting = executor.waiting
        else:
            self._execute, self.waiting = executor.submit, int
        self.watchdog: Final = RequestWatchdog(
            context,
            executor.detach if isinstance(executor, WorkerPool) else None,
            options.detaching,
            request_timeout=options.request_timeout,
            slow_request=options.slow_request,
        )
        self.saturation: Final = (
            SaturationDetector(executor.size, self.running, self.queued, options.saturation)
            if isinstance(executor, WorkerPool)
            else None
        )
        """To be watched; None for a program's own executor, whose size is not known."""
        self.fair_queue: Final = FairQueue(options.rules, self._execute) if options.rules else None
        """Holds requests back whose client or route has all its threads; None without rules."""
        if self.fair_queue is not None:
            release = self.fair_queue.release
            self.watchdog.replaced = release
            context.released = lambda record: wakeups.call(partial(release, record))

    def running(self) -> list[RequestRecord]:
        """The requests that the pool's threads are busy with, without those of detached threads."""
        detached = set(self.watchdog.detached)
        return [record for record in self._running.copy().values() if record not in detached]

    def queued(self) -> int:
        """Number of requests that wait for a thread, and not for a limit of client or route."""
        return max(0, self.waiting() + len(self._batched) - len(self._abandoned))

    def refuses(self, exchange: Exchange) -> bool:
        """Whether ``exchange`` may not be submitted: the queue is full, or it has waited enough."""
        if 0 < self.options.queue_timeout <= exchange.record.waited_before:
            return True
        waiting = self.waiting() + len(self._batched)
        if self.fair_queue is not None and not self.fair_queue.admits(exchange):
            waiting += len(self.fair_queue)
        # Abandoned entries are subtracted last: most of the time the queue is not full.
        size = self.options.queue_size
        return waiting >= size and waiting - len(self._abandoned) >= size

    def submit(self, exchange: Exchange) -> None:
        """Have a worker thread run ``exchange``.

        Raises RuntimeError if the executor was shut down.
        """
        self.requests += 1
        if self.fair_queue is None:
            self._execute(exchange.run)
        else:
            self.fair_queue.submit(exchange)

    def drop(self, exchange: Exchange) -> None:
        """The client has gone before a thread started on ``exchange``."""
        self.dropped += 1
        self.abandon(exchange)

    def abandon(self, exchange: Exchange) -> None:
        """Cancel a request that no thread has started, nor can start any more.

        Its entry in the pool's queue stays until a thread finds it, or until more than
        ``queue_size`` of them have gathered: threads that hang find nothing.
        """
        exchange.release_body()
        if self.fair_queue is not None and self.fair_queue.withdraw(exchange):
            return
        abandoned = self._abandoned
        abandoned.add(exchange.run)
        # The worker that finds the entry sets `ended` before it discards it from the set: either
        # the worker discards it or this method does.
        if exchange.record.ended:
            abandoned.discard(exchange.run)
        elif len(abandoned) > self.options.queue_size and isinstance(self.executor, WorkerPool):
            # A copy, since worker threads may discard some meanwhile.
            self.executor.drop(abandoned.copy())
            abandoned.clear()

    def detach(self, record: RequestRecord) -> None:
        """Replace the thread of a request that runs for too long."""
        self.watchdog.detach(record)

    @property
    def detached(self) -> list[RequestRecord]:
        """Requests whose threads were replaced and still run."""
        return self.watchdog.detached
