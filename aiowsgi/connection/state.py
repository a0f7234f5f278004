"""What all connections of one process share, and what one connection needs of the rest.

A `Connection` is given a `ServerState` and nothing else. The hub holds facts and the few objects
that the connections use together; it starts and stops nothing, which is the server's part.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.connection.timer_wheel import TimerWheel
from aiowsgi.exchange.app_context import AppContext
from aiowsgi.exchange.exchange import Exchange
from aiowsgi.exchange.output_buffer import OutputLimits
from aiowsgi.http1.messages import HeadParser, Limits
from aiowsgi.threads.batching import BatchedSubmit
from aiowsgi.threads.fair_queue import FairQueue, QueueRules
from aiowsgi.threads.pool import WorkerPool
from aiowsgi.threads.wakeups import Wakeups
from aiowsgi.threads.watchdog import DetachPolicy, RequestWatchdog

if TYPE_CHECKING:
    from aiowsgi.connection.connection import Connection
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.proxy.headers import TrustedPeers

__all__ = ["ServerState", "Timeouts"]

logger = logging.getLogger("aiowsgi.server")

LINGER: Final = 2.0
"""Seconds that a client has to take the last answer and close, before the connection is cut. The
figure is nginx's lingering_timeout, less what a local proxy needs. A guess."""


class Timeouts(NamedTuple):
    """How long is waited for what, in seconds; 0 for as long as it takes."""

    header: float = 10.0
    """For a header section, from its first byte; and for the first byte of a connection."""
    body: float = 30.0
    """For the next bytes of a body."""
    write: float = 60.0
    """For a client to read something of what waits for it."""
    keep_alive: float = 75.0
    """For the next request on a kept connection."""
    queue: float = 30.0
    """For a thread."""
    request: float = 0.0
    """For the application to answer, from when a thread has begun with it."""
    slow: float = 0.0
    """Until the stack of a request that still runs is logged."""
    linger: float = LINGER
    """For the client's close, once the connection's last response is sent."""

    def shortest(self) -> float:
        """The shortest of those that may begin at any time and are not off."""
        return min((time for time in self._replace(linger=0.0) if time > 0), default=self.linger)


@dataclass(slots=True)
class ServerState:
    """See the module's docstring."""

    loop: asyncio.AbstractEventLoop
    service: AppContext
    executor: Executor
    parse_head: HeadParser
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    backlog: OutputLimits = field(default_factory=OutputLimits)
    request_buffering: str = "auto"
    """``auto``, ``on`` or ``off``; see ``connection/body_buffer.py``."""
    queue_size: int = 1024
    """Requests that may wait for a thread."""
    connections: set[Connection] = field(default_factory=set)
    """Those that are open."""
    fairness: QueueRules = field(default_factory=QueueRules)
    """Who may have how many threads."""
    budget: DetachPolicy = field(default_factory=DetachPolicy)
    """How many threads may hang beyond the request timeout."""
    left: Callable[[RequestRecord], object] | None = None
    """Called when a client closes before its response is complete; None where nobody counts."""
    trusted: TrustedPeers | None = None
    """Whose X-Forwarded-* and Forwarded fields are believed; None: nobody looks at them."""
    watchers: list[Callable[[], object]] = field(default_factory=list)
    """Called when a connection has gone, or has failed to become one."""
    requests: int = 0
    """Requests given to the application so far."""
    dropped: int = 0
    """Requests that no thread has begun with, as their clients had gone."""
    wakeups: Wakeups = field(init=False)
    patrol: TimerWheel = field(init=False)
    execute: Callable[[Callable[[], object]], object] = field(init=False)
    """Hands a callable to a thread. Raises RuntimeError where the executor is shut down."""
    waiting: Callable[[], int] = field(init=False)
    """Number of entries in the pool's queue; an embedder's executor keeps that to itself."""
    on_the_way: list[Callable[[], object]] = field(init=False)
    """What will be in the pool's queue at the end of this turn of the loop."""
    dispatcher: FairQueue | None = field(init=False)
    """The queue before the pool; None where every request goes straight there."""
    overtime: RequestWatchdog = field(init=False)

    def __post_init__(self) -> None:
        self.wakeups = Wakeups(self.loop)
        self.patrol = TimerWheel(self.loop, self.timeouts.shortest())
        pool = self.executor
        self.on_the_way = []
        if isinstance(pool, WorkerPool):
            handover = BatchedSubmit(self.loop, pool.execute)
            self.execute, self.waiting = handover.submit, pool.waiting
            self.on_the_way = handover.held
        else:
            self.execute, self.waiting = pool.submit, int
        self.overtime = RequestWatchdog(
            self.service,
            pool,
            self.budget,
            request_timeout=self.timeouts.request,
            slow_request=self.timeouts.slow,
        )
        if self.overtime.limited:
            self.patrol.watch(self.overtime)
        self.dispatcher = None
        if self.fairness:
            self.dispatcher = dispatcher = FairQueue(self.fairness, self.execute)
            self.overtime.replaced = dispatcher.release
            self.service.released = lambda record: self.wakeups.call(
                partial(dispatcher.release, record)
            )

    @property
    def detached(self) -> list[RequestRecord]:
        """Those whose threads hang beyond the request timeout."""
        return self.overtime.detached

    def refuses(self, exchange: Exchange) -> bool:
        """Whether ``exchange`` may not wait for a thread: too many do, or it has waited enough."""
        if 0 < self.timeouts.queue <= exchange.record.waited_before:
            return True
        waiting = self.waiting() + len(self.on_the_way)
        if self.dispatcher is not None and not self.dispatcher.admits(exchange):
            waiting += len(self.dispatcher)
        # What was abandoned is counted last, as nothing is as long as nothing is amiss.
        return (
            waiting >= self.queue_size and waiting - len(self.service.abandoned) >= self.queue_size
        )

    def submit(self, exchange: Exchange) -> None:
        """Queue a request. Raises RuntimeError where the executor is shut down."""
        self.requests += 1
        if self.dispatcher is None:
            self.execute(exchange.run)
        else:
            self.dispatcher.submit(exchange)

    def abandon(self, exchange: Exchange) -> None:
        """No thread has begun with ``exchange``, nor can one any more: nobody waits for it.

        An entry of the pool's queue stays there until a thread finds it, or until as many have
        gathered as may wait: threads that hang find nothing.
        """
        exchange.give_up()
        if self.dispatcher is not None and self.dispatcher.withdraw(exchange):
            return
        abandoned = self.service.abandoned
        abandoned.add(exchange)
        # The worker that finds it says so before it takes it out: one of us sees the other.
        if exchange.record.ended:
            abandoned.discard(exchange)
        elif len(abandoned) > self.queue_size and isinstance(self.executor, WorkerPool):
            # A copy, since workers may take some out meanwhile.
            self.executor.drop({each.run for each in abandoned.copy()})
            abandoned.clear()

    def leave(self, connection: Connection) -> None:
        """A connection has gone."""
        self.patrol.forget(connection)
        self.connections.discard(connection)
        self.notice()

    def notice(self) -> None:
        """Tell the watchers that there may be one connection less."""
        for watcher in self.watchers:
            watcher()
