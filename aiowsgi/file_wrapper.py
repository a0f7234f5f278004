"""``wsgi.file_wrapper`` (PEP 3333, "Optional Platform-Specific File Handling").

An application wraps a file in `FileWrapper` and returns it. Where `file_range` recognises a plain
file, the kernel sends it without its bytes ever entering Python; any other file-like object is
read in blocks, as the iterable that the wrapper is.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from tempfile import _TemporaryFileWrapper
from typing import IO, NamedTuple

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
        close = getattr(filelike, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.filelike.read(self.block_size), b"")


def file_range(filelike: object) -> FileRange | None:
    """The rest of an open regular file from its present position, or None where there is none.

    A ``fileno()`` alone proves nothing: that of a gzip reader is the compressed file's. So only
    the plain files of the ``io`` module count, and what ``tempfile`` wraps around them.
    """
    if isinstance(filelike, _TemporaryFileWrapper):
        filelike = filelike.file
    raw = filelike.raw if isinstance(filelike, io.BufferedReader | io.BufferedRandom) else filelike
    if not isinstance(raw, io.FileIO):
        return None
    if isinstance(filelike, io.BufferedRandom):
        filelike.flush()
    descriptor = raw.fileno()
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    offset = filelike.tell()  # type: ignore[attr-defined]
    return FileRange(descriptor, offset, max(0, status.st_size - offset))
