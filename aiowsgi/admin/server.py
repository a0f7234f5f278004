"""A small HTTP server for the admin endpoint: requests to handlers by path.

It runs on the event loop of the supervisor, or of the server if there is one process, so that it
answers however busy the worker threads are. Handlers run on that loop and must not block.

A connection carries one request, GET or HEAD, and is closed after the response: probes and scrapers
ask once in some seconds. Requests are read by the same reader as the application's, with smaller
limits.

The number of connections is bounded, so that clients of this endpoint, which need no token to
connect, cannot use up the descriptors that the application's clients need. At the bound the
connection that has waited longest for its request is closed in favour of a new one: silent
connections cannot keep a probe out.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.messages import HeadParser, Limits, Request
from aiowsgi.http1.reader import RequestReader
from aiowsgi.http1.response import (
    ResponseContext,
    check_head,
    encode_head,
    error_response,
    http_date,
    response_context,
)

if TYPE_CHECKING:
    from aiowsgi.net.listeners import Listeners

__all__ = ["Admin", "Answer", "Feed", "Handler", "Handlers", "Reply", "health"]

logger = logging.getLogger("aiowsgi.admin")

LIMITS: Final = Limits(request_line=2048, header_size=16 * 1024, fields=64, body_size=1)
"""Enough for a probe or a browser. Bodies are not read."""

CONNECTION_TIMEOUT: Final = 10.0
"""Seconds for a connection from beginning to end; of a feed, for the client to read an event."""

MAX_CONNECTIONS: Final = 64
"""Open connections. A guess: a scraper, some probes, and `MAX_FEEDS`."""

MAX_FEEDS: Final = 32
"""Connections that receive events. A guess: each is a browser with the live view open."""

TEXT: Final = "text/plain; charset=utf-8"
EVENTS: Final = "text/event-stream"


class Answer(NamedTuple):
    """A response."""

    body: str
    status: str = "200 OK"
    content_type: str = TEXT
    fields: Sequence[tuple[str, str]] = ()


class Feed(NamedTuple):
    """Server-sent events (WHATWG HTML, section 9.2), sent until the client closes."""

    events: AsyncGenerator[str, None]


Reply: TypeAlias = Answer | Feed | Awaitable[Answer]
Handler: TypeAlias = Callable[[Request], Reply]
Handlers: TypeAlias = Mapping[str, Handler]
"""By path, which is matched as a whole."""


def health(unready: Callable[[], Awaitable[str]]) -> dict[str, Handler]:
    """``/livez`` and ``/readyz``. ``unready`` gives the reason not to send requests, if any.

    ``/livez`` says that this process answers at all. A worker that hangs does not change it: the
    supervisor replaces that, and restarting the container would cut the other workers' requests.
    """

    async def readyz(_: Request) -> Answer:
        reason = await unready()
        return Answer(f"{reason}\n", "503 Service Unavailable") if reason else Answer("ready\n")

    return {"/livez": lambda _: Answer("alive\n"), "/readyz": readyz}


class Admin:
    """Serves handlers on listening sockets, which the caller closes."""

    def __init__(self, parse_head: HeadParser, handlers: Handlers) -> None:
        self._parse_head = parse_head
        self._handlers = handlers
        self._servers: list[asyncio.Server] = []
        self.tasks: list[asyncio.Task[None]] = []
        """Tasks that end with the endpoint."""
        # Open connections, oldest first; a dict is an ordered set.
        self._connections: dict[_Connection, None] = {}

    async def start(self, listeners: Listeners) -> None:
        """Begin to answer, on the running event loop."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            # The event loop closes the socket that it is given. It accepts up to `backlog`
            # connections before the first of them can be counted.
            sock = listener.socket.dup()
            server = await loop.create_server(self._connection, sock=sock, backlog=MAX_CONNECTIONS)
            self._servers.append(server)

    def _connection(self) -> _Connection:
        reader = RequestReader(self._parse_head, LIMITS)
        return _Connection(reader, self._handlers, self._connections)

    def close(self) -> None:
        """Accept no more connections, and end the feeds. Idempotent."""
        for server in self._servers:
            server.close()
        for task in self.tasks:
            task.cancel()
        for connection in tuple(self._connections):
            if connection.is_feed:
                connection.close()


class _Connection(asyncio.Protocol):
    """One request and its response."""

    def __init__(
        self, reader: RequestReader, handlers: Handlers, connections: dict[_Connection, None]
    ) -> None:
        self._reader = reader
        self._handlers = handlers
        # All that are open, this one among them.
        self._connections = connections
        # Events are being sent.
        self.is_feed = False
        # Set by connection_made.
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle
        # Set while the transport can take more.
        self._writable = asyncio.Event()
        self._writable.set()
        # Runs the handler and sends its events; None until the request was read.
        self._task: asyncio.Task[None] | None = None
        # The response was sent, and the client is expected to close.
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(CONNECTION_TIMEOUT, self._transport.abort)
        self._connections[self] = None
        if len(self._connections) > MAX_CONNECTIONS:
            next(each for each in self._connections if each.may_be_dropped).abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Called by the transport."""
        self._connections.pop(self, None)
        self._deadline.cancel()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Called by the transport."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by the transport."""
        self._writable.set()

    @property
    def may_be_dropped(self) -> bool:
        """It waits for its request, or for the client to close after the response."""
        return self._task is None or self._answered

    def abort(self) -> None:
        """Close at once."""
        # Not when the event loop says that the connection is lost: others may come before that.
        self._connections.pop(self, None)
        self._transport.abort()

    def close(self) -> None:
        """Close when the client has read what was sent."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self._answered or self._task is not None:
            return
        self._reader.feed(data)
        try:
            request = self._reader.next_request()
        except RequestError as error:
            self._fail(error)
            return
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._serve(request))

    async def _serve(self, request: Request) -> None:
        try:
            reply = self._reply(request)
            answer = await reply if inspect.isawaitable(reply) else reply
            if isinstance(answer, Feed):
                await self._feed(answer, head_only=request.method == "HEAD")
            else:
                self._finish(_encode(answer, head_only=request.method == "HEAD"))
        except Exception:
            logger.exception("internal error in the admin endpoint, at %s", request.path)
            self._fail(RequestError(500, "Internal error; the server's log has the reason."))

    def _reply(self, request: Request) -> Reply:
        handler = self._handlers.get(request.path)
        if handler is None:
            known = "".join(f"{path}\n" for path in sorted(self._handlers))
            return Answer(f"There is no such page. There are:\n{known}", "404 Not Found")
        if request.method not in {"GET", "HEAD"}:
            allow = [("Allow", "GET, HEAD")]
            return Answer("Only GET and HEAD.\n", "405 Method Not Allowed", fields=allow)
        return handler(request)

    async def _feed(self, feed: Feed, *, head_only: bool) -> None:
        """Send events until the client closes; the deadline then applies to each of them."""
        if sum(connection.is_feed for connection in self._connections) >= MAX_FEEDS:
            self._fail(RequestError(503, f"There are {MAX_FEEDS} live views already."))
            return
        self._deadline.cancel()
        self._transport.write(_encode_start(EVENTS, head_only=head_only))
        self.is_feed = True
        try:
            async with aclosing(feed.events) as events:
                async for event in events:
                    if head_only or self._transport.is_closing():
                        break
                    self._transport.write(event.encode())
                    async with asyncio.timeout(CONNECTION_TIMEOUT):
                        await self._writable.wait()
        except TimeoutError:
            self._transport.abort()
        finally:
            self.is_feed = False
            self._transport.close()

    def _fail(self, error: RequestError) -> None:
        context = _context(head_only=False)
        self._finish(error_response(error.status, error.detail, context).data)

    def _finish(self, response: bytes) -> None:
        self._answered = True
        if not self._transport.is_closing():
            self._transport.write(response)
            try:
                # Closing with bytes unread would reset the connection (RFC 9112 section 9.6).
                self._transport.write_eof()
            except OSError:
                # The client has reset the connection, as probes do that read only the status, and
                # the event loop has not noticed yet.
                self._transport.abort()


def _context(*, head_only: bool, http_11: bool = True) -> ResponseContext:
    return response_context(
        head_only=head_only,
        http_11=http_11,
        keep_alive=False,
        date=http_date(int(time.time())),
        server="",
    )


def _encode(answer: Answer, *, head_only: bool) -> bytes:
    body = answer.body.encode()
    fields = [*_head_fields(answer.content_type), *answer.fields]
    checked = check_head(answer.status, [*fields, ("Content-Length", str(len(body)))])
    head = encode_head(checked, len(body), _context(head_only=head_only)).data
    return head if head_only else head + body


def _encode_start(content_type: str, *, head_only: bool) -> bytes:
    """The head of a body that ends with the connection (RFC 9112 section 6.3)."""
    checked = check_head("200 OK", _head_fields(content_type))
    # Not chunked: the end of the events means nothing.
    return encode_head(checked, None, _context(head_only=head_only, http_11=False)).data


def _head_fields(content_type: str) -> list[tuple[str, str]]:
    return [("Content-Type", content_type), ("Cache-Control", "no-store")]
