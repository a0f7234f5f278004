"""Logs and replaces worker threads that run for too long (``request_timeout``).

The connection answers a request that it waits for when the time is over. Everything else is done
here, and it concerns the thread and not the response: a thread may hang after its client has gone,
or in ``close()`` after the response was sent, and other requests cannot use it then either.

The thread's stack is logged, and the thread is *detached*: another thread takes its place, and it
ends by itself when the application returns. A limited number of threads may hang at a time; with
the next one, this process asks to be replaced. An executor of the embedding program is left as it
is: its clients are answered in time, but only its owner can give it another thread.

``slow_request_log`` only logs the stack. On the event loop only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from aiowsgi.exchange.interrupts import interrupt
from aiowsgi.threads.stacks import stack_of

if TYPE_CHECKING:
    from aiowsgi.exchange.app_context import AppContext
    from aiowsgi.exchange.record import RequestRecord

__all__ = ["DetachPolicy", "RequestWatchdog"]

logger = logging.getLogger("aiowsgi.server")


class DetachPolicy(NamedTuple):
    """How many threads may hang, and what happens to them."""

    detached: int = 0
    """Number of threads that may hang beyond the request timeout at a time."""
    interrupt: bool = False
    """Raise `RequestTimedOut` in a thread that is detached."""
    spent: Callable[[], object] = bool
    """Called when one more hangs: this process is to be replaced."""


class RequestWatchdog:
    """Checks the requests that run. It is a `Timed` of the `TimerWheel`."""

    def __init__(
        self,
        context: AppContext,
        detach: Callable[[int], bool] | None,
        budget: DetachPolicy,
        *,
        request_timeout: float,
        slow_request: float,
    ) -> None:
        """The caller has it checked if anything is `limited`.

        ``detach`` is `WorkerPool.detach`; None if the executor is an embedding program's.
        """
        # See `Timed`; set by the `TimerWheel` alone.
        self.watched_at = 0
        self._detach_thread = detach
        self._budget = budget
        self._request = request_timeout or inf
        self._slow = slow_request or inf
        self.limited = min(self._request, self._slow) < inf
        """Whether there is a time limit at all."""
        self._running = context.running
        context.interruptible = self.limited and budget.interrupt
        # The requests that were logged as slow, and those whose threads were detached; requests
        # that have ended are removed at the next check.
        self._logged: set[RequestRecord] = set()
        self._detached: set[RequestRecord] = set()
        self.replaced: Callable[[RequestRecord], object] = bool
        """Called when the thread of a request was replaced, so that another can start."""

    @property
    def detached(self) -> list[RequestRecord]:
        """The requests whose threads hang beyond the request timeout."""
        return [record for record in self._detached if not record.ended]

    def check_deadlines(self, now: float) -> float:
        """See `Timed`."""
        self._logged = {record for record in self._logged if not record.ended}
        self._detached = {record for record in self._detached if not record.ended}
        # A request that begins later is not overdue sooner.
        deadline = now + min(self._request, self._slow)
        for record in self._running.copy().values():
            if record not in self._detached and not record.upgraded:
                deadline = min(deadline, self._check(record, now))
        return deadline

    def _check(self, record: RequestRecord, now: float) -> float:
        slow, overdue = record.started_at + self._slow, record.started_at + self._request
        if overdue <= now:
            # If a connection waits for it, that checks at the same time, and must answer first.
            if not record.awaited:
                self.detach(record)
            return now
        if slow <= now and record not in self._logged:
            self._logged.add(record)
            self._log(logging.WARNING, record, "has been running for %.1f s", now)
        return overdue if record in self._logged else min(slow, overdue)

    def detach(self, record: RequestRecord) -> None:
        """The thread of ``record`` hangs: log its stack, and replace it."""
        if record.ended or record in self._detached:
            return
        self._log(logging.ERROR, record, "takes too long, %.1f s until now", monotonic())
        self._detached.add(record)
        if self._detach_thread is None:
            return
        hanging, ident = len(self.detached), record.thread_id
        if hanging > self._budget.detached or not self._detach_thread(ident):
            logger.critical("%d threads hang: this process is to be replaced", hanging)
            self._budget.spent()
            return
        self.replaced(record)
        # A thread that was detached during its task takes no other task, so that the exception
        # cannot be raised in another request.
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
