"""One client's connection: the transport on one side, the reader and the exchanges on the other.

It decides what comes next and leaves the work to others: parsing to ``http1``, sending to its
`Outlet`, the application to the pool, time limits to the `Patrol`. Its states, what may happen in
each, and what it then does::

    state      data                    end of input             time is up            response sent
    ---------  ----------------------  -----------------------  --------------------  --------------
    IDLE       parse                   close                    close                 -
    HEAD       parse                   close                    408                   -
    BODY       collect                 close                    408                   -
    SERVING    feed the body, or hold  tell the application     503; or end the body  IDLE, or
               the next request                                 with 408; or abort    LINGERING
    LINGERING  drop                    close                    abort                 -
    CLOSED     -                       -                        -                     -

The laws:

* One request at a time. Bytes of a later one stay unparsed until the exchange before is done;
  beyond `PIPELINE` bytes the socket is not read.
* The worker that sends a response does not tell the loop unless it was asked to (`Outlet.in_use`)
  or the connection must close. So SERVING may mean that the exchange is long done: every event
  in this state asks first.
* Nothing raises into the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from enum import IntEnum
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from aiowsgi.bridge.exchange import CONTINUE, Exchange
from aiowsgi.bridge.request_body import StreamedBody, open_stream
from aiowsgi.endpoints import Upstream, behind_proxies, peer_of
from aiowsgi.environ import Peer, PeerEnviron
from aiowsgi.exceptions import ClientDisconnected, RequestBodyError, RequestError
from aiowsgi.http1.events import END_OF_BODY, NEED_DATA, Request
from aiowsgi.http1.reader import RequestReader
from aiowsgi.http1.response import Fields
from aiowsgi.intake import Intake
from aiowsgi.line import Line

if TYPE_CHECKING:
    from aiowsgi.hub import Hub
    from aiowsgi.proxy_protocol import ProxyHeader

__all__ = ["Connection", "State"]

logger = logging.getLogger("aiowsgi.server")

PIPELINE: Final = 64 * 1024
"""Bytes of later requests that are held while one is served. As much as one header section."""

DRAIN_IDLE: Final = 1.0
"""Seconds without a request after which a kept connection is closed when the server stops. A busy
client's next request is on its way already; it is answered, with ``Connection: close``."""

BUSY: Final = "The server is busy."

RETRY_AFTER: Final = (("Retry-After", "1"),)
"""Sent with 503: the queue is expected to be shorter in a second. A guess."""


class State(IntEnum):
    """Where a connection stands; see the table in the module's docstring."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    SERVING = 3
    LINGERING = 4
    CLOSED = 5


# Looking a member up on its enum costs as much as a call in Python 3.11, hence names of our own.
_IDLE, _HEAD, _BODY, _SERVING, _LINGERING, _CLOSED = State


class Connection(Line):
    """See the module's docstring. The methods stand in the order of a connection's life."""

    __slots__ = (
        "_client_closes",
        "_collecting",
        "_environ",
        "_header",
        "_peer",
        "_reader",
        "_received_at",
        "_refused",
        "_since",
        "_streamed",
        "state",
        "watched_at",
    )

    def __init__(
        self, hub: Hub, header: ProxyHeader | None = None, *, refused: bool = False
    ) -> None:
        """``header`` is what a proxy has sent ahead; ``refused`` answers 503 and no request."""
        super().__init__(hub)
        self._header = header
        self._refused = refused
        self.state = _IDLE
        # The patrol's own; see `Watched`.
        self.watched_at = 0
        self._reader = RequestReader(hub.parse_head, hub.limits)
        # Set by connection_made.
        self._peer: Peer
        # Makes the environs; None before the first request.
        self._environ: PeerEnviron | None = None
        # The client expects that the response in the making is the last one.
        self._client_closes = False
        # When the wait began that the state's time limit is for, monotonic seconds.
        self._since = 0.0
        # When the first byte of the present request came.
        self._received_at = 0.0
        # In BODY: the request, and what has come of its body.
        self._collecting: tuple[Request, Intake] | None = None
        # In SERVING: the body that still comes; None where it is complete.
        self._streamed: StreamedBody | None = None

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

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self.state is _SERVING and not self._outlet.in_use():
            self._end_exchange()
        if self.state is _IDLE and (request := self._reader.next_at_once(data)) is not None:
            self._received_at = monotonic()
            try:
                self._submit(self._exchange(request))
            except RequestError as error:
                self._refuse(error, request)
        else:
            self._ON_DATA[self.state](self, data)

    def _parse(self, data: bytes) -> None:
        self._reader.feed(data)
        self._read_request()

    def _collect(self, data: bytes) -> None:
        self._reader.feed(data)
        self._collect_body()

    def _hold(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._streamed is not None:
            self._pump_body(self._streamed)
        elif self._reader.buffered > PIPELINE:
            self._read_on(reading=False)

    def _drop(self, data: bytes) -> None:
        """Nobody wants it any more."""

    _ON_DATA = (_parse, _parse, _collect, _hold, _drop, _drop)

    def _read_request(self) -> None:
        """Parse the next request, if it is complete, and go on with it."""
        try:
            request = self._reader.next_request()
        except RequestError as error:
            self._refuse(error, None)
            return
        if self.state is _IDLE and (request is not None or self._reader.started):
            self.state = _HEAD
            self._received_at = self._since = monotonic()
        if request is not None:
            try:
                self._begin_body(request)
            except RequestError as error:
                self._refuse(error, request)

    def eof_received(self) -> bool:
        """Called by the transport; True keeps it open for the response."""
        self._eof = True
        if self.state is _SERVING and not self._outlet.in_use():
            self._end_exchange()
        if self.state is not _SERVING:
            return False
        owner = self._outlet.owner
        if isinstance(owner, Exchange):
            self._count_as_left(owner)
            owner.client_closed()
        if self._streamed is not None:
            self._streamed.end(ClientDisconnected("the client closed before its body was whole"))
        return self._can_close_by_half

    def _count_as_left(self, exchange: Exchange) -> None:
        if self._hub.left is not None and not exchange.disconnected.is_set():
            self._hub.left(exchange)

    # Request bodies

    def _begin_body(self, request: Request) -> None:
        mode = self._hub.request_buffering
        if request.content_length == 0:
            self._reader.next_body()
            self._submit(self._exchange(request))
        elif mode == "off" or (mode == "auto" and request.expect_continue):
            self._stream_body(request, b"")
        else:
            if request.expect_continue:
                # If the client has gone, the loop has been told.
                with suppress(ClientDisconnected):
                    self._outlet.send(None, (CONTINUE,), last=False)
            self._collecting = request, Intake(to_disk=mode == "on")
            self.state = _BODY
            self._collect_body()

    def _collect_body(self) -> None:
        """Hold what has come of a body, until it is complete or too much to hold."""
        assert self._collecting is not None
        request, intake = self._collecting
        self._since = monotonic()
        try:
            while (event := self._reader.next_body()) is not NEED_DATA:
                if event is END_OF_BODY:
                    exchange = self._exchange(request).carry(intake.open(), intake.size)
                    self._collecting = None
                    self._submit(exchange)
                    return
                intake.add(event)
                if intake.full:
                    self._collecting = None
                    self._stream_body(request, intake.take())
                    return
        except RequestError as error:
            self._refuse(error, request)
        except OSError as error:
            logger.error("a request body cannot be kept: %s", error)
            self._refuse(RequestError(507, "There is no room for the request's content."), request)

    def _stream_body(self, request: Request, held: bytes) -> None:
        """Start the application while its body still comes, behind what was held of it."""
        streamed = StreamedBody(self._wake)
        if held:
            streamed.feed(held)
        self._streamed = streamed
        self._pump_body(streamed)
        stream = open_stream(streamed)
        self._submit(self._exchange(request).carry(stream, request.content_length, streamed))

    def _pump_body(self, streamed: StreamedBody) -> None:
        """Pass on to the application what has come of its body."""
        try:
            while (event := self._reader.next_body()) is not NEED_DATA:
                if event is END_OF_BODY:
                    streamed.end()
                    self._streamed = None
                    # Else nobody would see the client go.
                    self._read_on(reading=self._reader.buffered <= PIPELINE)
                    return
                if streamed.feed(event):
                    self._read_on(reading=False)
        except RequestError as error:
            streamed.end(RequestBodyError(error.status, error.detail))

    # Serving

    def _exchange(self, request: Request) -> Exchange:
        """Raises RequestError, where a trusted proxy makes no sense."""
        hub, environ = self._hub, self._environ
        if environ is None:
            environ = self._environ = PeerEnviron(hub.service.environ, self._peer)
        if hub.trusted is not None:
            script_name = hub.service.environ["SCRIPT_NAME"]
            request, peer, prefix = behind_proxies(request, self._peer, hub.trusted, script_name)
            if peer is not self._peer:
                environ = PeerEnviron(hub.service.environ | {"SCRIPT_NAME": prefix}, peer)
        exchange = Exchange(hub.service, self._outlet, environ, request, self._received_at)
        if hub.trusted is not None and hub.trusted.trusts(self._peer.remote_addr or None):
            upstream = Upstream.of(request.fields)
            exchange.waited_before = upstream.waited
            exchange.request_id = upstream.request_id or exchange.request_id
        return exchange

    def _submit(self, exchange: Exchange) -> None:
        """Give a request to the pool."""
        hub = self._hub
        request = exchange.request
        if hub.refuses(exchange):
            exchange.give_up()
            self._refuse(RequestError(503, BUSY), request, RETRY_AFTER)
            return
        self.state = _SERVING
        self._client_closes = not request.keep_alive
        # A next request that is here already, or the client's end, is gone on with at once.
        self._outlet.lend(exchange, notify=self._eof or self._reader.buffered > 0)
        try:
            hub.submit(exchange)
        except RuntimeError:
            # The embedder's executor was shut down before the server was.
            exchange.give_up()
            self._refuse(RequestError(503, "The server is stopping."), request)

    def _refuse(self, error: RequestError, request: Request | None, fields: Fields = ()) -> None:
        """Answer a request that no application will see."""
        service = self._hub.service
        if self._collecting is not None:
            self._collecting[1].close()
            self._collecting = None
        # Only an overload leaves the connection in a state to go on, if nothing more is to come.
        keep = (
            error.status == 503
            and request is not None
            and request.keep_alive
            and not service.draining
            and self._streamed is None
        )
        context = service.context(
            head_only=request is not None and request.method == "HEAD",
            http_11=request is None or request.version == "HTTP/1.1",
            keep_alive=keep,
        )
        head = service.answer(error, context, fields)
        self.state = _SERVING
        self._client_closes = False
        self._streamed = None
        self._outlet.lend(self)
        with suppress(ClientDisconnected):
            self._outlet.send(self, (head.data,), last=True, close=not keep)
        if service.refused is not None:
            size = max(0, head.length)
            service.refused(self._peer, request, error.status, size, self._received_at)
        # Not at once: many refusals in a row would nest.
        self._hub.loop.call_soon(self._attend)

    def _attend(self) -> None:
        """See what the worker wants, or has done. May be called at any time on the loop."""
        if self.state is _CLOSED or self._transport.is_closing():
            return
        self._drain()
        if self._streamed is not None and self._streamed.hungry:
            self._read_on(reading=True)
        if self.state is _SERVING and not self._outlet.in_use():
            self._end_exchange()

    # Between exchanges, and the end

    def _end_exchange(self) -> None:
        """The response is sent: read the next request, or close."""
        if self._transport.is_closing():
            return
        reader = self._reader
        # Not where the server drains: the client was promised that the connection stays, and its
        # next request may be on its way. See `drain`.
        if self._outlet.closing:
            self._linger()
            return
        self.state = _IDLE
        self._since = self._outlet.finished_at
        if not self._reading:
            self._read_on(reading=True)
        if reader.buffered:
            self._read_request()
        if self._eof and self.state is not _SERVING:
            self._transport.close()

    def _linger(self) -> None:
        """Close, in stages where the client may still be sending (RFC 9112 section 9.6).

        A close with unread bytes in the kernel is a reset, and a reset can destroy the response
        before the client has read it.
        """
        self._since = monotonic()
        self.state = _LINGERING
        if self._eof or (self._client_closes and self._streamed is None):
            self._transport.close()
        else:
            self._close_by_half()
            self._hub.patrol.hasten(self, self._since + self._hub.timeouts.linger)

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
        """Act on what is overdue; called by the `Patrol`."""
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
        self._reader.forget()
        if self._environ is not None:
            self._environ.forget()
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
            look = self._look_running if owner.started_at else self._look_queued
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
        deadline = _after(exchange.queued_at - exchange.waited_before, hub.timeouts.queue)
        if deadline <= now and self._outlet.revoke(exchange, unless_claimed=True):
            hub.abandon(exchange)
            self._refuse(RequestError(503, BUSY), exchange.request, RETRY_AFTER)
        return deadline

    def _look_running(self, exchange: Exchange, now: float) -> float:
        if exchange.finished_at:
            # What is left is the client's to read, and the thread's to close.
            return inf
        deadline = _after(exchange.started_at, self._hub.timeouts.request)
        if deadline <= now and self._outlet.revoke(exchange, unless_claimed=False):
            # Whatever its thread still gives goes nowhere now.
            self._hub.overtime.detach(exchange)
            exchange.client_gone()
            if exchange.begun:
                self._tear()
            else:
                exchange.overruled = True
                overdue = RequestError(504, "The application took too long to answer.")
                self._refuse(overdue, exchange.request)
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
