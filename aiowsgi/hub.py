"""What all connections of one process share, and what one connection needs of the rest.

A `Connection` is given a `Hub` and nothing else. The hub holds facts and the few objects that the
connections use together; it starts and stops nothing, which is the server's part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.bridge.backlog import BacklogLimits
from aiowsgi.bridge.exchange import Service
from aiowsgi.bridge.wakeups import Wakeups
from aiowsgi.http1.events import HeadParser, Limits
from aiowsgi.patrol import Patrol
from aiowsgi.pool import WorkerPool

if TYPE_CHECKING:
    from aiowsgi.connection import Connection
    from aiowsgi.proxy import TrustedPeers

__all__ = ["Hub", "Timeouts"]

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
    linger: float = LINGER
    """For the client's close, once the connection's last response is sent."""

    def shortest(self) -> float:
        """The shortest that is not off."""
        return min(timeout for timeout in self if timeout > 0)


@dataclass(slots=True)
class Hub:
    """See the module's docstring."""

    loop: asyncio.AbstractEventLoop
    service: Service
    executor: Executor
    parse_head: HeadParser
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    backlog: BacklogLimits = field(default_factory=BacklogLimits)
    request_buffering: str = "auto"
    """``auto``, ``on`` or ``off``; see ``intake.py``."""
    queue_size: int = 1024
    """Requests that may wait for a thread."""
    connections: set[Connection] = field(default_factory=set)
    """Those that are open."""
    trusted: TrustedPeers | None = None
    """Whose X-Forwarded-* and Forwarded fields are believed; None: nobody looks at them."""
    watchers: list[Callable[[], object]] = field(default_factory=list)
    """Called when a connection has gone, or has failed to become one."""
    requests: int = 0
    """Requests given to the application so far."""
    wakeups: Wakeups = field(init=False)
    patrol: Patrol = field(init=False)
    execute: Callable[[Callable[[], object]], object] = field(init=False)
    """Hands a callable to a thread. Raises RuntimeError where the executor is shut down."""
    waiting: Callable[[], int] = field(init=False)
    """Number of requests that wait for a thread; an embedder's executor keeps that to itself."""

    def __post_init__(self) -> None:
        self.wakeups = Wakeups(self.loop)
        self.patrol = Patrol(self.loop, self.timeouts.shortest())
        pool = self.executor
        if isinstance(pool, WorkerPool):
            self.execute, self.waiting = pool.execute, pool.waiting
        else:
            self.execute, self.waiting = pool.submit, int

    def queue_full(self) -> bool:
        """Whether no further request may wait for a thread."""
        return self.waiting() >= self.queue_size

    def leave(self, connection: Connection) -> None:
        """A connection has gone."""
        self.patrol.forget(connection)
        self.connections.discard(connection)
        self.notice()

    def notice(self) -> None:
        """Tell the watchers that there may be one connection less."""
        for watcher in self.watchers:
            watcher()
