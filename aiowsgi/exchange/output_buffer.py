"""What a client has not read yet: first in memory, beyond a bound in an unlinked temporary file.

Nginx and waitress have the like. Once the bound on memory is passed, everything that waits goes to
the file, so that a thousand slow readers cost disk and not memory. The file is a ring and stays
within its bound however much passes through it; it has no name and vanishes with its descriptor,
whatever ends the process.

A `OutputBuffer` belongs to an `ResponseOutput` and is guarded by that outlet's lock. Only
`Spool.write_at` runs outside of it, on a region that `Spool.room` has shown to be free and that no
reader looks at before `Spool.add`.

A spool is read with ``pread`` and never with ``sendfile``: the kernel would go on reading the
file's pages for as long as the client has not acknowledged them, while the ring writes over them.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from typing import Final, NamedTuple

from aiowsgi.exchange.writers import Buffer, Writer
from aiowsgi.wsgi.file_wrapper import FileRange

__all__ = ["OutputBuffer", "OutputLimits", "Spool"]

VECTOR: Final = 64
"""Buffers handed to the kernel in one call; far below any system's IOV_MAX."""

READ_SIZE: Final = 256 * 1024
"""Bytes read from the spool at once. A guess: most of a socket's send buffer."""


class OutputLimits(NamedTuple):
    """Bounds on what one connection holds back for its client, in bytes."""

    memory: int = 1024 * 1024
    spool: int = 64 * 1024 * 1024


class Spool:
    """A ring of at most ``limit`` bytes on disk: first in, first out."""

    __slots__ = ("_descriptor", "_limit", "_start", "size", "writing")

    def __init__(self, limit: int) -> None:
        """Make the file; raises OSError where there is no place for one."""
        import tempfile  # not at start: it pulls in much that no other part needs

        self._limit = limit
        # Offset of the oldest byte.
        self._start = 0
        # Bytes held.
        self.size = 0
        # A worker is in `write_at`, so that the descriptor may not be closed now.
        self.writing = False
        with tempfile.TemporaryFile(buffering=0, prefix="aiowsgi-") as file:
            self._descriptor = os.dup(file.fileno())

    def room(self) -> FileRange:
        """The region for the next bytes; its size is 0 when the spool is full."""
        offset = (self._start + self.size) % self._limit
        free = self._limit - self.size
        return FileRange(self._descriptor, offset, min(free, self._limit - offset))

    def add(self, size: int) -> None:
        """Make ``size`` bytes, written to the region that `room` named, visible to the reader."""
        self.size += size

    def peek(self) -> bytes:
        """Some of the oldest bytes; raises OSError."""
        size = min(self.size, self._limit - self._start, READ_SIZE)
        return os.pread(self._descriptor, size, self._start)

    def drop(self, size: int) -> None:
        """Forget the ``size`` oldest bytes."""
        self._start = (self._start + size) % self._limit
        self.size -= size

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)

    @staticmethod
    def write_at(region: FileRange, data: memoryview) -> int:
        """Write the front of ``data`` into ``region``; raises OSError (a full disk)."""
        return os.pwrite(region.descriptor, data[: region.size], region.offset)


class OutputBuffer:
    """A connection's unsent bytes, oldest first: those in memory, then those in the spool."""

    __slots__ = ("_limits", "_queue", "memory", "spool")

    def __init__(self, limits: OutputLimits) -> None:
        self._limits = limits
        # A file's range is always the last entry: it ends its response.
        self._queue: deque[Buffer | FileRange] = deque()
        # Bytes that the queue holds in memory.
        self.memory = 0
        # Made when memory does not suffice; kept until the response is done.
        self.spool: Spool | None = None

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queue) or self.spooled

    @property
    def spooled(self) -> bool:
        """Whether anything waits on disk, so that whatever follows must go there too."""
        return self.spool is not None and self.spool.size > 0

    def fits(self, size: int) -> bool:
        """Whether ``size`` further bytes may wait in memory."""
        return not self.spooled and self.memory + size <= self._limits.memory

    @property
    def roomy(self) -> bool:
        """Enough has drained for a waiting worker to go on: half, so as not to wake it often."""
        return self.spool is None or self.spool.size <= self._limits.spool // 2

    def append(self, data: Buffer) -> None:
        """Keep ``data``, which must not be empty, in memory, behind what is there."""
        # A copy, where only the end of something large is left, lets go of the whole.
        self._queue.append(bytes(data))
        self.memory += len(data)

    def append_file(self, part: FileRange) -> None:
        """Keep a part of a file, by a duplicate of its descriptor."""
        self._queue.append(part._replace(descriptor=os.dup(part.descriptor)))

    def open_spool(self) -> list[Buffer]:
        """Make a spool, if there is none, and return what now has to be written to it first.

        Raises OSError where no file can be made or the limits allow none.
        """
        if self.spool is None:
            if not self._limits.spool:
                raise OSError("no spool is configured")
            self.spool = Spool(self._limits.spool)
        taken = [data for data in self._queue if not isinstance(data, FileRange)]
        self._queue.clear()
        self.memory = 0
        return taken

    def send_to(self, port: Writer) -> int:
        """Send some of the oldest bytes, and forget them; there must be some.

        Returns how many; raises BlockingIOError when the port takes none, OSError when the
        connection is broken or a file cannot be read.
        """
        if not self._queue:
            return self._send_spooled(port)
        first = self._queue[0]
        if isinstance(first, FileRange):
            return self._send_file(port, first)
        buffers = [data for data in islice(self._queue, VECTOR) if not isinstance(data, FileRange)]
        sent = rest = port.send(buffers, more=False)
        self.memory -= sent
        while rest and rest >= len(buffers[0]):
            rest -= len(buffers.pop(0))
            self._queue.popleft()
        if rest:
            self._queue[0] = memoryview(buffers[0])[rest:]
        return sent

    def _send_spooled(self, port: Writer) -> int:
        assert self.spool is not None
        data = self.spool.peek()
        if not data:
            raise OSError("the temporary file has been cut")
        sent = port.send((data,))
        self.spool.drop(sent)
        return sent

    def _send_file(self, port: Writer, part: FileRange) -> int:
        sent = port.send_file(part)
        if not sent:
            raise OSError("the file is shorter than it was when the response began")
        if sent < part.size:
            self._queue[0] = FileRange(part.descriptor, part.offset + sent, part.size - sent)
        else:
            self._queue.popleft()
            os.close(part.descriptor)
        return sent

    def close(self) -> None:
        """Forget everything and give the files back, but for a spool that is being written."""
        for entry in self._queue:
            if isinstance(entry, FileRange):
                os.close(entry.descriptor)
        self._queue.clear()
        self.memory = 0
        if self.spool is not None and not self.spool.writing:
            self.spool.close()
            self.spool = None
