"""Collects what has come of a request body before the application starts.

The bytes are in memory first, and beyond a bound in an unlinked temporary file.
"""

from __future__ import annotations

from contextlib import suppress
from typing import IO, Final, final

from aiowsgi.exchange.memory_budget import CountedBytesIO, MemoryBudget

__all__ = ["SCARCE_THRESHOLD", "THRESHOLD", "BodyBuffer"]

THRESHOLD: Final = 512 * 1024
"""Bytes held in memory for one request. The interface promises the figure."""

SCARCE_THRESHOLD: Final = 16 * 1024
"""The same while memory is scarce (`MemoryBudget.scarce`): a smaller body takes less memory than
the file object that it would be written to takes with its buffer. A guess."""


@final
class BodyBuffer:
    """A body while it is collected; used on the event loop only."""

    __slots__ = ("_budget", "_file", "_held", "size", "to_disk")

    def __init__(self, budget: MemoryBudget, *, to_disk: bool) -> None:
        """``to_disk`` lets it grow beyond `THRESHOLD`, in a temporary file."""
        self._budget = budget
        self.to_disk = to_disk
        # What came, until there is a file. One piece: for an upload in tiny pieces, a list would
        # take thirty times the memory.
        self._held = bytearray()
        self._file: IO[bytes] | None = None
        # Bytes collected.
        self.size = 0

    def add(self, data: bytes) -> None:
        """Collect ``data``; raises OSError if the disk is full."""
        self.size += len(data)
        if self._file is None and self._must_spill:
            import tempfile  # not at start: few servers ever need it

            self._file = tempfile.TemporaryFile(prefix="aiowsgi-")  # noqa: SIM115 (closed below)
            self._file.write(self._held)
            self._drop_held()
        if self._file is None:
            self._held += data
            self._budget.add(len(data))
        else:
            self._file.write(data)

    @property
    def _must_spill(self) -> bool:
        if self._budget.scarce:
            return self.size > SCARCE_THRESHOLD
        return self.to_disk and self.size > THRESHOLD

    @property
    def full(self) -> bool:
        """Whether it should not grow further: the body is to be streamed from here on.

        A body that is on disk already is collected to its end.
        """
        return self._file is None and not self.to_disk and self.size >= THRESHOLD

    def take(self) -> bytes:
        """Give away what is in memory, to begin a stream with."""
        held = bytes(self._held)
        self._drop_held()
        return held

    def open(self) -> IO[bytes]:
        """Give away the complete body as a file, from its beginning; raises OSError."""
        if self._file is None:
            return CountedBytesIO(self.take(), self._budget)
        self._file.seek(0)
        file, self._file = self._file, None
        return file

    def close(self) -> None:
        """Release what was not given away."""
        self._drop_held()
        if self._file is not None:
            # close() writes what is buffered first, for which a full disk still has no room.
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _drop_held(self) -> None:
        self._budget.add(-len(self._held))
        self._held.clear()
