"""Clients that dawdle: many connections that send or read a byte a second, and hold on.

They are held by one thread, which costs the load's core a few thousand system calls a second,
spread evenly over it: they stand for clients that know nothing of each other. A connection that its
server closes is dropped and no longer counted; the others are closed at the end.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple, Self

from bench.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable

STEP_SECONDS = 1.0
"""Between two bytes of a connection."""
PARTS = 500
"""Of that time: those who have their turn in one of them have it together. Of 5,000 that know
nothing of each other, ten come in two milliseconds, and hardly ever fifty."""
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
        # Those that have their turn together.
        self._parts: list[list[_Dawdler]] = [[] for _ in range(PARTS)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + OPEN_SECONDS
        with suppress(OSError):  # Refused, or out of descriptors: the number held will tell.
            for number in range(self._count):
                dawdler = _open(self._port, self._beginnings[number % len(self._beginnings)])
                self._parts[number % PARTS].append(dawdler)
                if time.monotonic() > deadline:
                    break
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        for part in self._parts:
            for dawdler in part:
                dawdler.socket.close()

    @property
    def held(self) -> int:
        """Connections that the server has not closed."""
        return sum(map(len, self._parts))

    def _run(self) -> None:
        for part in cycle(self._parts):
            if self._stop.wait(STEP_SECONDS / PARTS):
                return
            part[:] = [dawdler for dawdler in part if dawdler.step()]


class _Dawdler(NamedTuple):
    """A connection."""

    socket: socket.socket
    reads: bool

    def step(self) -> bool:
        """Read or send a byte; False, and it is closed, where the server has closed it."""
        try:
            alive = bool(self.socket.recv(1)) if self.reads else self.socket.send(b"a") == 1
        except BlockingIOError:
            return True
        except OSError:
            alive = False
        if not alive:
            self.socket.close()
        return alive


def _open(port: int, beginning: bytes) -> _Dawdler:
    """Raises OSError."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    client.settimeout(CONNECT_SECONDS)
    try:
        client.connect((HOST, port))
        client.sendall(beginning)
    except OSError:
        client.close()
        raise
    client.setblocking(False)
    reads = beginning.startswith(b"GET") and beginning.endswith(b"\r\n\r\n")
    return _Dawdler(client, reads)
