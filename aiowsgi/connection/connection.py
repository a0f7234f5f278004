"""One client's connection: reads requests, hands them to worker threads in order, and closes.

A `Connection` is the asyncio protocol of an accepted socket. It decides what comes next and leaves
the work to others: parsing to ``http1``, bodies to `BodyReceiver`, sending to the `ResponseOutput`
of its `ConnectionTransport`, the application to worker threads. The states of a connection, what
can happen in each, and what is done then::

    state      data                    end of input             time limit exceeded  response sent
    ---------  ----------------------  -----------------------  -------------------  -------------
    IDLE       parse                   close                    close                -
    HEAD       parse                   close                    answer 408           -
    BODY       collect                 close                    answer 408           -
    SERVING    feed the body, or hold  tell the application     answer 503 or 504;   IDLE, or
               the next request                                 or end the body      LINGERING
                                                                with 408; or reset
    LINGERING  drop                    close                    abort                -
    CLOSED     drop                    -                        -                    -

Guarantees:

* One request at a time. Bytes of a later request stay unparsed until the response before it is
  sent; while more than `PIPELINE` bytes of them are held, the socket is not read.
* Nothing raises into the event loop.

The worker thread that sends the end of a response does not wake the event loop, unless it was asked
to (`ResponseOutput.in_use`) or the connection must close. So a connection in SERVING may long be
done with its response: every event begins with `Connection.current_state`, which finds out.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final, cast, final

from aiowsgi.connection.body_receiver import BodyReceiver
from aiowsgi.connection.deadlines import (
    DRAIN_IDLE,
    NEVER,
    Deadline,
    Limit,
    after,
    while_collecting,
    while_idle,
    while_serving,
)
from aiowsgi.connection.peer import ProxyTrace, behind_proxies, ignores_https, peer_of
from aiowsgi.connection.state import ConnectionState, ServerState
from aiowsgi.connection.transport import ConnectionTransport
from aiowsgi.exceptions import ClientDisconnected, RequestBodyError, RequestError
from aiowsgi.exchange.exchange import CONTINUE, Exchange
from aiowsgi.exchange.record import RequestRecord
from aiowsgi.http1.messages import partial_request
from aiowsgi.http1.reader import RequestReader
from aiowsgi.http1.response import Fields
from aiowsgi.wsgi.environ import ConnectionInfo, EnvironBuilder

if TYPE_CHECKING:
    from aiowsgi.exchange.output import ResponseOutput
    from aiowsgi.http1.messages import Request
    from aiowsgi.proxy.protocol import ProxyHeader

__all__ = ["Connection"]

logger = logging.getLogger("aiowsgi.server")

PIPELINE: Final = 64 * 1024
"""Bytes of later requests that are held while one is served. As much as one header section."""

_IGNORED_PROXY: Final = (
    "a proxy on this machine sends X-Forwarded-Proto: https, which is not used, so that the"
    " application takes the request for plain HTTP; start with --proxy-headers, and name the proxy"
    " in --forwarded-allow-ips if it is not on this machine"
)

BUSY: Final = "The server is busy."

OVERDUE: Final = "The application took too long to answer."

RETRY_AFTER: Final = (("Retry-After", "1"),)
"""Sent with 503: the queue is expected to be shorter in a second. A guess."""


# Names of the module: looking up a member of an enum costs as much as a call in Python 3.11.
_IDLE, _HEAD, _BODY, _SERVING, _LINGERING, _CLOSED = ConnectionState


@final
class Connection(asyncio.Protocol):
    """One client's connection; see the module's docstring."""

    __slots__ = (
        "_body",
        "_client_closes",
        "_counted",
        "_environ_builder",
        "_header",
        "_output",
        "_peer",
        "_reader",
        "_received_at",
        "_refused",
        "_server",
        "_since",
        "_transport",
        "state",
        "watched_at",
    )

    def __init__(
        self, server: ServerState, header: ProxyHeader | None = None, *, refused: bool = False
    ) -> None:
        """``header`` is what a proxy sent ahead (PROXY protocol).

        ``refused``: there are too many connections; answer 503 and read no request.
        """
        self._server = server
        self._header = header
        self._refused = refused
        # What it is doing, as far as was noticed; `current_state` notices more.
        self.state = _IDLE
        self._reader = RequestReader(server.parse_head, server.limits)
        # Set by `connection_made`.
        self._transport: ConnectionTransport
        self._output: ResponseOutput
        self._peer: ConnectionInfo
        # Makes the environs; None before the first request.
        self._environ_builder: EnvironBuilder | None = None
        # The client expects the present response to be the connection's last.
        self._client_closes = False
        # When the wait began that the state's time limit is for, monotonic seconds.
        self._since = 0.0
        # When the first byte of the present request came, monotonic seconds.
        self._received_at = 0.0
        # The body of the present request, while it still comes; None if it is complete.
        self._body: BodyReceiver | None = None
        # Bytes in the reader that count in the memory budget.
        self._counted = 0
        # See `Timed`; set by the `TimerWheel` alone.
        self.watched_at = 0

    # Opening

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio once the connection can be used."""
        server = self._server
        raw = cast("asyncio.Transport", transport)
        try:
            self._transport = ConnectionTransport(
                raw, server.loop, server.wakeups, server.output_limits, self._attend
            )
        except OSError as error:
            logger.warning("a connection could not be set up: %s", error)
            raw.abort()
            self.state = _CLOSED
            return
        self._output = self._transport.output
        self._peer = peer_of(transport, self._header)
        self._since = monotonic()
        server.connections.add(self)
        server.timer_wheel.watch(self)
        if self._refused:
            self._refuse(RequestError(503, "There are too many connections."), None, RETRY_AFTER)

    # Its state

    def current_state(self) -> ConnectionState:
        """Return the state, after noticing that the present response is sent, if it is.

        Everything that happens on a connection asks here first; see the module's docstring.
        """
        if self.state is _SERVING and not self._output.in_use():
            self._end_exchange()
        return self.state

    def idle_since(self) -> float | None:
        """Since when the connection waits for a request, monotonic seconds; None if it does not.

        A new connection counts as idle only after a while: its first request is on its way.
        """
        if self.current_state() is not _IDLE:
            return None
        if self._is_new and monotonic() - self._since < DRAIN_IDLE:
            return None
        return self._since

    @property
    def exchange(self) -> Exchange | None:
        """The exchange whose response is not complete."""
        owner = self._output.owner
        return owner if isinstance(owner, Exchange) else None

    @property
    def incoming(self) -> tuple[Request, str, float]:
        """In BODY: the request, the client's address, and when the first byte came."""
        assert self._body is not None
        return self._body.request, self._peer.remote_addr, self._received_at

    @property
    def _is_new(self) -> bool:
        """No response has been sent yet."""
        return self._output.finished_at == 0.0

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        state = self.current_state()
        if state is _IDLE and (request := self._reader.try_fast_path(data)) is not None:
            self._received_at = monotonic()
            self._serve(request)
        elif state < _LINGERING:
            self._reader.feed(data)
            if state is _SERVING:
                self._hold()
            elif state is _BODY:
                self._collect_body()
            else:
                self._read_request()

    def _hold(self) -> None:
        """Bytes came while a request is served: of its body, or of the next request."""
        body = self._body
        if body is not None:
            body.pump()
            self._release_body(body)
        else:
            self._count_buffered()
            budget = self._server.bodies.budget
            if self._reader.buffered > (0 if budget.scarce else PIPELINE):
                self._transport.set_reading(reading=False)

    def _count_buffered(self) -> None:
        """Count the bytes of later or incomplete requests in the memory budget."""
        buffered = self._reader.buffered
        if buffered != self._counted:
            self._server.bodies.budget.add(buffered - self._counted)
            self._counted = buffered

    def _read_request(self) -> None:
        """Parse the next request, if its header section is complete, and begin with it."""
        try:
            request = self._reader.next_request()
        except RequestError as error:
            self._refuse(error, None)
            return
        if self.state is _IDLE and (request is not None or self._reader.started):
            self.state = _HEAD
            self._received_at = self._since = monotonic()
        if request is None:
            self._count_buffered()
            if self.state is _HEAD and self._server.bodies.budget.exhausted:
                self._refuse(RequestError(503, BUSY), None, RETRY_AFTER)
            return
        if self._counted:
            self._count_buffered()
        if request.content_length:
            self._begin_body(request)
        else:
            self._reader.next_body()
            self._serve(request)

    def eof_received(self) -> bool:
        """Called by asyncio when the client sends no more; True keeps the connection open."""
        self._transport.eof = True
        if self.current_state() is not _SERVING:
            return False
        owner = self._output.owner
        if isinstance(owner, Exchange):
            self._report_disconnect(owner)
            owner.eof_received()
        if self._body is not None:
            self._body.end(ClientDisconnected("the client closed before its body was whole"))
        return True

    def _report_disconnect(self, exchange: Exchange) -> None:
        server = self._server
        if server.client_disconnected is not None and not exchange.disconnected.is_set():
            server.client_disconnected(exchange.record)

    # Request bodies

    def _begin_body(self, request: Request) -> None:
        policy = self._server.bodies
        if policy.budget.exhausted:
            # The connection is closed: the body, which still comes, is not read.
            self._refuse(RequestError(503, BUSY), request, RETRY_AFTER)
            return
        body = self._body = BodyReceiver(request, self._reader, self._transport, policy)
        if body.stream is not None:
            self._serve(request, body)
            return
        if request.expect_continue:
            # If the client has gone, the event loop hears of it by itself.
            with suppress(ClientDisconnected):
                self._output.send_interim(CONTINUE)
        self.state = _BODY
        self._collect_body()

    def _collect_body(self) -> None:
        """Collect what has come of a body, until the application can start."""
        body = self._body
        assert body is not None
        self._since = monotonic()
        try:
            if body.collect():
                self._serve(body.request, body)
        except RequestError as error:
            self._refuse(error, body.request)
        except OSError as error:
            self._refuse_unstored(error, body.request)

    def _resume_body(self, body: BodyReceiver) -> None:
        """Continue with a streamed body of which the application may have read a part."""
        body.resume()
        self._release_body(body)

    def _release_body(self, body: BodyReceiver) -> None:
        """Let go of a streamed body once it is complete."""
        if body.complete:
            self._body = None
            # Otherwise it would not be noticed that the client closes.
            self._transport.set_reading(reading=self._reader.buffered <= PIPELINE)

    # Serving

    def _serve(self, request: Request, body: BodyReceiver | None = None) -> None:
        """Give a request to the application, with what has come of its body."""
        try:
            if body is not None and body.stream is not None:
                body.pump()
                self._release_body(body)
            exchange = self._make_exchange(request)
            if body is not None:
                body.attach_to(exchange)
        except RequestError as error:
            self._refuse(error, request)
        except OSError as error:
            self._refuse_unstored(error, request)
        else:
            if body is not None and body.complete:
                self._body = None
            self._submit(exchange)

    def _make_exchange(self, request: Request) -> Exchange:
        """Raises RequestError if a trusted proxy's fields are malformed."""
        server, builder = self._server, self._environ_builder
        context = server.context
        if builder is None:
            builder = self._environ_builder = EnvironBuilder(context.environ, self._peer)
            # Only here, so that later requests of the connection do not pay for it.
            if not server.warned_of_proxy and ignores_https(request, self._peer, server.trusted):
                server.warned_of_proxy = True
                logger.warning(_IGNORED_PROXY)
        trusted = server.trusted
        if trusted is None:
            return Exchange(context, self._output, builder, request, self._received_at)
        script_name = context.environ["SCRIPT_NAME"]
        request, peer, prefix = behind_proxies(request, self._peer, trusted, script_name)
        if peer is not self._peer:
            builder = EnvironBuilder(context.environ | {"SCRIPT_NAME": prefix}, peer)
        exchange = Exchange(context, self._output, builder, request, self._received_at)
        if trusted.trusts(self._peer.remote_addr or None):
            trace, record = ProxyTrace.of(request.fields), exchange.record
            record.waited_before = trace.waited
            record.request_id = trace.request_id or record.request_id
        return exchange

    def _submit(self, exchange: Exchange) -> None:
        """Give an exchange to the worker threads, or refuse it if too many wait for one."""
        server = self._server
        request = exchange.request
        if server.scheduler.refuses(exchange):
            exchange.release_body()
            self._refuse(_busy(), request, RETRY_AFTER, exchange.record)
            return
        self.state = _SERVING
        self._client_closes = not request.keep_alive
        # If the next request is here already, or the client's end, it is continued with at once.
        buffered = self._reader.buffered
        self._output.assign(exchange, notify=self._transport.eof or buffered > 0)
        if buffered > PIPELINE and self._body is None:
            self._transport.set_reading(reading=False)
        try:
            server.scheduler.submit(exchange)
        except RuntimeError:
            # The embedding program has shut its executor down before the server.
            self._output.cancel(exchange, only_queued=True)
            exchange.release_body()
            stopping = RequestError(503, "The server is stopping.", keeps_connection=True)
            self._refuse(stopping, request, record=exchange.record)

    # Refusing

    def _refuse(
        self,
        error: RequestError,
        request: Request | None,
        fields: Fields = (),
        record: RequestRecord | None = None,
    ) -> None:
        """Answer instead of the application. ``record`` is that of the request's exchange."""
        context = self._server.context
        # What comes of a body after this would be taken for the next request.
        keep = (
            error.keeps_connection
            and request is not None
            and request.keep_alive
            and not context.draining
            and (self._body is None or self._body.complete)
        )
        if self._body is not None:
            self._body.close()
            self._body = None
        head = context.answer(
            error,
            context.context(
                head_only=request is not None and request.method == "HEAD",
                http_11=request is None or request.version == "HTTP/1.1",
                keep_alive=keep,
            ),
            fields,
        )
        self.state = _SERVING
        self._client_closes = False
        with suppress(ClientDisconnected):
            self._output.answer(head.data, close=not head.keep_alive)
        if record is None:
            record = self._record_of(request)
        self._server.refusal_log.add(record, error)
        if context.refused is not None:
            context.refused(record.refused(error.status, max(0, head.length)))
        # Not at once: many refused requests in a row would nest.
        self._server.loop.call_soon(self._attend)

    def _record_of(self, request: Request | None) -> RequestRecord:
        """The record of a request that has no exchange, with what was read of its request line."""
        if request is None and (line := self._reader.request_line):
            request = partial_request(line)
        peer, received_at = self._peer, self._received_at or monotonic()
        client = peer.remote_addr, int(peer.remote_port or 0)
        return RequestRecord(request, client, self._server.context.next_id(), received_at, 0.0)

    def _refuse_unstored(self, error: OSError, request: Request) -> None:
        logger.error("a request body cannot be stored: %s", error)
        self._refuse(RequestError(507, "There is no room for the request's content."), request)

    # Between requests

    def _attend(self) -> None:
        """Send what a worker thread left, and notice what it has done. Called at any time."""
        if self.state is _CLOSED or self._transport.is_closing():
            return
        self._transport.drain()
        if (hand_over := self._output.hand_over) is not None:
            # The application has taken the connection over.
            self._transport.set_reading(reading=False)
            hand_over(self._reader.take_rest())
        if self._body is not None and self._body.stream is not None:
            self._resume_body(self._body)
        self.current_state()

    def _end_exchange(self) -> None:
        """The response is sent: read the next request, or close."""
        if self._transport.is_closing():
            return
        if self._body is not None:
            self._resume_body(self._body)
        if self._body is not None:
            # An application may have left the reading to a thread of its own.
            self._body.end(ClientDisconnected("the response is complete, the body is not"))
        # A server that stops does not close here: the client was promised that the connection is
        # kept, and its next request may be on its way. See `drain`.
        if self._output.must_close:
            self._linger()
            return
        self.state = _IDLE
        self._since = self._output.finished_at
        if not self._transport.reading:
            self._transport.set_reading(reading=True)
        if self._reader.buffered:
            self._read_request()
        if self._transport.eof and self.state is not _SERVING:
            self._transport.close()

    # Time limits

    def check_deadlines(self, now: float) -> float:
        """Act on a time limit that is exceeded; see `Timed`."""
        deadline = self._next_deadline(now)
        if deadline.when <= now:
            self._exceeded(deadline.limit)
        return deadline.when

    def _next_deadline(self, now: float) -> Deadline:
        state = self.current_state()
        timeouts = self._server.timeouts
        if state is _IDLE:
            draining = self._server.context.draining
            deadline = while_idle(timeouts, self._since, is_new=self._is_new, draining=draining)
            self._forget_last_request()
        elif state is _HEAD:
            deadline = after(self._since, timeouts.header, Limit.HEADER)
        elif state is _BODY:
            assert self._body is not None
            deadline = while_collecting(timeouts, self._since, self._body, now)
        elif state is _SERVING:
            self._output.check_progress()
            options = self._server.scheduler.options
            deadline = while_serving(
                timeouts, options, self._output, self.exchange, self._body, now
            )
        elif state is _LINGERING:
            deadline = after(self._since, timeouts.linger, Limit.LINGER)
        else:
            deadline = NEVER
        return deadline

    def _exceeded(self, limit: Limit) -> None:
        """A time limit is exceeded."""
        if limit is Limit.KEEP_ALIVE:
            self._transport.close()
        elif limit is Limit.HEADER:
            self._refuse(RequestError(408, "The header section took too long."), None)
        elif limit is Limit.BODY:
            self._end_body(408, "The content took too long.")
        elif limit is Limit.BODY_RATE:
            self._end_body(408, "The content came too slowly.")
        elif limit is Limit.WRITE:
            self._transport.reset()
        elif limit is Limit.LINGER:
            self._transport.abort()
        elif (exchange := self.exchange) is not None:
            act = self._queued_too_long if limit is Limit.QUEUE else self._runs_too_long
            act(exchange)

    def _end_body(self, status: int, detail: str) -> None:
        """The rest of the body is not waited for."""
        body = self._body
        assert body is not None
        if self.state is _BODY:
            self._refuse(RequestError(status, detail), body.request)
        else:
            body.end(RequestBodyError(status, detail))

    def _queued_too_long(self, exchange: Exchange) -> None:
        if self._output.cancel(exchange, only_queued=True):
            self._server.scheduler.abandon(exchange)
            self._refuse(_busy(), exchange.request, RETRY_AFTER, exchange.record)

    def _runs_too_long(self, exchange: Exchange) -> None:
        if not self._output.cancel(exchange, only_queued=False):
            return
        # What its worker thread still sends is dropped from now on.
        self._server.scheduler.detach(exchange.record)
        exchange.connection_lost()
        if exchange.begun:
            self._transport.reset()
        else:
            exchange.record.overruled = True
            # The log has the thread's stack under the same identifier.
            detail = f"{OVERDUE} Its identifier is {exchange.record.request_id}."
            error = RequestError(504, detail, keeps_connection=True)
            self._refuse(error, exchange.request, record=exchange.record)

    def _forget_last_request(self) -> None:
        """Release what is kept for a similar request: an idle connection shall be small."""
        self._reader.clear_cache()
        if self._environ_builder is not None:
            self._environ_builder.clear_cache()

    # Closing

    def drain(self) -> None:
        """The server stops: close if the connection was idle for `DRAIN_IDLE` seconds.

        Call this again until the connection has gone: its next response will be its last.
        """
        state = self.current_state()
        if state is _IDLE and monotonic() - self._since >= DRAIN_IDLE:
            self._transport.close()
        elif self._output.hand_over is not None and state is _SERVING:
            self._output.end_input()

    def close_idle(self) -> None:
        """Close a connection that waits for a request."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once, whatever it is doing."""
        self._transport.abort()

    def _linger(self) -> None:
        """Close, in two steps if the client may still be sending (RFC 9112 section 9.6).

        Closing with unread bytes in the kernel sends a reset, which can destroy the response before
        the client has read it.
        """
        self._since = monotonic()
        self.state = _LINGERING
        if self._transport.eof or (self._client_closes and self._body is None):
            self._transport.close()
        else:
            self._transport.half_close()
            server = self._server
            server.timer_wheel.hasten(self, self._since + server.timeouts.linger)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Called by asyncio, once."""
        if self.state is _CLOSED:
            return
        self.state = _CLOSED
        owner, started = self._transport.lost()
        if (hand_over := self._output.hand_over) is not None:
            hand_over(b"")
        if isinstance(owner, Exchange):
            self._report_disconnect(owner)
            owner.connection_lost()
            if not started:
                self._server.scheduler.drop(owner)
        if self._body is not None:
            self._body.close()
            self._body = None
        self._server.bodies.budget.add(-self._counted)
        self._server.remove(self)

    # What a TLS transport says of its own buffer

    def pause_writing(self) -> None:
        """Called by a transport that holds enough."""
        self._transport.set_writable(writable=False)

    def resume_writing(self) -> None:
        """Called by a transport that can take more."""
        self._transport.set_writable(writable=True)


def _busy() -> RequestError:
    return RequestError(503, BUSY, keeps_connection=True)
