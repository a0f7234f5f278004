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
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.events import HeadParser, Limits, Request
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
    from aiowsgi.sockets import Listeners

__all__ = ["Admin", "Answer", "Handler", "Handlers", "health"]

LIMITS: Final = Limits(request_line=2048, header_size=16 * 1024, fields=64, body_size=1)
"""What a probe or a browser sends; a body is not even looked at."""

PATIENCE: Final = 10.0
"""Seconds that a connection may take from beginning to end."""

TEXT: Final = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What a handler says."""

    body: str
    status: str = "200 OK"
    content_type: str = TEXT
    fields: Sequence[tuple[str, str]] = ()


Handler: TypeAlias = Callable[[Request], Answer]
Handlers: TypeAlias = Mapping[str, Handler]
"""By the path, which is matched as a whole."""


def health(unready: Callable[[], str]) -> dict[str, Handler]:
    """``/livez`` and ``/readyz``. ``unready`` says why no requests should come; empty if they may.

    Alive is who answers. A worker that is stuck is the supervisor's business; a container that is
    restarted for it would lose the others' requests too.
    """

    def readyz(_: Request) -> Answer:
        reason = unready()
        return Answer(f"{reason}\n", "503 Service Unavailable") if reason else Answer("ready\n")

    return {"/livez": lambda _: Answer("alive\n"), "/readyz": readyz}


class Admin:
    """Serves handlers on listening sockets, which stay their owner's."""

    def __init__(self, parse_head: HeadParser, handlers: Handlers) -> None:
        self._parse_head = parse_head
        self._handlers = handlers
        self._servers: list[asyncio.Server] = []

    async def start(self, listeners: Listeners) -> None:
        """Begin to answer, on the running loop."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            # The loop closes the socket that it is given.
            sock = listener.socket.dup()
            self._servers.append(await loop.create_server(self._connection, sock=sock))

    def _connection(self) -> _Connection:
        return _Connection(RequestReader(self._parse_head, LIMITS), self._handlers)

    def close(self) -> None:
        """Answer no more connections. Idempotent."""
        for server in self._servers:
            server.close()


class _Connection(asyncio.Protocol):
    """One request and its answer."""

    def __init__(self, reader: RequestReader, handlers: Handlers) -> None:
        self._reader = reader
        self._handlers = handlers
        # Set by connection_made.
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(PATIENCE, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Called by the transport."""
        self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self._transport.is_closing():
            return
        self._reader.feed(data)
        try:
            request = self._reader.next_request()
            if request is not None:
                self._finish(self._answer(request))
        except RequestError as error:
            context = _context(head_only=False)
            self._finish(error_response(error.status, error.detail, context).data)

    def _answer(self, request: Request) -> bytes:
        handler = self._handlers.get(request.path)
        if handler is None:
            known = "".join(f"{path}\n" for path in sorted(self._handlers))
            answer = Answer(f"There is no such page. There are:\n{known}", "404 Not Found")
        elif request.method not in {"GET", "HEAD"}:
            allow = [("Allow", "GET, HEAD")]
            answer = Answer("Only GET and HEAD.\n", "405 Method Not Allowed", fields=allow)
        else:
            answer = handler(request)
        return _encode(answer, head_only=request.method == "HEAD")

    def _finish(self, response: bytes) -> None:
        self._transport.write(response)
        self._transport.close()


def _context(*, head_only: bool) -> ResponseContext:
    return response_context(
        head_only=head_only,
        http_11=True,
        keep_alive=False,
        date=http_date(int(time.time())),
        server="",
    )


def _encode(answer: Answer, *, head_only: bool) -> bytes:
    body = answer.body.encode()
    fields = [("Content-Type", answer.content_type), ("Cache-Control", "no-store"), *answer.fields]
    checked = check_head(answer.status, [*fields, ("Content-Length", str(len(body)))])
    head = encode_head(checked, len(body), _context(head_only=head_only)).data
    return head if head_only else head + body
