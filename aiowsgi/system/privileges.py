"""The user and group of the process, and its pid file.

The process that binds the sockets drops its privileges afterwards (``--user``, ``--group``); the
processes that it starts inherit the user. No process can become root again. Files that are read
later, such as certificates after HUP, must therefore be readable by that user, and a privileged
port cannot be added without a restart.

The folder of the pid file or of a unix socket may belong to that user, who could put a link there.
So root opens no link, and changes the owner of a file only by descriptor.

The process holds a lock on the pid file (flock(2)). A lock ends with its process, so it proves that
the server runs; a number in a file may belong to another program by now.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from aiowsgi.exceptions import ConfigError

__all__ = ["Identity", "pid_file"]


class BoundFile(Protocol):
    """The file of a unix socket that this process has bound."""

    @property
    def path(self) -> str: ...

    @property
    def inode(self) -> tuple[int, int]:
        """Device and inode number."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and a group; None keeps that of the process."""

    uid: int | None = None
    gid: int | None = None
    name: str | None = None
    """Name of the user, for its supplementary groups (initgroups(3)); None if it has none."""

    @classmethod
    def of(cls, user: str | None, group: str | None) -> Identity:
        """Look up names or numbers. Without ``group``, the user's primary group is used.

        Raises ConfigError if the user or group does not exist, or if the process may not change to
        it. Call it before anything is bound, so that the error comes first.
        """
        identity = cls() if user is None else _account(user)
        if group is not None:
            identity = replace(identity, gid=_group(group))
        if identity.uid is not None and identity.gid is None:
            raise ConfigError(f"user: {user} has no entry in the user database; set group too")
        if os.geteuid() != 0 and not identity.is_current():
            raise ConfigError(f"{'group' if user is None else 'user'}: only root can change it")
        return identity

    def is_current(self) -> bool:
        """Return whether the process has this user and group already."""
        return self.uid in {None, os.geteuid()} and self.gid in {None, os.getegid()}

    def chown_sockets(self, files: Iterable[BoundFile]) -> None:
        """Make the user and group the owners of unix sockets' files. Raises OSError."""
        if not self.is_current():
            for file in files:
                _chown_socket(file, _or_same(self.uid), _or_same(self.gid))

    def chown_descriptor(self, descriptor: int) -> None:
        """Make the user and group the owners of an open file. Raises OSError."""
        if not self.is_current():
            os.fchown(descriptor, _or_same(self.uid), _or_same(self.gid))

    def drop_privileges(self) -> None:
        """Change the process to this user and group, irrevocably. Raises OSError."""
        if self.is_current():
            return
        if self.gid is not None:
            # The supplementary groups of root would remain otherwise.
            if self.name is not None:
                os.initgroups(self.name, self.gid)
            else:
                os.setgroups([self.gid])
            os.setgid(self.gid)
        if self.uid is not None:
            os.setuid(self.uid)


def _or_same(number: int | None) -> int:
    """Return -1, which keeps the owner or group (chown(2)), for None."""
    return -1 if number is None else number


def _chown_socket(file: BoundFile, uid: int, gid: int) -> None:
    """Change the owner of a unix socket's file unless another file has replaced it.

    The folder may belong to the user that the process will become: between a check by name and
    chown(2) by name, that user could replace the file by a link to any file of root.
    """
    if not hasattr(os, "O_PATH"):  # macOS and others
        if _is_socket(file, os.lstat(file.path)):
            os.chown(file.path, uid, gid, follow_symlinks=False)
        return
    descriptor = os.open(file.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _is_socket(file, os.fstat(descriptor)):
            # fchown(2) refuses descriptors of O_PATH; this link leads to the same inode.
            os.chown(f"/proc/self/fd/{descriptor}", uid, gid)
    finally:
        os.close(descriptor)


def _is_socket(file: BoundFile, status: os.stat_result) -> bool:
    return stat.S_ISSOCK(status.st_mode) and (status.st_dev, status.st_ino) == file.inode


def _account(user: str) -> Identity:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if not user.isdecimal():
            raise ConfigError(f"user: there is no user {user}") from None
        # In a container, a number often has no entry in the user database.
        return Identity(uid=int(user))
    return Identity(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _group(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"group: there is no group {group}") from None


# The pid file

_MODE: Final = 0o644

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NOFOLLOW refuses a link; O_NONBLOCK does not wait for the other end of a named pipe."""

_NO_LINK: Final = "must be a regular file with one name, not a link; remove it"


@contextmanager
def pid_file(path: str | None, identity: Identity) -> Iterator[None]:
    """Write the process id to the file at ``path``, and remove the file after the block.

    A stale file is overwritten. Raises ConfigError if another process holds the file, if it is a
    link or not a regular file, or if it cannot be written. Does nothing if ``path`` is None.
    """
    if path is None:
        yield
        return
    path = os.path.abspath(path)
    try:
        descriptor = _lock(path)
    except OSError as error:
        reason = _NO_LINK if error.errno == errno.ELOOP else (error.strerror or str(error)).lower()
        raise ConfigError(f"pid: {path}: {reason}") from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        identity.chown_descriptor(descriptor)
        yield
    finally:
        # After dropping privileges the process may not remove the file; the next start overwrites
        # it.
        with suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _lock(path: str) -> int:
    """Open and lock the file; raises ConfigError if it is a link or another process holds it."""
    while True:
        descriptor = os.open(path, _FLAGS, _MODE)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise ConfigError(f"pid: {path}: {_NO_LINK}")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another server may have removed the file between open() and flock().
            if _is_at(path, descriptor):
                return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise ConfigError(f"pid: {path}: process {holder} is running") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
