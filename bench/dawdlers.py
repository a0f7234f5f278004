"""Clients that dawdle: many connections that send or read a byte a second, and hold on.

They are held by one thread, which costs the load's core a few thousand system calls a second,
spread evenly over it. A connection that its server closes is dropped and no longer counted; the
others are closed at the end.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from bench.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable

STEP_SECONDS = 1.0
"""Between two bytes of a connection."""
PARTS = 50
"""In which so many of them have their turn at once."""
CONNECT_SECONDS = 10.0
"""For one connection to be made."""
OPEN_SECONDS = 60.0
"""For all of them; those that were made by then have to do."""
RECEIVE_BUFFER = 4096
"""Bytes that the kernel takes for a client that does not read."""

HEADERS = b"GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Slow: "
BODIES = b"POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 100000\r\n\r\n"


def reading(path: str) -> bytes:
    """The first bytes of a client that asks for ``path`` and hardly reads it."""
    return f"GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n".encode()


class Dawdlers:
    """Up to ``count`` connections to ``port`` for a block, which begin with ``beginnings`` in turn.

    After a beginning that ends a header section without a body, they read; after others, they send.
    """

    def __init__(self, port: int, count: int, beginnings: Iterable[bytes]) -> None:
        self._port = port
        self._count = count
        self._beginnings = list(beginnings)
        self._senders: set[socket.socket] = set()
        self._readers: set[socket.socket] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + OPEN_SECONDS
        with suppress(OSError):  # Refused, or out of descriptors: the number held will tell.
            for number in range(self._count):
                self._open(self._beginnings[number % len(self._beginnings)])
                if time.monotonic() > deadline:
                    break
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        for client in self._senders | self._readers:
            client.close()

    @property
    def held(self) -> int:
        """Connections that the server has not closed."""
        return len(self._senders) + len(self._readers)

    def _open(self, beginning: bytes) -> None:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        client.settimeout(CONNECT_SECONDS)
        try:
            client.connect((HOST, self._port))
            client.sendall(beginning)
        except OSError:
            client.close()
            raise
        client.setblocking(False)
        reads = beginning.startswith(b"GET") and beginning.endswith(b"\r\n\r\n")
        (self._readers if reads else self._senders).add(client)

    def _run(self) -> None:
        part = 0
        while not self._stop.wait(STEP_SECONDS / PARTS):
            part = (part + 1) % PARTS
            for client in tuple(self._readers)[part::PARTS]:
                self._step(client, self._readers, reads=True)
            for client in tuple(self._senders)[part::PARTS]:
                self._step(client, self._senders, reads=False)

    def _step(self, client: socket.socket, group: set[socket.socket], *, reads: bool) -> None:
        try:
            alive = bool(client.recv(1)) if reads else client.send(b"a") == 1
        except BlockingIOError:
            return
        except OSError:
            alive = False
        if not alive:
            group.discard(client)
            client.close()
