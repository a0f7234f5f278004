"""What a process is to the system: its pid file, its user and group.

``--user`` and ``--group`` are taken on once all sockets are bound, by the process that bound them:
the supervisor and, since they are started by it, its workers. No process of ours keeps the right to
become root again. The price: what is read later, certificates on HUP above all, must be readable by
that user, and a privileged port cannot be added without a restart.

A pid file is locked for as long as its process lives (flock(2)). So a stale one is told from a live
one with certainty: a number in a file may long be another program's, a lock is never left behind.
"""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from aiowsgi.exceptions import ConfigError

__all__ = ["Identity", "pid_file"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom to become; None leaves what the process is."""

    uid: int | None = None
    gid: int | None = None
    name: str | None = None
    """The user's name, where it has one: that of its further groups (initgroups(3))."""

    @classmethod
    def of(cls, user: str | None, group: str | None) -> Identity:
        """Look up names or numbers. Without ``group``, the user's own is taken.

        Raises ConfigError where there is none of that name, or where this process may not become
        it; before anything is bound, so that the message is the first.
        """
        identity = cls() if user is None else _account(user)
        if group is not None:
            identity = replace(identity, gid=_group(group))
        if identity.uid is not None and identity.gid is None:
            raise ConfigError(f"user: {user} has no group of its own here; give group too")
        if os.geteuid() != 0 and not identity.is_current():
            raise ConfigError(f"{'group' if user is None else 'user'}: only root can change it")
        return identity

    def is_current(self) -> bool:
        """Whether this process is that already."""
        return self.uid in {None, os.geteuid()} and self.gid in {None, os.getegid()}

    def chown(self, paths: Iterable[str]) -> None:
        """Give files to it: sockets that it shall be able to remove or guard. Raises OSError."""
        if not self.is_current():
            for path in paths:
                os.chown(path, -1 if self.uid is None else self.uid, _or_same(self.gid))

    def drop_privileges(self) -> None:
        """Become it, for good. Raises OSError."""
        if self.is_current():
            return
        if self.gid is not None:
            # The groups that root is in would stay otherwise.
            if self.name is not None:
                os.initgroups(self.name, self.gid)
            else:
                os.setgroups([self.gid])
            os.setgid(self.gid)
        if self.uid is not None:
            os.setuid(self.uid)


def _or_same(number: int | None) -> int:
    """As chown(2) takes it: -1 leaves the owner or the group as it is."""
    return -1 if number is None else number


def _account(user: str) -> Identity:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if not user.isdecimal():
            raise ConfigError(f"user: there is no user {user}") from None
        # In a container a number often has no entry.
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


@contextmanager
def pid_file(path: str | None, identity: Identity) -> Iterator[None]:
    """Have this process's number in the file at ``path`` for as long as the block runs.

    What a process that is gone has left there is replaced. Raises ConfigError where a live one has
    it, or where it cannot be written. Nothing happens where ``path`` is None.
    """
    if path is None:
        yield
        return
    path = os.path.abspath(path)
    try:
        descriptor = _lock(path)
    except OSError as error:
        raise ConfigError(f"pid: {path}: {(error.strerror or str(error)).lower()}") from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        identity.chown([path])
        yield
    finally:
        # Once privileges are given up, the directory may be closed to us: the next start copes.
        with suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _lock(path: str) -> int:
    """Open and lock the file; raises ConfigError where another process has it locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its owner may have removed it between our opening and our locking.
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
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
