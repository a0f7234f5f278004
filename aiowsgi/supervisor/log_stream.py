"""A stream for the supervisor's log that never waits for its reader.

The supervisor has one thread, on which everything depends: signals, replacing workers, the end. If
the reader of standard error stops reading (a log shipper that hangs, a terminal that is paused),
a pipe's 64 KiB fill up, and an ordinary write would stop the supervisor. `LogStream` keeps at most
`CAPACITY` bytes for the reader and counts the records that do not fit; once the reader goes on, a
line says how many were lost.

The descriptor's own flags are shared with the workers and with other programs, so O_NONBLOCK must
not be set on it. A pipe or terminal is opened a second time for that, through ``/dev/fd``; a socket
(journald's) is sent to with MSG_DONTWAIT; a file never makes a writer wait. Where the second open
is refused, a write is at most PIPE_BUF bytes, and only made when poll(2) says that there is room.
"""

from __future__ import annotations

import io
import os
import select
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

__all__ = ["LogStream"]

CAPACITY: Final = 256 * 1024
"""Bytes that are kept for a reader that is slow: some thousand lines. A guess."""

LAST_WAIT: Final = 0.5
"""Seconds that the process waits for a slow reader when it ends. A guess."""

PIECE: Final = 64 * 1024
"""Bytes that are written at a time."""


class LogStream(io.TextIOBase):
    """A text stream over a descriptor, which stays its owner's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # What the second opening gave, to be closed by us; None if there was none.
        self._opened: int | None = None
        self._write = self._choose_write()
        self._unwritten = bytearray()
        self._lost = 0
        # While it is set, this loop is asked to call when the reader goes on.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = False

    @classmethod
    @contextmanager
    def of_standard_error(cls) -> Iterator[LogStream]:
        """A stream over standard error, which gives its reader `LAST_WAIT` seconds at the end."""
        stream = cls(2)
        try:
            yield stream
        finally:
            stream.finish(LAST_WAIT)

    def _choose_write(self) -> Callable[[bytes], int]:
        mode = os.fstat(self._descriptor).st_mode
        if stat.S_ISREG(mode):
            return self._write_file
        if stat.S_ISSOCK(mode):
            return self._write_socket
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            self._opened = os.open(f"/dev/fd/{self._descriptor}", flags)
            return self._write_opened
        return self._write_when_ready

    # Writing, by the kind of descriptor; each raises BlockingIOError if the reader is slow.

    def _write_file(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def _write_socket(self, data: bytes) -> int:
        sock = socket.socket(fileno=self._descriptor)
        try:
            return sock.send(data, socket.MSG_DONTWAIT)
        finally:
            sock.detach()

    def _write_opened(self, data: bytes) -> int:
        assert self._opened is not None
        return os.write(self._opened, data)

    def _write_when_ready(self, data: bytes) -> int:
        if not self._wait(0):
            raise BlockingIOError
        return os.write(self._descriptor, data[: select.PIPE_BUF])

    def _wait(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    # The stream

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str, /) -> int:
        """Take one record, or count it as lost if too much waits already."""
        data = text.encode("utf-8", "backslashreplace")
        if len(self._unwritten) + len(data) > CAPACITY:
            self._lost += 1
        else:
            self._unwritten += data
        return len(text)

    def flush(self) -> None:
        """Write as much as the reader takes at once."""
        try:
            while self._unwritten:
                written = self._write(bytes(self._unwritten[:PIECE]))
                del self._unwritten[:written]
                if not self._unwritten and self._lost:
                    lost, self._lost = self._lost, 0
                    text = f"{lost} log records were lost: the log's reader did not keep up\n"
                    self._unwritten += text.encode()
        except BlockingIOError:
            self._wait_for_reader()
            return
        except OSError:
            # The reader has closed its end: nobody will read this.
            self._unwritten.clear()
        self._stop_waiting()

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Go on by itself on ``loop`` when the reader does; None: only when there is more."""
        self._stop_waiting()
        self._loop = loop
        self.flush()

    def _wait_for_reader(self) -> None:
        if self._loop is not None and not self._waiting:
            self._waiting = True
            self._loop.add_writer(self._descriptor, self.flush)

    def _stop_waiting(self) -> None:
        if self._loop is not None and self._waiting:
            self._waiting = False
            self._loop.remove_writer(self._descriptor)

    def finish(self, seconds: float) -> None:
        """Give the reader ``seconds`` to take what waits, and release what was opened."""
        until = monotonic() + seconds
        self.flush()
        while self._unwritten and self._wait(max(0.0, until - monotonic())):
            self.flush()
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None
            self._write = self._write_when_ready
