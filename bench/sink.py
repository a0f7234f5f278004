"""A reader of large responses: ``python -m bench.sink PORT CONNECTIONS SECONDS``.

wrk reads 8 KiB at a time and looks at every chunk, so that it would be measured itself where a
server sends two gigabytes a second. This reads up to 1 MiB at a time into one buffer and looks only
at the beginning and the end of a response. It expects the downloads of ``bench.apps``, whose body
is made of one letter, and prints the same line of figures as wrk.lua.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from contextlib import ExitStack
from selectors import EVENT_READ, BaseSelector, DefaultSelector
from statistics import quantiles

from bench.apps import BODY_SIZE
from bench.servers import HOST

BUFFER_SIZE = 1024 * 1024
LONGEST_HEAD = 8 * 1024
REQUEST = b"GET /files/%d HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: sink\r\n\r\n"
END_OF_HEAD = b"\r\n\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"
MICROSECONDS = 1e6


class SinkError(Exception):
    """A response was refused, cut short, or has no end that can be recognised."""


class Download:
    """One connection that asks for the same size again and again, under different paths.

    It opens a new one, as wrk does, where the server says that it closes the old one.
    """

    def __init__(self, port: int, selector: BaseSelector) -> None:
        self._port = port
        self._selector = selector
        self._socket = self._connect()
        # Of the response that is being read: when it was asked for; bytes received; bytes to be
        # received in all, None before its head and 0 where only chunks tell; its last bytes;
        # whether the connection ends with it.
        self._asked = 0.0
        self._received = 0
        self._expected: int | None = None
        self._tail = b""
        self._last = False
        self.microseconds: list[int] = []
        """How long each response took that has come to its end."""
        self._ask()

    def take(self, buffer: bytearray) -> None:
        """Read once; at a response's end, ask for the next one."""
        count = self._socket.recv_into(buffer)
        if not count:
            raise SinkError("the server closed the connection within a response")
        if self._expected is None:
            self._begin(bytes(buffer[: min(count, LONGEST_HEAD)]))
        self._received += count
        end = buffer[max(0, count - len(LAST_CHUNK)) : count]
        self._tail = (self._tail + end)[-len(LAST_CHUNK) :]
        if self._complete():
            elapsed = time.perf_counter() - self._asked
            self.microseconds.append(round(elapsed * MICROSECONDS))
            self._ask()

    def close(self) -> None:
        """Close the connection, wherever its response is."""
        self._selector.unregister(self._socket)
        self._socket.close()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection((HOST, self._port), timeout=30)
        connection.setblocking(False)
        self._selector.register(connection, EVENT_READ, self)
        return connection

    def _ask(self) -> None:
        if self._last:
            self.close()
            self._socket = self._connect()
        self._asked = time.perf_counter()
        self._received = 0
        self._expected = None
        self._tail = b""
        self._socket.send(REQUEST % len(self.microseconds))

    def _begin(self, start: bytes) -> None:
        """Learn from the head how the response ends, and whether the connection does."""
        head, separator, _ = start.partition(END_OF_HEAD)
        if not separator or not head.startswith(b"HTTP/1.1 200"):
            raise SinkError(f"not the head of a download: {head[:80]!r}")
        fields = head.lower()
        length = re.search(rb"\r\ncontent-length: *(\d+)", fields)
        self._expected = len(head) + len(END_OF_HEAD) + int(length[1]) if length else 0
        self._last = re.search(rb"\r\nconnection: *close", fields) is not None

    def _complete(self) -> bool:
        if self._expected:
            return self._received >= self._expected
        return self._received > BODY_SIZE and self._tail == LAST_CHUNK


def main(port: str, connections: str, seconds: str) -> None:
    """Download for so many seconds, and print what was reached as one line of JSON."""
    with DefaultSelector() as selector, ExitStack() as stack:
        downloads = [Download(int(port), selector) for _ in range(int(connections))]
        for download in downloads:
            stack.callback(download.close)
        elapsed = _drain(selector, float(seconds))
    latencies = sorted(took for download in downloads for took in download.microseconds)
    cuts = quantiles(latencies, n=100, method="inclusive") if len(latencies) > 1 else [0.0] * 99
    figures = {
        "requests": len(latencies),
        "microseconds": round(elapsed * MICROSECONDS),
        "bytes": len(latencies) * BODY_SIZE,
        "p50": round(cuts[49]),
        "p99": round(cuts[98]),
        "max": latencies[-1] if latencies else 0,
        **dict.fromkeys(("connect", "read", "write", "timeout", "status"), 0),
    }
    print(json.dumps(figures))


def _drain(selector: BaseSelector, seconds: float) -> float:
    """Read what comes on all connections; returns how long that took."""
    buffer = bytearray(BUFFER_SIZE)
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for key, _ in selector.select(timeout=1):
            key.data.take(buffer)
    return time.perf_counter() - started


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (SinkError, OSError) as error:
        sys.exit(str(error))
