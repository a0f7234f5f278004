"""Response bytes that a client has not read yet: in memory up to a limit, beyond it on disk.

nginx and waitress buffer responses in the same two stages. Once the limit on memory is passed,
everything that waits goes to the spool, an unlinked temporary file, so that a thousand slow clients
cost disk and not memory. The file is used as a ring and stays within its limit however much passes
through it. It has no name and vanishes with its descriptor, however the process ends.

An `OutputBuffer` belongs to a `ResponseOutput` and is guarded by the lock of that. Only
`Spool.write_at` runs without the lock, on a region that `Spool.free_region` has shown to be free
and that is not read before `Spool.add`.

The spool is read with ``pread`` and never with ``sendfile``: the kernel would go on reading the
file's pages until the client has acknowledged them, while the ring writes over them.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from typing import Final, NamedTuple, final

from aiowsgi.exchange.memory_budget import MemoryBudget
from aiowsgi.exchange.writers import Buffer, Writer
from aiowsgi.wsgi.file_wrapper import FileRange

__all__ = ["OutputBuffer", "OutputLimits", "Spool"]

BUFFERS_PER_CALL: Final = 64
"""Buffers handed to the kernel in one call; far below any system's IOV_MAX."""

READ_SIZE: Final = 256 * 1024
"""Bytes read from the spool at once. A guess: most of a socket's send buffer."""


SCARCE_MEMORY: Final = 16 * 1024
"""Bytes that one connection keeps in memory while memory is scarce. A guess."""


class OutputLimits(NamedTuple):
    """Limits on what is buffered for one client, in bytes."""

    memory: int = 1024 * 1024
    spool: int = 64 * 1024 * 1024
    """0 for no spool."""
    budget: MemoryBudget = MemoryBudget()
    """What all connections together may keep in memory; while it is scarce, the spool is used
    sooner."""


@final
class Spool:
    """A ring of at most ``limit`` bytes on disk: first in, first out."""

    __slots__ = ("_descriptor", "_limit", "_start", "size", "writing")

    def __init__(self, limit: int) -> None:
        """Make the file; raises OSError if the system has no place for one."""
        import tempfile  # not at start: it imports much that no other part needs

        self._limit = limit
        # Offset of the oldest byte.
        self._start = 0
        # Bytes held.
        self.size = 0
        # A worker thread is in `write_at`, so that the descriptor must not be closed now.
        self.writing = False
        with tempfile.TemporaryFile(buffering=0, prefix="aiowsgi-") as file:
            self._descriptor = os.dup(file.fileno())

    def free_region(self) -> FileRange:
        """The region for the next bytes; its size is 0 when the spool is full."""
        offset = (self._start + self.size) % self._limit
        free = self._limit - self.size
        return FileRange(self._descriptor, offset, min(free, self._limit - offset))

    def add(self, size: int) -> None:
        """Let ``size`` bytes be read that were written to the region of `free_region`."""
        self.size += size

    def peek(self) -> bytes:
        """Read some of the oldest bytes; raises OSError."""
        size = min(self.size, self._limit - self._start, READ_SIZE)
        return os.pread(self._descriptor, size, self._start)

    def drop(self, size: int) -> None:
        """Forget the ``size`` oldest bytes."""
        self._start = (self._start + size) % self._limit
        self.size -= size

    def close(self) -> None:
        """Close the file, which removes it."""
        os.close(self._descriptor)

    @staticmethod
    def write_at(region: FileRange, data: memoryview) -> int:
        """Write the front of ``data`` into ``region``; raises OSError (a full disk)."""
        return os.pwrite(region.descriptor, data[: region.size], region.offset)


@final
class OutputBuffer:
    """A connection's unsent bytes, oldest first: those in memory, then those in the spool."""

    __slots__ = ("_limits", "_queue", "_read_ahead", "memory", "spool")

    def __init__(self, limits: OutputLimits) -> None:
        self._limits = limits
        # A file's range is always the last entry: it ends its response.
        self._queue: deque[Buffer | FileRange] = deque()
        # Bytes that the queue holds in memory.
        self.memory = 0
        # Made when memory does not suffice; kept until the response is finished.
        self.spool: Spool | None = None
        # Bytes that were read from the spool and not sent, while the writer takes more; else None.
        self._read_ahead: memoryview | None = None

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queue) or self.spooled

    @property
    def spooled(self) -> bool:
        """Whether anything waits on disk, so that everything that follows must go there too."""
        return self.spool is not None and self.spool.size > 0

    def fits(self, size: int) -> bool:
        """Whether ``size`` further bytes may wait in memory."""
        limits = self._limits
        memory = limits.memory
        if limits.budget.scarce and limits.spool:
            memory = min(memory, SCARCE_MEMORY)
        return not self.spooled and self.memory + size <= memory

    @property
    def has_space(self) -> bool:
        """Whether a worker thread that waits may go on: half of the spool is free, so that it is
        not woken often."""
        return self.spool is None or self.spool.size <= self._limits.spool // 2

    def append(self, data: Buffer) -> None:
        """Keep ``data``, which must not be empty, in memory, after what is there."""
        # A view is copied: the end of a large block must not keep all of it in memory.
        self._queue.append(bytes(data))
        self._count(len(data))

    def _count(self, size: int) -> None:
        self.memory += size
        self._limits.budget.add(size)

    def append_file(self, part: FileRange) -> None:
        """Keep a part of a file, with a duplicate of its descriptor; raises OSError."""
        self._queue.append(part._replace(descriptor=os.dup(part.descriptor)))

    def open_spool(self) -> list[Buffer]:
        """Make a spool, if there is none; returns what the caller must write to it first.

        Raises OSError if the limits allow no spool, or the system has no place for the file; then
        everything stays in memory.
        """
        if self.spool is None:
            if not self._limits.spool:
                raise OSError("no spool is configured")
            self.spool = Spool(self._limits.spool)
        taken = [data for data in self._queue if not isinstance(data, FileRange)]
        self._queue.clear()
        self._count(-self.memory)
        return taken

    def send_to(self, writer: Writer) -> int:
        """Send some of the oldest bytes, and forget them; there must be some.

        Returns how many; raises BlockingIOError if the writer takes none, OSError if the connection
        is broken or a file cannot be read.
        """
        if not self._queue:
            return self._send_spooled(writer)
        first = self._queue[0]
        if isinstance(first, FileRange):
            return self._send_file(writer, first)
        buffers = [
            data
            for data in islice(self._queue, BUFFERS_PER_CALL)
            if not isinstance(data, FileRange)
        ]
        sent = rest = writer.send(buffers, more=False)
        self._count(-sent)
        while rest and rest >= len(buffers[0]):
            rest -= len(buffers.pop(0))
            self._queue.popleft()
        if rest:
            self._queue[0] = memoryview(buffers[0])[rest:]
        return sent

    def _send_spooled(self, writer: Writer) -> int:
        assert self.spool is not None
        data = self._read_ahead
        if data is None:
            data = memoryview(self.spool.peek())
            if not data:
                raise OSError("the temporary file has been cut")
        # Forgotten if the writer takes nothing: what waits for a slow client stays on disk.
        self._read_ahead = None
        sent = writer.send((data,))
        self.spool.drop(sent)
        if sent < len(data):
            self._read_ahead = data[sent:]
        return sent

    def _send_file(self, writer: Writer, part: FileRange) -> int:
        sent = writer.send_file(part)
        if not sent:
            raise OSError("the file is shorter than it was when the response began")
        if sent < part.size:
            self._queue[0] = FileRange(part.descriptor, part.offset + sent, part.size - sent)
        else:
            self._queue.popleft()
            os.close(part.descriptor)
        return sent

    def close(self) -> None:
        """Forget everything and close the files, except a spool that is being written."""
        for entry in self._queue:
            if isinstance(entry, FileRange):
                os.close(entry.descriptor)
        self._queue.clear()
        self._count(-self.memory)
        self._read_ahead = None
        if self.spool is not None and not self.spool.writing:
            self.spool.close()
            self.spool = None
