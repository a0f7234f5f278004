"""Requests and responses in turn: what comes in is read, and given to the application in order.

`Dialogue` decides what comes next and leaves the work to others: parsing to ``http1``, sending to
the `ResponseOutput`, the application to the pool. How a connection begins and ends, and for how
long it may take, is decided on the floor above, in `Connection`. The states of both, what may
happen in each, and what is then done::

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
* The worker that sends a response does not tell the loop unless it was asked to
  (`ResponseOutput.in_use`) or the connection must close. So SERVING may mean that the exchange is
  long done: every event in this state asks first.
* Nothing raises into the event loop.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from enum import IntEnum
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from aiowsgi.connection.body_buffer import BodyBuffer
from aiowsgi.connection.peer import ProxyTrace, behind_proxies
from aiowsgi.connection.timer_wheel import Timed
from aiowsgi.connection.transport import Line
from aiowsgi.exceptions import ClientDisconnected, RequestBodyError, RequestError
from aiowsgi.exchange.exchange import CONTINUE, Exchange
from aiowsgi.exchange.record import RequestRecord
from aiowsgi.exchange.request_body import (
    BUFFER_SIZE,
    HIGH_WATER,
    PLENTY,
    RECEIVE_SIZE,
    StreamedBody,
    open_stream,
)
from aiowsgi.http1.messages import CHUNKED, END_OF_BODY, NEED_DATA, Request
from aiowsgi.http1.reader import RequestReader
from aiowsgi.http1.response import Fields
from aiowsgi.wsgi.environ import ConnectionInfo, EnvironBuilder

if TYPE_CHECKING:
    from aiowsgi.connection.state import ServerState

__all__ = ["BUSY", "RETRY_AFTER", "ConnectionState", "Dialogue"]

logger = logging.getLogger("aiowsgi.server")

PIPELINE: Final = 64 * 1024
"""Bytes of later requests that are held while one is served. As much as one header section."""

BUSY: Final = "The server is busy."

RETRY_AFTER: Final = (("Retry-After", "1"),)
"""Sent with 503: the queue is expected to be shorter in a second. A guess."""


class ConnectionState(IntEnum):
    """Where a connection stands; see the table in the module's docstring."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    SERVING = 3
    LINGERING = 4
    CLOSED = 5


# Looking a member up on its enum costs as much as a call in Python 3.11, hence names of our own.
_IDLE, _HEAD, _BODY, _SERVING, _LINGERING, _CLOSED = ConnectionState


class Dialogue(Line):
    """See the module's docstring. What begins with an underscore is `Connection`'s too."""

    __slots__ = (
        "_client_closes",
        "_collecting",
        "_environ",
        "_peer",
        "_reader",
        "_received_at",
        "_since",
        "_streamed",
        "state",
    )

    def __init__(self, hub: ServerState) -> None:
        super().__init__(hub)
        self.state = _IDLE
        self._reader = RequestReader(hub.parse_head, hub.limits)
        # Set when the connection is made.
        self._peer: ConnectionInfo
        # Makes the environs; None before the first request.
        self._environ: EnvironBuilder | None = None
        # The client expects that the response in the making is the last one.
        self._client_closes = False
        # When the wait began that the state's time limit is for, monotonic seconds.
        self._since = 0.0
        # When the first byte of the present request came.
        self._received_at = 0.0
        # In BODY: the request, and what has come of its body.
        self._collecting: tuple[Request, BodyBuffer] | None = None
        # In SERVING: the body that still comes; None where it is complete.
        self._streamed: StreamedBody | None = None

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self.state is _SERVING and not self._outlet.in_use():
            self._end_exchange()
        if self.state is _IDLE and (request := self._reader.try_fast_path(data)) is not None:
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
            self._hub.left(exchange.record)

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
            self._collecting = request, BodyBuffer(to_disk=mode == "on")
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
        lendable = self._port.any_thread and request.content_length != CHUNKED
        streamed = StreamedBody(self._wake, PLENTY if lendable else HIGH_WATER)
        if held and streamed.feed(held):
            self._read_on(reading=False)
        self._streamed = streamed
        self._pump_body(streamed)
        stream = open_stream(streamed, RECEIVE_SIZE if lendable else BUFFER_SIZE)
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
            return
        ahead = self._reader.body_remaining
        if ahead and not self._reading and self._port.any_thread:
            streamed.lend(self._outlet.receive_into, ahead)

    def _take_back(self, streamed: StreamedBody) -> None:
        """Go on with a body of which the reading thread may have received a part."""
        if received := streamed.returned():
            self._reader.skip_body(received)
            self._pump_body(streamed)
        if self._streamed is not None and streamed.hungry:
            self._read_on(reading=True)

    # Serving

    def _exchange(self, request: Request) -> Exchange:
        """Raises RequestError, where a trusted proxy makes no sense."""
        hub, environ = self._hub, self._environ
        if environ is None:
            environ = self._environ = EnvironBuilder(hub.service.environ, self._peer)
        if hub.trusted is not None:
            script_name = hub.service.environ["SCRIPT_NAME"]
            request, peer, prefix = behind_proxies(request, self._peer, hub.trusted, script_name)
            if peer is not self._peer:
                environ = EnvironBuilder(hub.service.environ | {"SCRIPT_NAME": prefix}, peer)
        exchange = Exchange(hub.service, self._outlet, environ, request, self._received_at)
        if hub.trusted is not None and hub.trusted.trusts(self._peer.remote_addr or None):
            upstream = ProxyTrace.of(request.fields)
            record = exchange.record
            record.waited_before = upstream.waited
            record.request_id = upstream.request_id or record.request_id
        return exchange

    def _submit(self, exchange: Exchange) -> None:
        """Give a request to the pool."""
        hub = self._hub
        request = exchange.request
        if hub.refuses(exchange):
            exchange.give_up()
            self._refuse(RequestError(503, BUSY), request, RETRY_AFTER, exchange.record)
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
            stopping = RequestError(503, "The server is stopping.")
            self._refuse(stopping, request, record=exchange.record)

    def _refuse(
        self,
        error: RequestError,
        request: Request | None,
        fields: Fields = (),
        record: RequestRecord | None = None,
    ) -> None:
        """Answer instead of the application. ``record`` is that of the request's exchange."""
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
            if record is None:
                peer, received_at = self._peer, self._received_at or monotonic()
                client = peer.remote_addr, int(peer.remote_port or 0)
                record = RequestRecord(request, client, service.next_id(), received_at, 0.0)
            service.refused(record.refused(error.status, max(0, head.length)))
        # Not at once: many refusals in a row would nest.
        self._hub.loop.call_soon(self._attend)

    def _attend(self) -> None:
        """See what the worker wants, or has done. May be called at any time on the loop."""
        if self.state is _CLOSED or self._transport.is_closing():
            return
        self._drain()
        if self._streamed is not None:
            self._take_back(self._streamed)
        if self.state is _SERVING and not self._outlet.in_use():
            self._end_exchange()

    # Between exchanges, and the end

    def _end_exchange(self) -> None:
        """The response is sent: read the next request, or close."""
        if self._transport.is_closing():
            return
        reader = self._reader
        if self._streamed is not None:
            self._take_back(self._streamed)
        if self._streamed is not None:
            # An application may have left it to a thread of its own.
            self._streamed.end(ClientDisconnected("the response is complete, the body is not"))
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
            # What every `Connection` is.
            watched = cast("Timed", self)
            self._hub.patrol.hasten(watched, self._since + self._hub.timeouts.linger)
