"""The file of a unix socket: made with its mode, told stale from live, removed only if still ours.

A file that nobody listens behind is replaced; a live one never, and nothing that is no socket. Two
servers that find the same stale file at the same moment are told apart by its inode just before the
removal; between that look and the removal lies a window of microseconds, which only a lock file
could close. The sockets themselves are opened in ``net/listeners.py``; here OSError is left as it
comes.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["SocketFile", "remove_stale_socket", "temporary_umask"]

_Inode: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SocketFile:
    """A file that this process has bound a socket to."""

    path: str
    """Absolute, for the application may change the working directory."""
    inode: _Inode
    """Tells our file from one that took its place."""
    owner: int
    """Process id: a forked worker that closes its copy of the socket must leave the file."""

    @classmethod
    def of(cls, path: str) -> SocketFile:
        """Record the file that bind(2) has just made."""
        return cls(os.path.abspath(path), _inode(os.lstat(path)), os.getpid())

    def remove(self) -> None:
        """Remove the file if it is still ours.

        A failure, as after dropping privileges, is passed over: the next start replaces the file.
        """
        with suppress(OSError):
            if self.owner == os.getpid() and _inode(os.lstat(self.path)) == self.inode:
                os.unlink(self.path)


@contextmanager
def temporary_umask(mask: int | None) -> Iterator[None]:
    """Have bind(2) give the file its final mode: there is no moment at which it is too open.

    The mask belongs to the whole process, so threads that create files meanwhile see it too; None
    leaves it alone.
    """
    if mask is None:
        yield
        return
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def remove_stale_socket(path: str) -> None:
    """Remove the socket that a server which is gone left at ``path``.

    Raises FileExistsError for a file that is no socket, and OSError with EADDRINUSE for a socket
    that is in use or was replaced while we looked.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if _is_live(path) or _inode(os.lstat(path)) != _inode(found):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def _is_live(path: str) -> bool:
    """Whether somebody may be listening: only a refused connection proves that nobody is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)  # a full backlog must not hold us up: it proves a listener
        outcome = probe.connect_ex(path)
    if outcome == errno.EACCES:
        raise PermissionError(outcome, os.strerror(outcome))
    return outcome != errno.ECONNREFUSED


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino
