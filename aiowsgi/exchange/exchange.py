"""One request and its response, as the worker thread sees them.

The loop makes an `Exchange`, lends it the connection's `ResponseOutput` and gives `run` to the
pool. The worker builds the environ, runs the application and sends. Neither touches the other's
part again, but through the outlet, the body and `DisconnectEvent`, which each say how.
"""

from __future__ import annotations

import logging
from io import BytesIO
from threading import get_ident
from time import monotonic
from typing import IO, Final

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange.app_context import AppContext
from aiowsgi.exchange.disconnect import DisconnectEvent
from aiowsgi.exchange.output import ResponseOutput
from aiowsgi.exchange.record import RequestRecord
from aiowsgi.exchange.request_body import StreamedBody
from aiowsgi.http1.messages import Request
from aiowsgi.http1.response import Fields, ResponseContext, check_fields
from aiowsgi.wsgi.environ import EnvironBuilder
from aiowsgi.wsgi.file_wrapper import FileRange
from aiowsgi.wsgi.handler import Environ, Response, run_application

__all__ = ["CONTINUE", "Exchange"]

logger = logging.getLogger("aiowsgi.server")

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Asks a client for the content that it holds back (RFC 9110 section 15.2.1)."""


class Exchange:
    """A request on its way through a worker thread; a `Sink` for its response."""

    __slots__ = (
        "_environ",
        "_length",
        "_output",
        "_response",
        "_service",
        "_stream",
        "_streamed",
        "disconnected",
        "record",
        "request",
    )

    def __init__(
        self,
        service: AppContext,
        output: ResponseOutput,
        environ: EnvironBuilder,
        request: Request,
        received_at: float,
    ) -> None:
        """``environ`` makes that of the request; ``received_at`` is when that began to come. It
        has no body unless `carry` adds one."""
        self._service = service
        self._output = output
        self._environ = environ
        # wsgi.input, made when the worker begins if there is no body; the bytes that it gives, or
        # CHUNKED; and what the loop feeds, None where the body is complete.
        self._stream: IO[bytes] | None = None
        self._length = 0
        self._streamed: StreamedBody | None = None
        self._response: Response | None = None
        self.request = request
        self.record = RequestRecord(
            request, environ.client, service.next_id(), received_at, monotonic()
        )
        self.disconnected = DisconnectEvent()

    def carry(
        self, stream: IO[bytes], length: int, streamed: StreamedBody | None = None
    ) -> Exchange:
        """Add a body, before the exchange is given to a thread; see `EnvironBuilder`.

        ``streamed`` is what feeds ``stream``, where that still comes.
        """
        self._stream, self._length, self._streamed = stream, length, streamed
        if streamed is not None and self.request.expect_continue:
            streamed.ask_first(self._send_continue)
        return self

    # The worker

    def run(self) -> None:
        """Answer the request; raises nothing. Does nothing where nobody waits for the answer."""
        service, record = self._service, self.record
        if not self._output.start(self):
            self.give_up()
            # In this order: see `ServerState.abandon`.
            record.ended = True
            service.abandoned.discard(self)
            return
        record.thread_id = ident = get_ident()
        record.started_at = monotonic()
        if service.running is not None:
            service.running[ident] = record
        try:
            environ = self._make_environ()
            response = self._response = Response(self)
            run_application(service.app, environ, response, self)
            if not record.finished_at:
                self.abort()
            service.environ["wsgi.errors"].flush()
            if service.finished is not None and not record.overruled:
                record.status, record.response_bytes = response.status, response.body_bytes
                service.finished(record, response, environ)
        except BaseException:
            # A fault of this server's own: the client must not wait for an answer that never comes.
            self.abort()
            logger.exception("internal error in %s", record.describe())
        finally:
            # Break the cycle, so that everything is freed here and not by the garbage collector.
            self._response = None
            record.ended = True
            if self._stream is not None and self._streamed is None:
                self._stream.close()
            if service.running is not None:
                del service.running[ident]
            if service.released is not None:
                service.released(record)

    def _make_environ(self) -> Environ:
        stream = BytesIO() if self._stream is None else self._stream
        environ = self._environ.build(self.request, stream, self._length)
        environ["aiowsgi.disconnected"] = self.disconnected
        environ["aiowsgi.request_id"] = self.record.request_id
        if timeout := self._service.request_timeout:
            environ["aiowsgi.deadline"] = self.record.started_at + timeout
        environ["wsgi.early_hints"] = self._send_early_hints
        return environ

    def _send_early_hints(self, fields: Fields) -> None:
        """``environ["wsgi.early_hints"]``: send 103 (Early Hints) (RFC 8297) with ``fields``.

        Does nothing for a client of HTTP/1.0, and once the response has begun.
        """
        lines = check_fields(fields)
        response = self._response
        if self.request.version == "HTTP/1.1" and response is not None and not response.begun:
            data = f"HTTP/1.1 103 Early Hints\r\n{lines}\r\n".encode("latin-1")
            self._output.send(self, (data,), last=False)

    def _send_continue(self) -> None:
        """Ask the client for the body that the application is about to read.

        Once the response has begun, it would be a part of that.
        """
        response = self._response
        if response is not None and not response.begun:
            self._output.send(self, (CONTINUE,), last=False)

    # Sink, for the response

    def context(self) -> ResponseContext:
        """See `Sink`. The connection is kept if request, server and body allow it."""
        request, streamed = self.request, self._streamed
        service = self._service
        # What is left of a body that was not read would be in the way of the next request.
        keep_alive = request.keep_alive and (streamed is None or streamed.whole)
        context = service.contexts()[
            request.method == "HEAD",
            request.version == "HTTP/1.1",
            keep_alive and not service.draining,
        ]
        if service.send_id or service.send_timing:
            return context._replace(defaults=context.defaults + self._own_fields())
        return context

    def _own_fields(self) -> str:
        """What an operator may want to see of a request in its response."""
        record = self.record
        lines = f"X-Request-Id: {record.request_id}\r\n" if self._service.send_id else ""
        if self._service.send_timing:
            # Server-Timing (W3C): durations in milliseconds.
            read = (record.queued_at - record.received_at) * 1000
            queue = (record.started_at - record.queued_at) * 1000
            app = (monotonic() - record.started_at) * 1000
            lines += (
                f"Server-Timing: read;dur={read:.3f}, queue;dur={queue:.3f}, app;dur={app:.3f}\r\n"
            )
        return lines

    def send(self, *buffers: bytes, last: bool) -> None:
        """See `Sink`."""
        if last:
            response = self._response
            close = response is None or not response.keep_alive
            self._output.send(self, buffers, last=True, close=close)
            self.record.finished_at = monotonic()
        else:
            self._output.send(self, buffers, last=False)

    def send_file(self, head: bytes, part: FileRange) -> None:
        """See `Sink`."""
        response = self._response
        close = response is None or not response.keep_alive
        self._output.send_file(self, head, part, close=close)
        self.record.finished_at = monotonic()

    def abort(self) -> None:
        """See `Sink`. Nothing is sent after it."""
        self._output.abort(self)
        self.record.finished_at = self.record.finished_at or monotonic()

    def describe(self) -> str:
        """See `Sink`."""
        return self.record.describe()

    # The loop

    @property
    def begun(self) -> bool:
        """The response's head has been sent, or is about to be."""
        response = self._response
        return response is not None and response.begun

    def client_gone(self) -> None:
        """The connection is lost: wake whoever waits for the client."""
        self.record.client_left = True
        self.disconnected.set()
        if self._streamed is not None:
            self._streamed.end(ClientDisconnected("the client has closed the connection"))

    def give_up(self) -> None:
        """Nobody will read its body any more: free that before the pool lets go of it."""
        if self._stream is not None:
            self._stream.close()

    def client_closed(self) -> None:
        """The client sends no more, and probably does not listen either."""
        self.disconnected.set()
