"""``wsgi.file_wrapper`` (PEP 3333, "Optional Platform-Specific File Handling").

An application wraps a file in `FileWrapper` and returns it. Where `file_range` recognises a plain
file, the kernel sends it without its bytes ever entering Python; any other file-like object is
read in blocks, as the iterable that the wrapper is.
"""

from __future__ import annotations

import io
import os
import stat
from typing import IO, NamedTuple, Self

__all__ = ["FileRange", "FileWrapper", "file_range"]


class FileRange(NamedTuple):
    """A part of a regular file, in bytes; the descriptor stays its owner's."""

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

    # An iterator, not only an iterable: middleware that calls iter() on it finds close() there.

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if block := self.filelike.read(self.block_size):
            return block
        raise StopIteration


def file_range(filelike: object) -> FileRange | None:
    """The rest of an open regular file from its present position, or None where there is none.

    A ``fileno()`` alone proves nothing: that of a gzip reader is the compressed file's. So only
    the plain files of the ``io`` module count, and no subclass of theirs, which may read as it
    likes, but for what ``tempfile`` wraps around them.
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
    # The files of /proc are regular and have a size of 0, whatever can be read from them.
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    offset = filelike.tell()  # type: ignore[attr-defined]
    return FileRange(descriptor, offset, max(0, status.st_size - offset))
