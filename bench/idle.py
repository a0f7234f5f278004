"""Idle kept connections: opened, each served once, held open, and asked again at the end.

No load generator can hold connections while another one measures, so plain sockets do it here.
They cost nothing while they are idle, which is all that they are for.
"""

from __future__ import annotations

import socket
import time
from typing import Self

from bench.servers import HOST

REQUEST = b"GET /idle HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: idle\r\n\r\n"
LAST_BYTES = b"Hello, world!"
"""How the answer of ``bench.apps:small`` ends."""
ANSWER_SECONDS = 5.0
TOTAL_SECONDS = 60.0
"""A server that needs longer to serve them all is left with those that it has served."""


class IdleConnections:
    """Up to ``count`` kept connections to ``port`` for the time of a ``with`` block."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        deadline = time.monotonic() + TOTAL_SECONDS
        try:
            while len(self._sockets) < self._count and time.monotonic() < deadline:
                connection = socket.create_connection((HOST, self._port), timeout=ANSWER_SECONDS)
                self._sockets.append(connection)
                if not _is_answered(connection):
                    break
        except OSError:
            pass  # Refused or out of descriptors: the count of those kept will tell.
        return self

    def __exit__(self, *exc_info: object) -> None:
        for connection in self._sockets:
            connection.close()

    def count_kept(self) -> int:
        """Ask on every connection again; how many are answered, the opening's failures left out."""
        deadline = time.monotonic() + TOTAL_SECONDS
        kept = 0
        for connection in self._sockets:
            if time.monotonic() > deadline:
                break
            kept += _is_answered(connection)
        return kept


def _is_answered(connection: socket.socket) -> bool:
    """Send one request and read its answer to the end; False where the connection is lost."""
    answer = b""
    try:
        connection.sendall(REQUEST)
        while not answer.endswith(LAST_BYTES):
            if not (data := connection.recv(4096)):
                return False
            answer += data
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200")
