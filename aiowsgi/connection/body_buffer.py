"""Holds what has come of a request body before the application starts."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import IO, Final

__all__ = ["THRESHOLD", "BodyBuffer"]

THRESHOLD: Final = 512 * 1024
"""Bytes held in memory for one request. The interface promises the figure."""


class BodyBuffer:
    """A body in the making; used on the loop only."""

    __slots__ = ("_file", "_held", "_to_disk", "size")

    def __init__(self, *, to_disk: bool) -> None:
        """``to_disk`` lets it grow beyond `THRESHOLD`, in a temporary file."""
        self._to_disk = to_disk
        # What came, until there is a file. In one piece: of an upload that dribbles, a list would
        # take thirty times the memory.
        self._held = bytearray()
        self._file: IO[bytes] | None = None
        # Bytes held.
        self.size = 0

    def add(self, data: bytes) -> None:
        """Hold ``data`` too; raises OSError where the disk has no room."""
        self.size += len(data)
        if self._file is None and self._to_disk and self.size > THRESHOLD:
            import tempfile  # not at start: few servers ever need it

            self._file = tempfile.TemporaryFile(prefix="aiowsgi-")  # noqa: SIM115 (closed below)
            self._file.write(self._held)
            self._held.clear()
        if self._file is None:
            self._held += data
        else:
            self._file.write(data)

    @property
    def full(self) -> bool:
        """It must not grow further: stream the body."""
        return not self._to_disk and self.size >= THRESHOLD

    def take(self) -> bytes:
        """Give away what was held, to begin a stream with."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def open(self) -> IO[bytes]:
        """Give away the complete body as a file, from its beginning; raises OSError."""
        if self._file is None:
            return io.BytesIO(self.take())
        self._file.seek(0)
        file, self._file = self._file, None
        return file

    def close(self) -> None:
        """Forget what was not given away."""
        self._held.clear()
        if self._file is not None:
            # What is buffered is written first, for which a full disk still has no room.
            with suppress(OSError):
                self._file.close()
            self._file = None
