"""A client for the rows: sends pieces of bytes on many connections at once, and reads the answers.

It has no opinion. It sends what it is told, goes on sending behind an answer, ends its side once it
has what was to be expected, and tells what came and how the connection ended. All connections
share one thread and send a piece at a time each, so that a server may read between two pieces.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Answer", "Came", "Sending", "answers_in", "converse"]

IN_FLIGHT = 32
"""Connections that are open at once: few, for a server's queue is not the matter here."""


class Sending(NamedTuple):
    """What is sent on one connection, and what is waited for."""

    pieces: list[bytes]
    methods: tuple[str, ...]
    """Of the requests that are answered if all goes well, for the one that has no body: HEAD."""
    expected: int
    """Number of final answers after which the client ends its side."""


class Answer(NamedTuple):
    """One final answer."""

    status: int
    fields: dict[str, str]
    """By lower-case name."""
    body: bytes


class Came(NamedTuple):
    """What came back on one connection."""

    answers: list[Answer]
    rest: bytes
    """What came behind them and is no answer, or not a whole one."""
    port: int
    """Of the client's end, by which an application can tell the connections apart."""
    ended: bool
    """The server has closed its side in order, before the client ran out of patience."""
    reset: bool
    """The server has cut the connection under bytes that it had not read."""


# Reading answers


def answers_in(
    data: bytes, methods: Iterable[str] = (), *, ended: bool
) -> tuple[list[Answer], bytes]:
    """The final answers in ``data`` to requests of these methods, and what is left of it.

    Beyond ``methods`` all are GET. ``ended`` says that nothing will follow, which ends a body.
    """
    answers, awaited = [], iter(methods)
    while (head := _head_in(data)) is not None:
        status, fields, rest = head
        if status < 200:
            data = rest
            continue
        no_body = next(awaited, "GET") == "HEAD" or status in (204, 304)
        body = (b"", rest) if no_body else _body_in(rest, fields, ended=ended)
        if body is None:
            break
        answers.append(Answer(status, fields, body[0]))
        data = body[1]
    return answers, data


def _head_in(data: bytes) -> tuple[int, dict[str, str], bytes] | None:
    head, end, rest = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = status_line.partition(" ")
    if not end or not version.startswith("HTTP/1.") or not status[:3].isdecimal():
        return None
    pairs = [line.partition(":") for line in lines]
    return int(status[:3]), {name.lower(): value.strip() for name, _, value in pairs}, rest


def _body_in(data: bytes, fields: dict[str, str], *, ended: bool) -> tuple[bytes, bytes] | None:
    if fields.get("transfer-encoding", "").lower() == "chunked":
        return _chunks_in(data)
    length = fields.get("content-length", "")
    if length.isdecimal():
        size = int(length)
        return (data[:size], data[size:]) if len(data) >= size else None
    return (data, b"") if ended else None


def _chunks_in(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        size = int(line, 16) if end else sys.maxsize
        if len(data) < size + 2:
            return None
        body, data = body + data[:size], data[size + 2 :]
        if not size:
            return body, data


# Conversations


def converse(address: tuple[str, int], sendings: Iterable[Sending], quiet: float) -> list[Came]:
    """Send each on a connection of its own, and tell in the same order what came.

    Where nothing comes for ``quiet`` seconds, nothing is expected any more.
    """
    return asyncio.run(_converse(address, list(sendings), quiet))


async def _converse(address: tuple[str, int], sendings: list[Sending], quiet: float) -> list[Came]:
    room = asyncio.Semaphore(IN_FLIGHT)

    async def one(sending: Sending) -> Came:
        async with room:
            with socket.socket() as connection:
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.get_running_loop().sock_connect(connection, address)
                return await _Conversation(connection, sending).run(quiet)

    return await asyncio.gather(*map(one, sendings))


class _Conversation:
    """One connection."""

    def __init__(self, connection: socket.socket, sending: Sending) -> None:
        self._socket = connection
        self._sending = sending
        self._data = b""
        self._ended = False
        self._reset = False
        self._news = asyncio.Event()

    async def run(self, quiet: float) -> Came:
        port: int = self._socket.getsockname()[1]
        receiving = asyncio.create_task(self._receive())
        with suppress(OSError):
            # A reset is noticed by who receives, behind what had come before.
            await self._send()
            await self._all_but(receiving, quiet)
            self._socket.shutdown(socket.SHUT_WR)
        await asyncio.wait([receiving], timeout=quiet)
        receiving.cancel()
        await asyncio.wait([receiving])
        # What a server does not want of what was sent behind its end shows here.
        late = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        answers, rest = answers_in(self._data, self._sending.methods, ended=self._ended)
        return Came(answers, rest, port, self._ended, self._reset or late)

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        for piece in self._sending.pieces:
            await loop.sock_sendall(self._socket, piece)
            await asyncio.sleep(0)

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._socket, 65536):
                self._data += data
                self._news.set()
            self._ended = True
        except OSError:
            self._reset = True
        self._news.set()

    async def _all_but(self, receiving: asyncio.Task[None], quiet: float) -> None:
        """Wait for the answers that are expected, the server's end, or that nothing comes."""
        with suppress(TimeoutError):
            while not receiving.done() and not self._enough():
                self._news.clear()
                await asyncio.wait_for(self._news.wait(), quiet)

    def _enough(self) -> bool:
        answers, _ = answers_in(self._data, self._sending.methods, ended=self._ended)
        return len(answers) >= self._sending.expected
