"""Manages the files of unix sockets.

A stale file, whose socket no process listens on, is replaced. A live socket or a file of another
type never is. If two servers find the same stale file at once, the inode is compared just before
the removal; a window of microseconds remains, which only a lock file could close. The sockets
themselves are opened in ``net/listeners.py``, which also translates OSError.
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
    """The file of a unix socket that this process has bound."""

    path: str
    """Absolute path: the application may change the working directory."""
    inode: _Inode
    """Distinguishes the file from one that has replaced it."""
    owner: int
    """Process id; a forked worker that closes its copy of the socket does not remove the file."""

    @classmethod
    def of(cls, path: str) -> SocketFile:
        """Record the file that bind(2) has just created."""
        return cls(os.path.abspath(path), _inode(os.lstat(path)), os.getpid())

    def remove(self) -> None:
        """Remove the file if it has not been replaced.

        Errors are ignored, for example after dropping privileges: the next start replaces the file.
        """
        with suppress(OSError):
            if self.owner == os.getpid() and _inode(os.lstat(self.path)) == self.inode:
                os.unlink(self.path)


@contextmanager
def temporary_umask(mask: int | None) -> Iterator[None]:
    """Set the umask during the block, so that bind(2) creates the file with its final mode.

    The umask belongs to the whole process: other threads that create files see it too. None changes
    nothing.
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
    """Remove the stale socket at ``path``.

    Raises FileExistsError for a file of another type, and OSError with EADDRINUSE for a socket that
    is in use or has just been replaced.
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
    """Return whether a process may be listening; only ECONNREFUSED proves the opposite."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)  # a full backlog must not hold us up: it proves a listener
        outcome = probe.connect_ex(path)
    if outcome == errno.EACCES:
        raise PermissionError(outcome, os.strerror(outcome))
    return outcome != errno.ECONNREFUSED


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino
