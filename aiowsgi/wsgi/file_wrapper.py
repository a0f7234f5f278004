"""``wsgi.file_wrapper`` (PEP 3333, "Optional Platform-Specific File Handling").

An application returns a file wrapped in `FileWrapper`. If `file_range` recognises a regular file,
the kernel sends it without copying it into Python. Any other file-like object is read in blocks,
because the wrapper is an iterator.
"""

from __future__ import annotations

import io
import os
import stat
from typing import IO, NamedTuple, Self

__all__ = ["FileRange", "FileWrapper", "file_range"]


class FileRange(NamedTuple):
    """A range of a regular file in bytes; the descriptor remains the caller's."""

    descriptor: int
    offset: int
    size: int


class FileWrapper:
    """``wsgi.file_wrapper`` (PEP 3333, "Optional Platform-Specific File Handling")."""

    def __init__(self, filelike: IO[bytes], block_size: int = 64 * 1024) -> None:
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    # An iterator, not only an iterable: middleware that calls iter() on it then finds close().

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if block := self.filelike.read(self.block_size):
            return block
        raise StopIteration


def file_range(filelike: object) -> FileRange | None:
    """Return the rest of an open regular file from its current position, or None.

    A ``fileno()`` proves nothing: that of a gzip reader is the compressed file's. So only the exact
    types of ``io``, not subclasses, which may read differently, are recognised, and what
    ``tempfile`` wraps around them.
    """
    if type(filelike).__module__ == "tempfile":
        filelike = getattr(filelike, "file", filelike)
    raw = filelike
    if type(filelike) is io.BufferedReader or type(filelike) is io.BufferedRandom:
        raw = filelike.raw
    if type(raw) is not io.FileIO or not raw.readable():
        return None
    if type(filelike) is io.BufferedRandom:
        filelike.flush()
    descriptor = raw.fileno()
    status = os.fstat(descriptor)
    # Files of /proc are regular and have a size of 0, whatever they contain.
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    offset = filelike.tell()  # type: ignore[attr-defined]
    return FileRange(descriptor, offset, max(0, status.st_size - offset))
