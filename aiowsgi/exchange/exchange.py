"""One request and its response, as the worker thread sees them.

The event loop makes an `Exchange`, assigns the connection's `ResponseOutput` to it and submits
`Exchange.run` to the worker threads. The worker thread builds the environ, calls the application
and sends the response. From then on the two threads share nothing but the output, the body and the
`DisconnectEvent`, each of which says how it may be used.
"""

from __future__ import annotations

import logging
from contextvars import Context
from io import BytesIO
from threading import get_ident
from time import monotonic
from typing import IO, Final, final

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange.app_context import AppContext
from aiowsgi.exchange.disconnect import DisconnectEvent
from aiowsgi.exchange.forked_child import leave_child
from aiowsgi.exchange.interrupts import forget, make_interruptible, outside_application
from aiowsgi.exchange.output import ResponseOutput
from aiowsgi.exchange.record import RequestRecord
from aiowsgi.exchange.request_body import StreamedBody
from aiowsgi.exchange.upgrade import NOT_TAKEN, Upgrade, upgradable
from aiowsgi.http1.messages import Request
from aiowsgi.http1.response import Fields, ResponseContext, check_fields
from aiowsgi.loggers import current_request_id
from aiowsgi.wsgi.environ import EnvironBuilder
from aiowsgi.wsgi.file_wrapper import FileRange
from aiowsgi.wsgi.handler import Environ, Response, ResponseState, WSGIApplication, run_application

__all__ = ["CONTINUE", "Exchange"]

logger = logging.getLogger("aiowsgi.server")

CLIENT_LEFT: Final = 499
"""Status in the access log if the client closed before the response was complete; nginx uses the
same. No client receives it."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Asks a client for the content that it holds back (RFC 9110 section 15.2.1)."""


SWITCHED: Final = 101
"""Status that is logged for a connection that the application took over (RFC 9110 section 15.2.2);
what the application has sent is not known."""


@final
class Exchange:
    """A request on its way through a worker thread, and the `ResponseSink` of its response."""

    __slots__ = (
        "_app_context",
        "_environ",
        "_length",
        "_output",
        "_response",
        "_stream",
        "_streamed",
        "disconnected",
        "record",
        "request",
    )

    def __init__(
        self,
        context: AppContext,
        output: ResponseOutput,
        environ: EnvironBuilder,
        request: Request,
        received_at: float,
    ) -> None:
        """``environ`` builds the request's; ``received_at`` is the time of its first byte.

        The request has no body unless `set_body` adds one.
        """
        self._app_context = context
        self._output = output
        self._environ = environ
        # ``wsgi.input``; None if there is no body.
        self._stream: IO[bytes] | None = None
        # Size of the body in bytes, or CHUNKED.
        self._length = 0
        # What the event loop feeds, while the body still comes; None if it is complete.
        self._streamed: StreamedBody | None = None
        # Made by the worker thread; None before and afterwards.
        self._response: Response | None = None
        self.request = request
        self.record = RequestRecord(
            request, environ.client, context.next_id(), received_at, monotonic()
        )
        self.disconnected = DisconnectEvent()

    # The event loop, before a worker thread starts

    def set_body(
        self, stream: IO[bytes], length: int, streamed: StreamedBody | None = None
    ) -> Exchange:
        """Add a body, before the exchange is submitted; see `EnvironBuilder`.

        ``streamed`` is what ``stream`` reads from, if the body still comes.
        """
        self._stream, self._length, self._streamed = stream, length, streamed
        if streamed is not None and self.request.expect_continue:
            streamed.ask_first(self._send_continue)
        return self

    def release_body(self) -> None:
        """Free the body now: no thread will read it."""
        if self._stream is not None:
            self._stream.close()

    # The worker thread

    def run(self) -> None:
        """Answer the request; raises nothing. Does nothing if the exchange was cancelled."""
        context, record = self._app_context, self.record
        if not self._output.start(self):
            self.release_body()
            # In this order: see `RequestScheduler.abandon`.
            record.ended = True
            context.abandoned.discard(self.run)
            return
        record.thread_id = ident = get_ident()
        record.started_at = monotonic()
        context.running[ident] = record
        try:
            environ = self._make_environ()
            response = self._response = Response(self)
            # The application's context variables end with the request. Measured: 0.07 µs, and as
            # much again for the call.
            Context().run(self._run_application, environ, response)
            if not record.finished_at:
                self.abort()
                record.cut = True
            if context.finished is not None and not record.overruled:
                usual = not (record.upgraded or record.client_left)
                record.status = response.status if usual else self._final_status(response)
                record.response_bytes = response.body_bytes
                context.finished(record, response, environ)
        except BaseException:
            # A fault of the server's own: the client must not wait for a response for ever.
            self.abort()
            extra = {"request_id": record.request_id}
            logger.exception("internal error in %s", record.describe(), extra=extra)
        finally:
            # Break the cycle, so that everything is freed now and not by the garbage collector.
            self._response = None
            record.ended = True
            if self._stream is not None and self._streamed is None:
                self._stream.close()
            del context.running[ident]
            if context.released is not None:
                context.released(record)

    def _final_status(self, response: Response) -> int:
        """The status for the access log and the metrics."""
        record = self.record
        if record.upgraded:
            return SWITCHED
        incomplete = record.cut or response.state is ResponseState.ABORTED
        return CLIENT_LEFT if record.client_left and incomplete else response.status

    def _run_application(self, environ: Environ, response: Response) -> None:
        context = self._app_context
        current_request_id.set(self.record.request_id)
        app = self._offer(environ) if "HTTP_UPGRADE" in environ else context.app
        if context.interruptible:
            try:
                run_application(make_interruptible(app), environ, response, self)
            finally:
                forget()
        else:
            run_application(app, environ, response, self)
        # An unfinished line must not become the beginning of the next request's.
        context.environ["wsgi.errors"].flush()

    def _make_environ(self) -> Environ:
        stream = BytesIO() if self._stream is None else self._stream
        environ = self._environ.build(self.request, stream, self._length)
        environ["aiowsgi.disconnected"] = self.disconnected
        environ["aiowsgi.request_id"] = self.record.request_id
        if timeout := self._app_context.request_timeout:
            environ["aiowsgi.deadline"] = self.record.started_at + timeout
        environ["wsgi.early_hints"] = self._send_early_hints
        return environ

    def _offer(self, environ: Environ) -> WSGIApplication:
        """The application, which may take the connection over if that is possible."""
        context, request = self._app_context, self.request
        if (
            request.version != "HTTP/1.1"
            or self._stream is not None
            or not self._output.any_thread
            or environ["HTTP_UPGRADE"].lower() in NOT_TAKEN
        ):
            return context.app
        upgrade = Upgrade(self._output, self, self.record)
        return upgradable(context.app, upgrade, context.upgrade_slots)

    def _send_early_hints(self, fields: Fields) -> None:
        """``environ["wsgi.early_hints"]``: send 103 (Early Hints) (RFC 8297) with ``fields``.

        Does nothing for a client of HTTP/1.0, or if the response has begun.
        """
        lines = check_fields(fields)
        response = self._response
        if self.request.version == "HTTP/1.1" and response is not None and not response.begun:
            data = f"HTTP/1.1 103 Early Hints\r\n{lines}\r\n".encode("latin-1")
            with outside_application():
                self._output.send(self, (data,), last=False)

    def _send_continue(self) -> None:
        """Ask the client for the body that the application is about to read.

        Does nothing if the response has begun: the bytes would become a part of it.
        """
        response = self._response
        if response is not None and not response.begun:
            self._output.send(self, (CONTINUE,), last=False)

    # ResponseSink

    def context(self) -> ResponseContext:
        """See `ResponseSink`. The connection is kept if request, server and body allow it."""
        request, streamed = self.request, self._streamed
        app_context = self._app_context
        # The rest of a body that was not read would precede the next request.
        keep_alive = request.keep_alive and (streamed is None or streamed.whole)
        context = app_context.contexts()[
            request.method == "HEAD",
            request.version == "HTTP/1.1",
            keep_alive and not app_context.draining,
        ]
        if app_context.send_id or app_context.send_timing:
            return context._replace(defaults=context.defaults + self._own_fields())
        return context

    def _own_fields(self) -> str:
        """The request's identifier and times, as the operator has asked for them."""
        record = self.record
        lines = f"X-Request-Id: {record.request_id}\r\n" if self._app_context.send_id else ""
        if self._app_context.send_timing:
            # Server-Timing (W3C): durations in milliseconds.
            read = (record.queued_at - record.received_at) * 1000
            queue = (record.started_at - record.queued_at) * 1000
            app = (monotonic() - record.started_at) * 1000
            lines += (
                f"Server-Timing: read;dur={read:.3f}, queue;dur={queue:.3f}, app;dur={app:.3f}\r\n"
            )
        return lines

    def send(self, *buffers: bytes, last: bool) -> None:
        """See `ResponseSink`."""
        if last:
            response = self._response
            close = response is None or not response.keep_alive
            self._output.send(self, buffers, last=True, close=close)
            self.record.finished_at = monotonic()
        else:
            self._output.send(self, buffers, last=False)

    def send_file(self, head: bytes, part: FileRange) -> None:
        """See `ResponseSink`."""
        response = self._response
        close = response is None or not response.keep_alive
        self._output.send_file(self, head, part, close=close)
        self.record.finished_at = monotonic()

    def abort(self) -> None:
        """See `ResponseSink`. Nothing is sent after it."""
        self._output.abort(self)
        self.record.finished_at = self.record.finished_at or monotonic()

    def end_forked_child(self, error: BaseException) -> None:
        """See `ResponseSink`."""
        if self._app_context.forked:
            # Its connection is not there for it, which is no fault of the application's.
            leave_child(None if isinstance(error, ClientDisconnected) else error)

    def describe(self) -> str:
        """See `ResponseSink`."""
        return self.record.describe()

    # The event loop, while a worker thread runs

    @property
    def begun(self) -> bool:
        """Whether the response's head has been sent, or is about to be."""
        response = self._response
        return response is not None and response.begun

    def connection_lost(self) -> None:
        """The connection is gone: tell the application, and wake its thread if it reads."""
        self.record.client_left = True
        self.disconnected.set()
        if self._streamed is not None:
            self._streamed.end(ClientDisconnected("the client has closed the connection"))

    def eof_received(self) -> None:
        """The client sends no more, and probably does not read either."""
        self.disconnected.set()
