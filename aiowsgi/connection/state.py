"""What all connections of one process share: facts, options, and objects that they use together.

A `Connection` is given a `ServerState` and nothing else. Nothing here starts or stops anything; the
server does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from aiowsgi.connection.body_receiver import BodyPolicy
from aiowsgi.connection.deadlines import Timeouts, shortest
from aiowsgi.connection.refusal_log import RefusalLog
from aiowsgi.connection.timer_wheel import Timed, TimerWheel
from aiowsgi.exchange.app_context import AppContext
from aiowsgi.exchange.output_buffer import OutputLimits
from aiowsgi.http1.messages import HeadParser, Limits, Request
from aiowsgi.threads.scheduler import RequestScheduler
from aiowsgi.threads.wakeups import Wakeups

if TYPE_CHECKING:
    from aiowsgi.exchange.exchange import Exchange
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.proxy.headers import TrustedPeers

__all__ = ["ConnectionState", "OpenConnection", "ServerState"]


class ConnectionState(IntEnum):
    """What a connection is doing; the table is in ``connection/connection.py``."""

    IDLE = 0
    """It waits for a request."""
    HEAD = 1
    """A part of a header section has come."""
    BODY = 2
    """A request body is being collected."""
    SERVING = 3
    """A request was given to a worker thread, or was refused, and its response is being sent."""
    LINGERING = 4
    """The last response is sent, and the client is given time to read it and close."""
    CLOSED = 5


class OpenConnection(Timed, Protocol):
    """What the server needs of a `Connection`; the methods are described there."""

    def current_state(self) -> ConnectionState:
        """What it is doing, after noticing that the present response is sent, if it is."""

    def idle_since(self) -> float | None:
        """Since when it waits for a request, monotonic seconds; None if it does not."""

    @property
    def exchange(self) -> Exchange | None:
        """The exchange whose response is not complete."""

    @property
    def incoming(self) -> tuple[Request, str, float]:
        """In BODY: the request, the client's address, and when the first byte came."""

    def drain(self) -> None:
        """Close if it is idle; the server stops."""

    def close_idle(self) -> None:
        """Close a connection that waits for a request."""

    def abort(self) -> None:
        """Close at once."""


@dataclass(slots=True)
class ServerState:
    """See the module's docstring."""

    loop: asyncio.AbstractEventLoop
    context: AppContext
    scheduler: RequestScheduler
    wakeups: Wakeups
    parse_head: HeadParser
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    output_limits: OutputLimits = field(default_factory=OutputLimits)
    bodies: BodyPolicy = field(default_factory=BodyPolicy)
    """How request bodies are received."""
    client_disconnected: Callable[[RequestRecord], object] | None = None
    """Called when a client closes before its response is complete; None if that is not counted."""
    trusted: TrustedPeers | None = None
    """The proxies whose Forwarded and X-Forwarded-* fields are used; None without such proxies."""
    warned_of_proxy: bool = False
    """The log has said that a proxy on this machine is not believed."""
    connections: set[OpenConnection] = field(default_factory=set)
    """The open connections."""
    watchers: list[Callable[[], object]] = field(default_factory=list)
    """Called when a connection was closed, or was accepted and could not be set up."""
    refusal_log: RefusalLog = field(init=False)
    timer_wheel: TimerWheel = field(init=False)
    """Enforces the time limits."""

    def __post_init__(self) -> None:
        self.refusal_log = RefusalLog(self.loop)
        period = shortest(self.timeouts, self.scheduler.options, min_rate=self.bodies.min_rate)
        self.timer_wheel = TimerWheel(self.loop, period)

    def remove(self, connection: OpenConnection) -> None:
        """Forget a connection that was closed."""
        self.timer_wheel.forget(connection)
        self.connections.discard(connection)
        self.notify_watchers()

    def notify_watchers(self) -> None:
        """Tell the watchers that there may be one connection less."""
        for watcher in self.watchers:
            watcher()
