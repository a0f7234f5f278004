"""Slow clients: many connections that each send or read one byte a second.

One thread serves them all. It makes a few thousand system calls a second on the load's core, spread
evenly over the second, because real clients do not act at the same time. A connection that the
server closes is no longer counted. The others are closed at the end.
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
"""Seconds between two bytes of a connection."""
PARTS = 500
"""Number of groups; the connections of a group take their step together. With 5,000 connections
that is ten in two milliseconds, about as many as there would be by chance."""
CONNECT_SECONDS = 10.0
"""Seconds within which one connection must be made."""
OPEN_SECONDS = 60.0
"""Seconds for making all of them. After that, those that were made are used."""
RECEIVE_BUFFER = 4096
"""Size of a client's receive buffer in the kernel, in bytes."""

HEADERS = b"GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Slow: "
BODIES = b"POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 100000\r\n\r\n"


def reading(path: str) -> bytes:
    """The first bytes of a client that asks for ``path`` and hardly reads it."""
    return f"GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n".encode()


class SlowClients:
    """Up to ``count`` connections to ``port`` for a block; they send the ``beginnings`` in turn.

    A client whose beginning is a complete request then reads; the others go on sending.
    """

    def __init__(self, port: int, count: int, beginnings: Iterable[bytes]) -> None:
        self._port = port
        self._count = count
        self._beginnings = list(beginnings)
        # The connections that take their step together.
        self._parts: list[list[_SlowClient]] = [[] for _ in range(PARTS)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + OPEN_SECONDS
        with suppress(OSError):  # Refused, or no descriptors left: `held` says how many there are.
            for number in range(self._count):
                client = _open(self._port, self._beginnings[number % len(self._beginnings)])
                self._parts[number % PARTS].append(client)
                if time.monotonic() > deadline:
                    break
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        for part in self._parts:
            for client in part:
                client.socket.close()

    @property
    def held(self) -> int:
        """Connections that the server has not closed."""
        return sum(map(len, self._parts))

    def _run(self) -> None:
        for part in cycle(self._parts):
            if self._stop.wait(STEP_SECONDS / PARTS):
                return
            part[:] = [client for client in part if client.step()]


class _SlowClient(NamedTuple):
    """One connection."""

    socket: socket.socket
    reads: bool

    def step(self) -> bool:
        """Read or send a byte. If the server has closed the connection, close it; return False."""
        try:
            alive = bool(self.socket.recv(1)) if self.reads else self.socket.send(b"a") == 1
        except BlockingIOError:
            return True
        except OSError:
            alive = False
        if not alive:
            self.socket.close()
        return alive


def _open(port: int, beginning: bytes) -> _SlowClient:
    """Connect and send the beginning. Raises OSError."""
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
    return _SlowClient(client, reads)
