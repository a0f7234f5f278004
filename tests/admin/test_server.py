"""The admin endpoint, over real sockets."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

import pytest
from support import PATIENCE

from aiowsgi.admin import server as admin
from aiowsgi.admin.server import Admin, Answer, Feed, health
from aiowsgi.http1 import head_parser
from aiowsgi.http1.messages import Request
from aiowsgi.net.address import TcpAddress
from aiowsgi.net.listeners import Listeners, ListenOptions, open_listeners

KNOWN = "/broken\n/echo\n/feed\n/later\n/livez\n/readyz\n"


def echo(request: Request) -> Answer:
    """A handler of somebody else's."""
    return Answer(request.query, content_type="text/x-query", fields=[("X-More", "1")])


class Asked:
    """An endpoint, and what it was last said about readiness."""

    def __init__(self, listeners: Listeners) -> None:
        self.reason = ""
        self.port = listeners.sockets[0].getsockname()[1]
        # What the feed is to send, and whether it was closed.
        self.events: asyncio.Queue[str] = asyncio.Queue()
        self.closed = asyncio.Event()
        handlers = {
            **health(self.unready),
            "/echo": echo,
            "/later": self.later,
            "/broken": self.broken,
            "/feed": lambda _: Feed(self.feed()),
        }
        self.admin = Admin(head_parser("h11"), handlers)

    async def unready(self) -> str:
        """What it was last said."""
        return self.reason

    async def later(self, request: Request) -> Answer:
        """A handler that has to wait."""
        await asyncio.sleep(0)
        return echo(request)

    def broken(self, _: Request) -> Answer:
        """A handler with a fault."""
        raise KeyError("fault")

    async def feed(self) -> AsyncGenerator[str, None]:
        """Events as they come."""
        try:
            while True:
                yield await self.events.get()
        finally:
            self.closed.set()

    async def listen(
        self, method: str = "GET"
    ) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        """Listen to the feed: its head, and the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"{method} /feed HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return (await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer

    async def raw(self, *pieces: bytes) -> bytes:
        """Send bytes, and read to the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def ask(self, target: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
        """Status, fields and body."""
        answer = await self.raw(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head, _, body = answer.decode().partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        return int(status.split()[1]), fields, body


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    """An endpoint that answers."""
    listeners = open_listeners([TcpAddress("127.0.0.1", 0)], ListenOptions())
    endpoint = Asked(listeners)
    await endpoint.admin.start(listeners)
    yield endpoint
    endpoint.admin.close()
    endpoint.admin.close()
    listeners.close()


async def test_health(asked: Asked) -> None:
    """Alive is who answers; ready is who says so."""
    assert (await asked.ask("/livez"))[::2] == (200, "alive\n")
    assert (await asked.ask("/readyz"))[::2] == (200, "ready\n")
    asked.reason = "draining"
    assert (await asked.ask("/readyz"))[::2] == (503, "draining\n")
    assert (await asked.ask("/livez"))[0] == 200


async def test_handlers(asked: Asked) -> None:
    """Others add their own, and decide about type and fields."""
    status, fields, body = await asked.ask("/echo?a=1")
    assert (status, body) == (200, "a=1")
    assert fields["content-type"] == "text/x-query"
    assert (fields["x-more"], fields["cache-control"]) == ("1", "no-store")
    assert (fields["connection"], fields["content-length"]) == ("close", "3")


async def test_head(asked: Asked) -> None:
    """HEAD has the fields of GET and no body."""
    status, fields, body = await asked.ask("/livez", "HEAD")
    assert (status, fields["content-length"], body) == (200, "6", "")


async def test_unknown(asked: Asked) -> None:
    """What is not there is answered with what is."""
    status, _, body = await asked.ask("/metrics")
    assert (status, body) == (404, "There is no such page. There are:\n" + KNOWN)


async def test_method(asked: Asked) -> None:
    """Nothing is changed here."""
    status, fields, _ = await asked.ask("/livez", "DELETE")
    assert (status, fields["allow"]) == (405, "get, head")


async def test_malformed(asked: Asked) -> None:
    """What is no request is refused."""
    assert (await asked.raw(b"GET /livez\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_in_pieces(asked: Asked) -> None:
    """A request may come in pieces; what follows it is not read."""
    pieces = (b"GET /liv", b"ez HTTP/1.1\r\nHost: a\r\n\r\n", b"more")
    assert b"200 OK" in await asked.raw(*pieces)


async def test_patience(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends nothing is cut off."""
    monkeypatch.setattr(admin, "CONNECTION_TIMEOUT", 0.01)
    assert await asked.raw(b"GET /livez") == b""


async def test_silent_connections_do_not_keep_a_probe_out(asked: Asked) -> None:
    """At the bound the connection that has waited longest is closed; a probe is answered."""
    silent = [
        await asyncio.open_connection("127.0.0.1", asked.port)
        for _ in range(admin.MAX_CONNECTIONS + 20)
    ]
    status, _, body = await asked.ask("/livez")
    assert (status, body) == (200, "alive\n")
    assert len(asked.admin._connections) <= admin.MAX_CONNECTIONS
    closed = 0
    for reader, _ in silent[:21]:
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        closed += 1
    assert closed == 21
    for _, writer in silent:
        writer.close()


async def test_a_connection_with_a_request_is_not_closed_for_another(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Feeds and requests in progress stay; without any other, the newest connection is closed."""
    monkeypatch.setattr(admin, "MAX_CONNECTIONS", 1)
    _, reader, writer = await asked.listen()
    other, newest = await asyncio.open_connection("127.0.0.1", asked.port)
    with suppress(ConnectionError):
        assert await asyncio.wait_for(other.read(), PATIENCE) == b""
    newest.close()
    asked.events.put_nowait("data: 1\n\n")
    assert await asyncio.wait_for(reader.readuntil(b"1\n\n"), PATIENCE)
    writer.close()


async def test_later(asked: Asked) -> None:
    """A handler may wait for something; what else is sent meanwhile is not read."""
    status, _, body = await asked.ask("/later?a=1")
    assert (status, body) == (200, "a=1")
    assert b"a=2" in await asked.raw(b"GET /later?a=2 HTTP/1.1\r\nHost: a\r\n\r\n", b"more")


async def test_fault(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of a handler is logged, and answered with 500."""
    status, _, body = await asked.ask("/broken")
    assert (status, "KeyError" in body) == (500, False)
    assert "KeyError: 'fault'" in caplog.text


async def test_feed(asked: Asked) -> None:
    """Events are sent as they come, until the listener goes."""
    head, reader, writer = await asked.listen()
    assert "200 OK" in head
    assert "Content-Type: text/event-stream" in head
    assert "Content-Length" not in head
    assert "chunked" not in head
    for event in ("data: 1\n\n", "data: ä\n\n"):
        asked.events.put_nowait(event)
        assert (await reader.readuntil(b"\n\n")).decode() == event
    writer.close()
    await asyncio.wait_for(asked.closed.wait(), PATIENCE)


async def test_feed_head(asked: Asked) -> None:
    """HEAD has the head of a feed, and its end."""
    asked.events.put_nowait("data: 1\n\n")
    _, reader, writer = await asked.listen("HEAD")
    assert await reader.read() == b""
    writer.close()


async def test_feeds_end_with_the_endpoint(asked: Asked) -> None:
    """Who listens is not what a server waits for."""
    _, reader, writer = await asked.listen()
    asked.admin.close()
    assert await reader.read() == b""
    await asyncio.wait_for(asked.closed.wait(), PATIENCE)
    writer.close()


async def test_too_many_feeds(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many may watch, and no more; one that goes makes room."""
    monkeypatch.setattr(admin, "MAX_FEEDS", 1)
    _, _, first = await asked.listen()
    head, _, second = await asked.listen()
    assert head.startswith("HTTP/1.1 503 ")
    first.close()
    await asyncio.wait_for(asked.closed.wait(), PATIENCE)
    head, _, third = await asked.listen()
    assert "200 OK" in head
    second.close()
    third.close()


async def test_a_listener_that_does_not_read(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut off, so that nothing heaps up for it."""
    _, reader, writer = await asked.listen()
    monkeypatch.setattr(admin, "CONNECTION_TIMEOUT", 0.01)
    asked.events.put_nowait(f"data: {'x' * 20_000_000}\n\n")
    await asyncio.wait_for(asked.closed.wait(), PATIENCE)
    received = b""
    with suppress(ConnectionError):
        received = await asyncio.wait_for(reader.read(), PATIENCE)
    assert len(received) < 20_000_000
    writer.close()


async def test_a_slow_listener_goes_on(asked: Asked) -> None:
    """One that reads late gets the next event too."""
    _, reader, writer = await asked.listen()
    for size in (10_000_000, 1):
        asked.events.put_nowait(f"data: {'x' * size}\n\n")
        assert len(await reader.readexactly(size + 8)) == size + 8
    writer.close()


async def test_who_asks_and_goes(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for an answer that nobody wants, nor keeps its place."""
    monkeypatch.setattr(admin, "MAX_FEEDS", 1)
    _, _, writer = await asked.listen()
    writer.transport.abort()
    asked.events.put_nowait("data: 1\n\n")
    await asyncio.wait_for(asked.closed.wait(), PATIENCE)
    head, _, writer = await asked.listen()
    assert "200 OK" in head
    writer.close()


class ResetTransport(asyncio.Transport):
    """One whose client has reset the connection, which shows as soon as it is ended."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = asyncio.Event()

    def is_closing(self) -> bool:
        return self.aborted.is_set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert data.startswith(b"HTTP/1.1 200 ")

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "not connected")

    def abort(self) -> None:
        self.aborted.set()


async def test_who_asks_and_resets(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """A health check that wants no more than the connection is no fault of ours."""
    transport, connection = ResetTransport(), asked.admin._connection()
    connection.connection_made(transport)
    connection.data_received(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.wait_for(transport.aborted.wait(), PATIENCE)
    connection.connection_lost(None)
    assert not caplog.text
