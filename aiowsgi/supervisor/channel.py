"""What a supervisor and its worker say to each other: one JSON object on a line, both ways.

==============  ==========  ======================================================================
kind            from        meaning, and further members
==============  ==========  ======================================================================
``charge``      supervisor  first of all: what to serve. ``app``; ``config``, options in the
                            notation of files; ``sockets``, for each listener its descriptor, its
                            name, and whether the supervisor had it from elsewhere; ``board``, the
                            descriptor of a `ConnectionCounts`, and ``place``, the worker's place
                            there
``retire``      supervisor  accept no more, finish what has begun, exit; within ``grace`` seconds,
                            or without a bound where that is null
``reopen``      supervisor  reopen log files
``look``        supervisor  send a ``report``, and in it ``number``; ``interest`` says how much
``failed``      worker      it cannot serve: ``error``, the name of an exception of ours;
                            ``message``; ``traceback``, of the application, or empty
``ready``       worker      it accepts; ``broken``, message and traceback of an application in
                            whose place an error page is served, or empty
``draining``    worker      it has closed its listeners, and finishes what has begun
``beat``        worker      its event loop is alive; about once in `BEAT` seconds
``worn``        worker      it should be replaced; ``reason``; ``unfit``, whether it should get no
                            requests until then
``report``      worker      what it does (``server/status.py``): ``report``; ``number`` of the look
                            that this answers, or 0 for the last one, of a worker that ends
==============  ==========  ======================================================================

The end of the stream is news too: to a worker, that its supervisor is gone. A kind that is unknown
is for a later version, and passed over.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

__all__ = ["BEAT", "FAREWELL", "Channel", "Message", "encode", "read_first"]

BEAT: Final = 1.0
"""Seconds between two beats. A guess: what watches them thinks in tens of seconds."""

FAREWELL: Final = 0
"""The number of a report that nobody has asked for: a worker's last."""

Message: TypeAlias = dict[str, Any]


def encode(kind: str, **members: object) -> bytes:
    """A message as it is sent."""
    return json.dumps({"kind": kind, **members}).encode() + b"\n"


def read_first(sock: socket.socket) -> Message:
    """Wait for the first message on a blocking socket, and leave what follows it unread.

    Raises EOFError where the other side has gone.
    """
    line = b""
    while not line.endswith(b"\n"):
        seen = sock.recv(_CHUNK, socket.MSG_PEEK)
        if not seen:
            raise EOFError("the supervisor has gone")
        end = seen.find(b"\n") + 1
        line += sock.recv(end or len(seen))
    return cast("Message", json.loads(line))


class Channel:
    """One end of the conversation, on an event loop. It owns its socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        received: Callable[[Message], object],
        ended: Callable[[], object],
    ) -> None:
        """``received`` takes each message; ``ended`` is called when the other side has gone."""
        self._loop = loop
        self._socket = sock
        self._received = received
        self._ended = ended
        # Part of a line.
        self._partial = b""
        # What the kernel had no room for.
        self._unsent = b""
        self._closed = False
        sock.settimeout(0)
        loop.add_reader(sock.fileno(), self.pump)

    def pump(self) -> None:
        """Take what has come; called by the loop, and by who cannot wait for the loop."""
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
        """Say something; it is lost where the other side has gone, which ``ended`` tells."""
        if not self._closed:
            self._unsent += encode(kind, **members)
            self._flush()

    def beat(self) -> None:
        """Say that this side is alive, unless the other has not even taken what was said before."""
        if not self._unsent:
            self.send("beat")

    def _flush(self) -> None:
        fd = self._socket.fileno()
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            self._loop.add_writer(fd, self._flush)
            return
        except OSError:
            # Gone; what it said before is still to be read.
            self._unsent = b""
        if self._unsent:
            self._loop.add_writer(fd, self._flush)
        else:
            self._loop.remove_writer(fd)

    def close(self) -> None:
        """Neither speak nor listen any more. Idempotent."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()


_CHUNK: Final = 64 * 1024
