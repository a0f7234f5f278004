"""One request and its response, as the worker thread sees them.

The loop makes an `Exchange`, lends it the connection's `Outlet` and gives `run` to the pool. The
worker builds the environ, runs the application and sends. Neither touches the other's part again,
but through the outlet, the body and `Disconnected`, which each say how.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from time import monotonic, time
from typing import IO, Final

from aiowsgi.bridge.disconnected import Disconnected
from aiowsgi.bridge.outlet import Outlet
from aiowsgi.bridge.request_body import StreamedBody
from aiowsgi.environ import Peer, build_environ
from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.file_wrapper import FileRange
from aiowsgi.http1.events import Request
from aiowsgi.http1.response import Fields, ResponseContext, check_fields, http_date
from aiowsgi.wsgi import Environ, Response, WSGIApplication, run_application

__all__ = ["CONTINUE", "Body", "Exchange", "Service"]

logger = logging.getLogger("aiowsgi.server")

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Asks a client for the content that it holds back (RFC 9110 section 15.2.1)."""

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Service:
    """What all exchanges of a server share."""

    def __init__(
        self, app: WSGIApplication, environ: Environ, *, server: str, send_date: bool
    ) -> None:
        """``environ`` is `base_environ`'s; ``server`` the Server field, empty for none."""
        self.app = app
        self.environ = environ
        self.server = server
        # The server stops: responses from now on end their connections. Set by the loop once.
        self.draining = False
        # Called by the worker when an exchange is over, for the access log and the metrics.
        self.finished: Callable[[Exchange, Response, Environ], None] | None = None
        # Called by the loop when it answered by itself: peer, request if it was read, status, size
        # of the body, and when the request's first byte came.
        self.refused: Callable[[Peer, Request | None, int, int, float], None] | None = None
        self._send_date = send_date
        # The value of Date, and the second that it is for. Two threads that make it anew at the
        # same time make the same; the date is set before the second that vouches for it.
        self._date = ""
        self._date_second = -1

    def date(self) -> str:
        """The value of the Date field for now; empty where none is to be sent."""
        second = int(time())
        if second != self._date_second and self._send_date:
            self._date = http_date(second)
            self._date_second = second
        return self._date


class Body:
    """A request's body as it is given to the application."""

    __slots__ = ("length", "stream", "streamed")

    def __init__(self, stream: IO[bytes], length: int, streamed: StreamedBody | None = None):
        # wsgi.input
        self.stream = stream
        # Bytes that it gives; CHUNKED where only the end will tell.
        self.length = length
        # What the loop feeds; None where the body is complete.
        self.streamed = streamed


class Exchange:
    """A request on its way through a worker thread; a `Sink` for its response."""

    __slots__ = (
        "_body",
        "_outlet",
        "_peer",
        "_response",
        "_service",
        "disconnected",
        "finished_at",
        "queued_at",
        "received_at",
        "request",
        "started_at",
    )

    def __init__(
        self,
        service: Service,
        outlet: Outlet,
        peer: Peer,
        request: Request,
        body: Body,
        received_at: float,
    ) -> None:
        self._service = service
        self._outlet = outlet
        self._peer = peer
        self._body = body
        self._response: Response | None = None
        self.request = request
        self.disconnected = Disconnected()
        # Monotonic seconds: first byte of the request, given to the pool, taken by a thread, last
        # byte of the response sent or kept. 0 for what has not happened.
        self.received_at = received_at
        self.queued_at = monotonic()
        self.started_at = 0.0
        self.finished_at = 0.0
        if body.streamed is not None and request.expect_continue:
            body.streamed.wanted = self._send_continue

    # The worker

    def run(self) -> None:
        """Answer the request; raises nothing. Does nothing where nobody waits for the answer."""
        if not self._outlet.claim(self):
            return
        service = self._service
        self.started_at = monotonic()
        try:
            environ = self._environ()
            response = self._response = Response(self)
            run_application(service.app, environ, response, self)
            self.finished_at = self.finished_at or monotonic()
            if service.finished is not None:
                service.finished(self, response, environ)
        except BaseException:
            # A fault of this server's own: the client must not wait for an answer that never comes.
            logger.exception("internal error in %s", self.describe())
            self._outlet.abort(self)
        finally:
            # Break the cycle, so that everything is freed here and not by the garbage collector.
            self._response = None

    def _environ(self) -> Environ:
        body = self._body
        environ = build_environ(
            self._service.environ, self._peer, self.request, body.stream, body.length
        )
        environ["aiowsgi.disconnected"] = self.disconnected
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
            self._outlet.send(self, (data,), last=False)

    def _send_continue(self) -> None:
        """Ask the client for the body that the application is about to read."""
        self._outlet.send(self, (CONTINUE,), last=False)

    # Sink, for the response

    def context(self) -> ResponseContext:
        """See `Sink`. The connection is kept if request, server and body allow it."""
        request, service = self.request, self._service
        streamed = self._body.streamed
        keep_alive = (
            request.keep_alive
            and not service.draining
            # What is left of a body that was not read would be in the way of the next request.
            and (streamed is None or streamed.whole)
        )
        return ResponseContext(
            request.method == "HEAD",
            request.version == "HTTP/1.1",
            keep_alive,
            service.date(),
            service.server,
        )

    def send(self, *buffers: bytes, last: bool) -> None:
        """See `Sink`."""
        if last:
            self.finished_at = monotonic()
            self._outlet.send(self, buffers, last=True, close=self._closes())
        else:
            self._outlet.send(self, buffers, last=False)

    def send_file(self, head: bytes, part: FileRange) -> None:
        """See `Sink`."""
        self.finished_at = monotonic()
        self._outlet.send_file(self, head, part, close=self._closes())

    def abort(self) -> None:
        """See `Sink`."""
        self._outlet.abort(self)

    def describe(self) -> str:
        """See `Sink`. Printable, whatever the client sent."""
        request = self.request
        return _UNPRINTABLE.sub("?", f"{request.method} {request.target} {request.version}")

    def _closes(self) -> bool:
        return self._response is None or not self._response.keep_alive

    # The loop

    def client_gone(self) -> None:
        """The connection is lost: wake whoever waits for the client."""
        self.disconnected.set()
        if self._body.streamed is not None:
            self._body.streamed.end(ClientDisconnected("the client has closed the connection"))

    def give_up(self) -> None:
        """No thread will take it any more: free what it holds before the pool lets go of it."""
        self._body.stream.close()

    def client_closed(self) -> None:
        """The client sends no more, and probably does not listen either."""
        self.disconnected.set()
