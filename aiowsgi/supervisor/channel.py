"""Messages between the supervisor and a worker: JSON objects, one on each line, in both directions.

What a worker is to serve is not among them: it is forked with that in memory (``worker.py``).

============  ==========  =======================================================================
kind          from        meaning, and further members
============  ==========  =======================================================================
``retire``    supervisor  accept no more, finish what has begun, exit: within ``grace`` seconds,
                          or without a limit if that is null
``reopen``    supervisor  reopen the log files
``look``      supervisor  send a ``report`` with this ``number``; ``interest`` says how detailed
``failed``    worker      it cannot serve: ``error``, the name of an exception of ours;
                          ``message``; ``traceback``, of the application, or empty
``ready``     worker      it accepts; ``broken``: message and traceback of an application in whose
                          place an error page is served, or empty; ``metrics_directory``: that of
                          its Prometheus client, or empty (``supervisor/live_gauges.py``)
``draining``  worker      it has closed its listeners, and finishes what has begun
``beat``      worker      its event loop runs; about once in `BEAT` seconds. ``rss``, bytes;
                          ``in_flight``, a number; ``requests``, the oldest of them as text
``expired``   worker      it should be replaced; ``reason``; ``unfit``, whether it should get no
                          requests until then
``report``    worker      what it does (``server/status.py``): ``report``; ``number`` of the look
                          that it answers, or `LAST_REPORT` from a worker that ends
============  ==========  =======================================================================

The end of the stream has a meaning too: to a worker, that its supervisor has ended. A message of an
unknown kind is ignored.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, Final, TypeAlias

__all__ = ["BEAT", "LAST_REPORT", "Channel", "Message", "encode"]

BEAT: Final = 1.0
"""Seconds between two beats. A guess: the limits that are checked by them are tens of seconds."""

LAST_REPORT: Final = 0
"""The number of the report that a worker sends by itself when it ends."""

Message: TypeAlias = dict[str, Any]


def encode(kind: str, **members: object) -> bytes:
    """A message as it is sent."""
    return json.dumps({"kind": kind, **members}).encode() + b"\n"


class Channel:
    """One end of the socket pair, on an event loop. It owns its socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        received: Callable[[Message], object],
        ended: Callable[[], object],
    ) -> None:
        """``received`` takes each message; ``ended`` is called when the other end is closed."""
        self._loop = loop
        self._socket = sock
        self._received = received
        self._ended = ended
        # Part of a line.
        self._partial = b""
        # Bytes that the kernel had no room for.
        self._unsent = b""
        self._closed = False
        sock.settimeout(0)
        loop.add_reader(sock.fileno(), self.pump)

    def pump(self) -> None:
        """Read and deliver what has come; the loop calls this, and whoever cannot wait for it."""
        while not self._closed:
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                self._ended()
                return
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                self._received(json.loads(line))

    def send(self, kind: str, **members: object) -> None:
        """Send a message; it is lost if the other end is closed, which ``ended`` tells."""
        if not self._closed:
            self._unsent += encode(kind, **members)
            self._flush()

    def send_descriptor(self, descriptor: int, kind: str, **members: object) -> None:
        """Send a message together with a copy of ``descriptor``; short, and by itself."""
        if not self._closed:
            socket.send_fds(self._socket, [encode(kind, **members)], [descriptor])

    def on_end(self, ended: Callable[[], object]) -> None:
        """Call ``ended``, instead of what was given before, when the other end is closed, or soon
        if that is known already."""
        self._ended = ended
        if self._closed:
            self._loop.call_soon(ended)

    def beat(self, **members: object) -> None:
        """Say that this loop runs, unless the other side has not read what was sent before."""
        if not self._unsent:
            self.send("beat", **members)

    def _flush(self) -> None:
        fd = self._socket.fileno()
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            self._loop.add_writer(fd, self._flush)
            return
        except OSError:
            # The other end is closed; what it sent before is still to be read.
            self._unsent = b""
        if self._unsent:
            self._loop.add_writer(fd, self._flush)
        else:
            self._loop.remove_writer(fd)

    def close(self) -> None:
        """Send and receive nothing more. Idempotent."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()


_CHUNK: Final = 64 * 1024
