"""The admin endpoint: health and whatever else an operator's tools ask, away from the application.

It is answered on the event loop of the supervisor, or of the server where there is one process, so
it answers however busy the threads are. What there is to ask is a dict from path to handler, given
by who starts it: `health` makes two, others add theirs. A handler runs on the loop and must not
wait for anything.

One request is read on a connection, GET or HEAD, and then it is closed: who asks comes once in
seconds. Requests are read by the same reader as the application's, with small limits.
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
"""What a probe or a browser sends; a body is not even looked at."""

PATIENCE: Final = 10.0
"""Seconds that a connection may take from beginning to end; of a feed, that a listener may take
to read what was sent."""

LISTENERS: Final = 32
"""Feeds at a time. A guess: each is a person who watches."""

TEXT: Final = "text/plain; charset=utf-8"
EVENTS: Final = "text/event-stream"


class Answer(NamedTuple):
    """What a handler says."""

    body: str
    status: str = "200 OK"
    content_type: str = TEXT
    fields: Sequence[tuple[str, str]] = ()


class Feed(NamedTuple):
    """Server-sent events (WHATWG HTML, section 9.2), for as long as somebody listens."""

    events: AsyncGenerator[str, None]


Reply: TypeAlias = Answer | Feed | Awaitable[Answer]
Handler: TypeAlias = Callable[[Request], Reply]
Handlers: TypeAlias = Mapping[str, Handler]
"""By the path, which is matched as a whole."""


def health(unready: Callable[[], Awaitable[str]]) -> dict[str, Handler]:
    """``/livez`` and ``/readyz``. ``unready`` says why no requests should come; empty if they may.

    Ready is who can answer a request before long; ``server/status.py`` says how long that is. Alive
    is who answers at all. A worker that is stuck is the supervisor's business; a container that is
    restarted for it would lose the others' requests too.
    """

    async def readyz(_: Request) -> Answer:
        reason = await unready()
        return Answer(f"{reason}\n", "503 Service Unavailable") if reason else Answer("ready\n")

    return {"/livez": lambda _: Answer("alive\n"), "/readyz": readyz}


class Admin:
    """Serves handlers on listening sockets, which stay their owner's."""

    def __init__(self, parse_head: HeadParser, handlers: Handlers) -> None:
        self._parse_head = parse_head
        self._handlers = handlers
        self._servers: list[asyncio.Server] = []
        # Connections that listen to a feed.
        self._listeners: set[_Connection] = set()

    async def start(self, listeners: Listeners) -> None:
        """Begin to answer, on the running loop."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            # The loop closes the socket that it is given.
            sock = listener.socket.dup()
            self._servers.append(await loop.create_server(self._connection, sock=sock))

    def _connection(self) -> _Connection:
        reader = RequestReader(self._parse_head, LIMITS)
        return _Connection(reader, self._handlers, self._listeners)

    def close(self) -> None:
        """Answer no more connections, and end the feeds. Idempotent."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._listeners):
            connection.close()


class _Connection(asyncio.Protocol):
    """One request and its answer."""

    def __init__(
        self, reader: RequestReader, handlers: Handlers, listeners: set[_Connection]
    ) -> None:
        self._reader = reader
        self._handlers = handlers
        self._listeners = listeners
        # Set by connection_made.
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle
        # Set while the transport can take more.
        self._writable = asyncio.Event()
        self._writable.set()
        # Waits for a handler, or feeds; None while neither is needed.
        self._task: asyncio.Task[None] | None = None
        # The answer is given, and the client is expected to close.
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(PATIENCE, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Called by the transport."""
        self._deadline.cancel()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Called by the transport."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by the transport."""
        self._writable.set()

    def close(self) -> None:
        """Close the connection, once what was sent has been read."""
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
            logger.exception("the admin endpoint failed at %s", request.path)
            self._fail(RequestError(500, "This is a fault of the server's; its log says more."))

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
        """Send events until the listener goes; its own deadline is for each of them."""
        if len(self._listeners) >= LISTENERS:
            self._fail(RequestError(503, "Too many are watching."))
            return
        self._deadline.cancel()
        self._transport.write(_encode_start(EVENTS, head_only=head_only))
        self._listeners.add(self)
        try:
            async with aclosing(feed.events) as events:
                async for event in events:
                    if head_only or self._transport.is_closing():
                        break
                    self._transport.write(event.encode())
                    async with asyncio.timeout(PATIENCE):
                        await self._writable.wait()
        except TimeoutError:
            self._transport.abort()
        finally:
            self._listeners.discard(self)
            self._transport.close()

    def _fail(self, error: RequestError) -> None:
        context = _context(head_only=False)
        self._finish(error_response(error.status, error.detail, context).data)

    def _finish(self, response: bytes) -> None:
        self._answered = True
        if not self._transport.is_closing():
            self._transport.write(response)
            try:
                # A close with something unread would be a reset (RFC 9112 section 9.6).
                self._transport.write_eof()
            except OSError:
                # The client has reset the connection, as some do that only look at the status, and
                # the loop has not noticed yet.
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
    """The head of a body whose end is that of the connection (RFC 9112 section 6.3)."""
    checked = check_head("200 OK", _head_fields(content_type))
    # Chunks would bring nothing: who listens goes when it likes.
    return encode_head(checked, None, _context(head_only=head_only, http_11=False)).data


def _head_fields(content_type: str) -> list[tuple[str, str]]:
    return [("Content-Type", content_type), ("Cache-Control", "no-store")]
