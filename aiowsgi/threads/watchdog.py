"""What becomes of threads that take too long: on the loop, from the outside.

A request that its connection waits for is answered by that connection when its time is over. Here
is everything else that ``request_timeout`` and ``slow_request_log`` stand for, and it is about the
thread and not about the response: the thread may hang after its client has gone, or in ``close()``
after the response was sent, and is as lost to the others then.

The thread's stack is logged, and it is *detached*: another takes its place, and it ends by itself
once the application lets it. So many may hang at a time; with the next one the budget is spent, and
this process asks to be replaced. An executor of the embedding program's is left as it is: its
clients are answered in time, but only its owner could give it another thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from aiowsgi.exchange.interrupts import interrupt
from aiowsgi.threads.pool import WorkerPool
from aiowsgi.threads.stacks import stack_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from aiowsgi.exchange.app_context import AppContext
    from aiowsgi.exchange.record import RequestRecord

__all__ = ["DetachPolicy", "RequestWatchdog"]

logger = logging.getLogger("aiowsgi.server")


class DetachPolicy(NamedTuple):
    """How many threads may hang, and what is done about them."""

    detached: int = 0
    """Threads that may hang beyond the request timeout at a time."""
    interrupt: bool = False
    """`RequestTimedOut` is raised in a thread that was detached."""
    spent: Callable[[], object] = bool
    """Called when one more hangs: this process is to be replaced."""


class RequestWatchdog:
    """Looks at what runs; a `Timed` of the patrol's."""

    def __init__(
        self,
        service: AppContext,
        executor: Executor,
        budget: DetachPolicy,
        *,
        request_timeout: float,
        slow_request: float,
    ) -> None:
        """To be watched where anything is `limited`."""
        # The patrol's own; see `Timed`.
        self.watched_at = 0
        self._executor = executor
        self._budget = budget
        self._request = request_timeout or inf
        self._slow = slow_request or inf
        self.limited = min(self._request, self._slow) < inf
        """Whether there is a time limit at all."""
        self._running = service.running
        service.interruptible = self.limited and budget.interrupt
        # Those that were logged as slow, or as hanging; ended ones until the next look.
        self._logged: set[RequestRecord] = set()
        self._detached: set[RequestRecord] = set()
        self.replaced: Callable[[RequestRecord], object] = bool
        """Called when the thread of a request was replaced: its place is free."""

    @property
    def detached(self) -> list[RequestRecord]:
        """Those whose threads hang beyond the request timeout."""
        return [record for record in self._detached if not record.ended]

    def check_deadlines(self, now: float) -> float:
        """See `Timed`."""
        self._logged = {record for record in self._logged if not record.ended}
        self._detached = {record for record in self._detached if not record.ended}
        # What begins later is not overdue sooner.
        deadline = now + min(self._request, self._slow)
        for record in self._running.copy().values():
            if record not in self._detached and not record.upgraded:
                deadline = min(deadline, self._check(record, now))
        return deadline

    def _check(self, record: RequestRecord, now: float) -> float:
        slow, overdue = record.started_at + self._slow, record.started_at + self._request
        if overdue <= now:
            # Its connection, if there is one, looks at the same time, and has to answer first.
            if not record.awaited:
                self.detach(record)
            return now
        if slow <= now and record not in self._logged:
            self._logged.add(record)
            self._log(logging.WARNING, record, "has been running for %.1f s", now)
        return overdue if record in self._logged else min(slow, overdue)

    def detach(self, record: RequestRecord) -> None:
        """The thread of ``record`` hangs: log where, and put another into its place."""
        if record.ended or record in self._detached:
            return
        self._log(logging.ERROR, record, "takes too long, %.1f s until now", monotonic())
        self._detached.add(record)
        if not isinstance(self._executor, WorkerPool):
            return
        hanging, ident = len(self.detached), record.thread_id
        if hanging > self._budget.detached or not self._executor.detach(ident):
            logger.critical("%d threads hang: this process is to be replaced", hanging)
            self._budget.spent()
            return
        self.replaced(record)
        # A thread that was detached in the middle of its task takes no other, so that no other
        # request can be hit.
        if self._budget.interrupt and not record.ended:
            interrupt(ident)

    def _log(self, level: int, record: RequestRecord, what: str, now: float) -> None:
        logger.log(
            level,
            f"%s {what}; its thread is at\n%s",
            record.describe(),
            now - record.started_at,
            stack_of(record.thread_id).rstrip(),
            extra={"request_id": record.request_id},
        )
