"""One client's connection, from its beginning to its end: the upper part of a `Dialogue`.

It is what the acceptor makes, the transport calls, the `TimerWheel` looks at and the server closes.
Who is at the other end, what is overdue, and what is given back at the end, is decided here; the
table of states is in ``connection/dialogue.py``.

Nothing raises into the event loop.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from aiowsgi.connection.dialogue import BUSY, RETRY_AFTER, ConnectionState, Dialogue
from aiowsgi.connection.peer import peer_of
from aiowsgi.exceptions import RequestBodyError, RequestError
from aiowsgi.exchange.exchange import Exchange

if TYPE_CHECKING:
    from aiowsgi.connection.state import ServerState
    from aiowsgi.http1.messages import Request
    from aiowsgi.proxy.protocol import ProxyHeader

__all__ = ["DRAIN_IDLE", "Connection"]

DRAIN_IDLE: Final = 1.0
"""Seconds without a request after which a kept connection is closed when the server stops. A busy
client's next request is on its way already; it is answered, with ``Connection: close``."""

# As in ``connection/dialogue.py``.
_IDLE, _, _, _SERVING, _, _CLOSED = ConnectionState


class Connection(Dialogue):
    """See the module's docstring."""

    __slots__ = ("_header", "_refused", "watched_at")

    def __init__(
        self, hub: ServerState, header: ProxyHeader | None = None, *, refused: bool = False
    ) -> None:
        """``header`` is what a proxy has sent ahead; ``refused`` answers 503 and no request."""
        super().__init__(hub)
        self._header = header
        self._refused = refused
        # The patrol's own; see `Timed`.
        self.watched_at = 0

    # Beginning

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        if not self._take(cast("asyncio.Transport", transport)):
            self.state = _CLOSED
            return
        hub = self._hub
        self._peer = peer_of(transport, self._header)
        self._since = monotonic()
        hub.connections.add(self)
        hub.patrol.watch(self)
        if self._refused:
            self._refuse(RequestError(503, "There are too many connections."), None, RETRY_AFTER)

    # The end

    def drain(self) -> None:
        """The server stops: close if nothing has gone on for `DRAIN_IDLE`. To be called again until
        the connection has gone: the next response will say that it is the last."""
        if self.state is _SERVING and not self._outlet.in_use():
            self._end_exchange()
        if self.state is _IDLE and monotonic() - self._since >= DRAIN_IDLE:
            self._transport.close()

    def idle_since(self) -> float | None:
        """Since when nothing goes on, monotonic seconds; None where something does.

        The first request of a new connection is taken to be on its way, for a while.
        """
        if self.state is _SERVING and not self._outlet.in_use():
            self._end_exchange()
        fresh = self._outlet.finished_at == 0.0 and monotonic() - self._since < DRAIN_IDLE
        return self._since if self.state is _IDLE and not fresh else None

    @property
    def exchange(self) -> Exchange | None:
        """The one whose response is not complete."""
        owner = self._outlet.owner
        return owner if isinstance(owner, Exchange) else None

    @property
    def incoming(self) -> tuple[Request, str, float]:
        """In BODY: the request, the client's address, and when the first byte came."""
        assert self._collecting is not None
        return self._collecting[0], self._peer.remote_addr, self._received_at

    def close_idle(self) -> None:
        """Close a connection on which nothing goes on."""
        self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Called by the transport."""
        if self.state is _CLOSED:
            return
        self._unwatch_writable()
        self.state = _CLOSED
        owner = self._outlet.close()
        if isinstance(owner, Exchange):
            self._count_as_left(owner)
            owner.client_gone()
            if not self._outlet.claimed:
                self._hub.dropped += 1
                self._hub.abandon(owner)
        if self._collecting is not None:
            self._collecting[1].close()
            self._collecting = None
        self._streamed = None
        self._hub.leave(self)

    # Time limits

    def look(self, now: float) -> float:
        """Act on what is overdue; called by the `TimerWheel`."""
        if self.state is _SERVING and not self._outlet.in_use():
            self._end_exchange()
        return self._LOOK[self.state](self, now)

    def _look_idle(self, now: float) -> float:
        timeouts = self._hub.timeouts
        # A connection that has had no request yet is held to the limit for its first one.
        fresh = self._outlet.finished_at == 0.0
        limit = timeouts.header if fresh else timeouts.keep_alive
        if self._hub.service.draining:
            limit = DRAIN_IDLE
        deadline = _after(self._since, limit)
        if deadline <= now:
            self._transport.close()
        # An idle connection shall be small.
        self._reader.clear_cache()
        if self._environ is not None:
            self._environ.clear_cache()
        return deadline

    def _look_head(self, now: float) -> float:
        deadline = _after(self._since, self._hub.timeouts.header)
        if deadline <= now:
            self._refuse(RequestError(408, "The header section took too long."), None)
        return deadline

    def _look_body(self, now: float) -> float:
        assert self._collecting is not None
        request, _ = self._collecting
        deadline = _after(self._since, self._hub.timeouts.body)
        if deadline <= now:
            self._refuse(RequestError(408, "The content took too long."), request)
        return deadline

    def _look_serving(self, now: float) -> float:
        deadline = self._look_client(now)
        owner = self._outlet.owner
        if isinstance(owner, Exchange) and self.state is _SERVING:
            look = self._look_running if owner.record.started_at else self._look_queued
            deadline = min(deadline, look(owner, now))
        return deadline

    def _look_client(self, now: float) -> float:
        """Is it the client that is waited for, to read its response or to send its body?"""
        timeouts = self._hub.timeouts
        if self._outlet.pending:
            deadline = _after(self._outlet.progress_at, timeouts.write)
            if deadline <= now:
                self._tear()
        elif self._streamed is not None:
            deadline = _after(self._streamed.hungry_since, timeouts.body)
            if deadline <= now:
                self._streamed.end(RequestBodyError(408, "The content took too long."))
        else:
            deadline = inf
        return deadline

    def _look_queued(self, exchange: Exchange, now: float) -> float:
        hub = self._hub
        record = exchange.record
        deadline = _after(record.queued_at - record.waited_before, hub.timeouts.queue)
        if deadline <= now and self._outlet.revoke(exchange, unless_claimed=True):
            hub.abandon(exchange)
            self._refuse(RequestError(503, BUSY), exchange.request, RETRY_AFTER, record)
        return deadline

    def _look_running(self, exchange: Exchange, now: float) -> float:
        record = exchange.record
        if record.finished_at:
            # What is left is the client's to read, and the thread's to close.
            return inf
        deadline = _after(record.started_at, self._hub.timeouts.request)
        if deadline <= now and self._outlet.revoke(exchange, unless_claimed=False):
            # Whatever its thread still gives goes nowhere now.
            self._hub.overtime.detach(record)
            exchange.client_gone()
            if exchange.begun:
                self._tear()
            else:
                record.overruled = True
                overdue = RequestError(504, "The application took too long to answer.")
                self._refuse(overdue, exchange.request, record=record)
        return deadline

    def _look_lingering(self, now: float) -> float:
        deadline = _after(self._since, self._hub.timeouts.linger)
        if deadline <= now:
            self._transport.abort()
        return deadline

    def _look_closed(self, now: float) -> float:  # noqa: ARG002
        return inf

    _LOOK = (_look_idle, _look_head, _look_body, _look_serving, _look_lingering, _look_closed)


def _after(since: float, timeout: float) -> float:
    """When ``timeout`` seconds have passed; never, where that is 0."""
    return since + timeout if timeout else inf
