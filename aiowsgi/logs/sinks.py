"""The destinations of the access log: a file, standard output, a logger.

A sink is used by one thread. Several processes may write to one destination, and their lines do not
mix:

* A file is opened for appending, and a batch is one write(2), for which Linux moves the offset
  under the file's lock.
* To anything but a file, such as a pipe, pieces of at most PIPE_BUF bytes are written, which POSIX
  keeps whole on a pipe.

Only a line that is longer than that, and a batch that a full disk cuts, can be torn. The line after
a torn one begins on a new line.
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
"""Seconds to wait for the reader of a pipe that is in non-blocking mode. A guess."""

STDOUT: Final = 1


class LogSink(Protocol):
    """A destination of lines. Each method may raise OSError; the sink can be used after that."""

    def write(self, lines: Sequence[str]) -> None:
        """Write lines, which are given without line ends."""

    def reopen(self) -> None:
        """Reopen a file that was renamed."""

    def close(self) -> None:
        """Close; nothing is written after it."""


class DescriptorSink:
    """Writes to a descriptor that it does not close: standard output."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        # What was written ends within a line.
        self._torn = False

    def write(self, lines: Sequence[str]) -> None:
        """Write lines in as few pieces as the destination keeps whole; raises OSError."""
        text = "\n".join(lines) + "\n"
        # The text of a format may contain any character.
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
        """Do nothing: the descriptor has no path."""

    def close(self) -> None:
        """Do nothing: the descriptor is used by others too."""


def _pieces(data: bytes, limit: int) -> Iterator[bytes]:
    """Split at line ends into pieces of at most ``limit`` bytes, or of one longer line."""
    start = 0
    while start < len(data):
        end = len(data)
        if end - start > limit:
            end = data.rfind(b"\n", start, start + limit) + 1 or data.find(b"\n", start) + 1
        yield data[start:end]
        start = end


class FileSink(DescriptorSink):
    """Appends to a file. Raises ConfigError if it cannot be opened at the start."""

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
        """Open the path again; if that raises OSError, the old file stays in use."""
        old, self.descriptor = self.descriptor, self._open()
        self._torn = False
        os.close(old)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class LoggerSink:
    """Logs each line as the message of a record of level INFO."""

    def __init__(self, target: logging.Logger) -> None:
        self._target = target

    def write(self, lines: Sequence[str]) -> None:
        """Log the lines; the times of the records are those of writing."""
        for line in lines:
            self._target.info(line)

    def reopen(self) -> None:
        """Do nothing: `reopen_files` of ``logs/setup.py`` reopens the handlers' files."""

    def close(self) -> None:
        """Do nothing: ``logging`` closes the handlers."""


def open_sink(destination: str) -> LogSink:
    """Open the sink of ``--access-logfile``: a path, or ``-`` for standard output.

    Raises ConfigError if the file cannot be opened.
    """
    if destination != "-":
        return FileSink(destination)
    # Its descriptor may belong to another file or socket by now.
    if sys.__stdout__ is None:
        raise ConfigError("access-logfile: standard output is closed")
    return DescriptorSink(STDOUT)
