"""Where the lines of the access log go: a file, standard output, a logger.

A sink belongs to one thread; it knows no queue, no record and no format. Several processes may
write to one place, and their lines do not mix:

* A file is opened for appending, and a batch is one write(2), before which Linux moves the offset
  under the file's lock.
* Anything but a file, a pipe above all, is given no piece longer than PIPE_BUF, up to which POSIX
  has writes to a pipe whole.

Only a single line that is longer, and a batch that a full disk cuts, can be torn. The line after a
torn one begins on a line of its own.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from aiowsgi.exceptions import ConfigError

__all__ = ["DescriptorSink", "FileSink", "LogSink", "LoggerSink", "open_sink"]

PATIENCE: Final = 1.0
"""Seconds to wait for the reader of a pipe that somebody has made non-blocking. A guess."""

STDOUT: Final = 1


class LogSink(Protocol):
    """Where lines go. Each method may raise OSError; a sink goes on after it."""

    def write(self, lines: Sequence[str]) -> None:
        """Write lines that come without their ends."""

    def reopen(self) -> None:
        """Let go of a file that has been renamed."""

    def close(self) -> None:
        """Nothing more will be written."""


class DescriptorSink:
    """Writes to an open descriptor, which stays its owner's: standard output."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        # Part of a line stands at the end of what was written.
        self._torn = False

    def write(self, lines: Sequence[str]) -> None:
        """Write lines in as few pieces as stay whole; raises OSError."""
        text = "\n".join(lines) + "\n"
        # A format's own text may hold any character that the operator liked.
        data = text.encode("utf-8", "backslashreplace")
        is_file = stat.S_ISREG(os.fstat(self.descriptor).st_mode)
        for piece in [data] if is_file else _pieces(data, select.PIPE_BUF):
            self._send(b"\n" + piece if self._torn else piece)

    def _send(self, piece: bytes) -> None:
        rest = piece
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        finally:
            self._torn = len(rest) > 0 and (self._torn or len(rest) < len(piece))

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:
            poll = select.poll()
            poll.register(self.descriptor, select.POLLOUT)
            if not poll.poll(PATIENCE * 1000):
                raise
            return 0

    def reopen(self) -> None:
        """Nothing: the descriptor was opened by somebody else."""

    def close(self) -> None:
        """Nothing: the descriptor may serve others."""


def _pieces(data: bytes, limit: int) -> Iterator[bytes]:
    """Cut at line ends into pieces of at most ``limit`` bytes, or of one longer line."""
    start = 0
    while start < len(data):
        end = len(data)
        if end - start > limit:
            end = data.rfind(b"\n", start, start + limit) + 1 or data.find(b"\n", start) + 1
        yield data[start:end]
        start = end


class FileSink(DescriptorSink):
    """Appends to a file by its path. Raises ConfigError where it cannot be opened at first."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            descriptor = self._open()
        except OSError as error:
            raise ConfigError(f"access-logfile: {error}") from error
        super().__init__(descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def reopen(self) -> None:
        """Open the path anew; where that raises OSError, the old file stays in use."""
        old, self.descriptor = self.descriptor, self._open()
        self._torn = False
        os.close(old)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class LoggerSink:
    """Gives each line to a logger as the message of a record of level INFO."""

    def __init__(self, target: logging.Logger) -> None:
        self._target = target

    def write(self, lines: Sequence[str]) -> None:
        """Log the lines; their records' times are those of writing."""
        for line in lines:
            self._target.info(line)

    def reopen(self) -> None:
        """Nothing: a logger's handlers are reopened by ``logs.reopen_files``."""

    def close(self) -> None:
        """Nothing: a logger's handlers are closed by ``logging``."""


def open_sink(destination: str) -> LogSink:
    """The sink of ``--access-logfile``: a path, or ``-`` for standard output.

    Raises ConfigError where the file cannot be opened.
    """
    if destination != "-":
        return FileSink(destination)
    # Else the number might have gone to the next file or socket that was opened.
    if sys.__stdout__ is None:
        raise ConfigError("access-logfile: standard output is closed")
    return DescriptorSink(STDOUT)
