"""Pid files, users and groups; what needs root runs in a child process."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from processes import ROOT

from aiowsgi.exceptions import ConfigError
from aiowsgi.net.unix_socket import SocketFile
from aiowsgi.system.privileges import Identity, pid_file

ME = Identity()
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOT_AS_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may become anybody")
NOBODY = pwd.getpwnam("nobody")
ABSENT = "54321"


# Users and groups


@AS_ROOT
@pytest.mark.parametrize(
    ("user", "group", "identity"),
    [
        (None, None, Identity()),
        ("nobody", None, Identity(NOBODY.pw_uid, NOBODY.pw_gid, "nobody")),
        (str(NOBODY.pw_uid), None, Identity(NOBODY.pw_uid, NOBODY.pw_gid, "nobody")),
        ("nobody", "root", Identity(NOBODY.pw_uid, 0, "nobody")),
        (None, "7", Identity(gid=7)),
        (ABSENT, "7", Identity(int(ABSENT), 7)),
    ],
)
def test_identity(user: str | None, group: str | None, identity: Identity) -> None:
    """Names or numbers; a user has its primary group unless another is given."""
    assert Identity.of(user, group) == identity


@pytest.mark.parametrize(
    ("user", "group", "message"),
    [
        ("nobody-of-that-name", None, "user: there is no user nobody-of-that-name"),
        (None, "no-group-of-that-name", "group: there is no group no-group-of-that-name"),
        (ABSENT, None, f"user: {ABSENT} has no entry in the user database; set group too"),
    ],
)
def test_unknown(user: str | None, group: str | None, message: str) -> None:
    """An unknown name is a ConfigError."""
    with pytest.raises(ConfigError, match=message):
        Identity.of(user, group)


def test_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root, only the process's own user and group are accepted."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: NOBODY.pw_gid)
    assert Identity.of("nobody", None).is_current()
    with pytest.raises(ConfigError, match="user: only root can change it"):
        Identity.of("root", None)
    with pytest.raises(ConfigError, match="group: only root can change it"):
        Identity.of(None, "0")


@AS_ROOT
@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ('Identity.of("nobody", None)', [NOBODY.pw_uid, NOBODY.pw_gid, [NOBODY.pw_gid]]),
        (f'Identity.of("{ABSENT}", "7")', [int(ABSENT), 7, [7]]),
        ('Identity.of(None, "7")', [0, 7, [7]]),
    ],
)
@pytest.mark.slow("processes")
def test_assume(tmp_path: Path, identity: str, expected: list[object]) -> None:
    """Root's groups are dropped, there is no way back, and socket files change their owner."""
    socket_file = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(socket_file))
    script = f"""
import os
from aiowsgi.net.unix_socket import SocketFile
from aiowsgi.net.unix_socket import SocketFile
from aiowsgi.system.privileges import Identity
identity = {identity}
identity.chown_sockets([SocketFile.of({str(socket_file)!r})])
identity.drop_privileges()
print([os.geteuid(), os.getegid(), os.getgroups()])
if os.geteuid():
    try:
        os.setuid(0)
    except PermissionError:
        print("no way back")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == str(expected)
    assert lines[1:] == ["no way back"] * bool(expected[0])
    status = socket_file.stat()
    assert [status.st_uid, status.st_gid] == expected[:2]


def test_nothing_to_assume(tmp_path: Path) -> None:
    """With its own user and group, the process changes nothing and gives no file away."""
    before = os.getresuid(), os.getresgid(), os.getgroups()
    ME.chown_sockets([SocketFile(str(tmp_path / "no such file"), (0, 0), os.getpid())])
    ME.drop_privileges()
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@NOT_AS_ROOT
def test_own_group() -> None:
    """The process's own names are accepted without root."""
    names = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    assert Identity.of(*names).is_current()


# The pid file


def test_pid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has the process id during the block, whatever the working directory."""
    monkeypatch.chdir(tmp_path)
    with pid_file("server.pid", ME):
        os.chdir("/")
        assert (tmp_path / "server.pid").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "server.pid").exists()


def test_no_pid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path there is no file."""
    monkeypatch.chdir(tmp_path)
    with pid_file(None, ME):
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    ["", "1\n", f"{os.getpid()}\n", "a stale number that is long"],
    ids=["empty", "init", "ours", "long"],
)
def test_stale(tmp_path: Path, content: str) -> None:
    """A stale file is overwritten, even one with the number of a live process."""
    path = tmp_path / "server.pid"
    path.write_text(content)
    with pid_file(str(path), ME):
        assert path.read_text() == f"{os.getpid()}\n"


def test_live(tmp_path: Path) -> None:
    """A file that a live process holds is not changed."""
    path = tmp_path / "server.pid"
    with pid_file(str(path), ME):
        with (
            pytest.raises(ConfigError, match=f"process {os.getpid()} is running"),
            pid_file(str(path), ME),
        ):
            raise AssertionError("two have the file")
        assert path.read_text() == f"{os.getpid()}\n"


def test_unwritable(tmp_path: Path) -> None:
    """A path that cannot be written is a ConfigError."""
    with (
        pytest.raises(ConfigError, match=r"pid: .*no such file or directory"),
        pid_file(str(tmp_path / "none" / "server.pid"), ME),
    ):
        pass


@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symlink", "hard link"])
def test_a_link_is_never_opened(tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    """The pid file is not opened through a link, and what the link leads to is not changed."""
    secret, path = tmp_path / "shadow", tmp_path / "server.pid"
    secret.write_text("secret")
    make(secret, path)
    before = secret.stat()
    with (
        pytest.raises(ConfigError, match="must be a regular file with one name, not a link"),
        pid_file(str(path), ME),
    ):
        pass
    assert secret.read_text() == "secret"
    assert (before.st_uid, before.st_mtime_ns) == (secret.stat().st_uid, secret.stat().st_mtime_ns)


def test_a_link_to_nothing_creates_nothing(tmp_path: Path) -> None:
    """The pid file is not created through a link either."""
    (tmp_path / "server.pid").symlink_to(tmp_path / "other")
    with pytest.raises(ConfigError, match="not a link"), pid_file(str(tmp_path / "server.pid"), ME):
        pass
    assert not (tmp_path / "other").exists()


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe in the file's place is refused at once."""
    os.mkfifo(tmp_path / "server.pid")
    with (
        pytest.raises(ConfigError, match="regular file"),
        pid_file(str(tmp_path / "server.pid"), ME),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_pid_file_is_given_away_by_descriptor(tmp_path: Path) -> None:
    """The file that is locked gets the new owner, not what has replaced it."""
    secret, path = tmp_path / "shadow", tmp_path / "server.pid"
    secret.write_text("secret")

    class Meddler(Identity):
        __slots__ = ()

        def chown_descriptor(self, descriptor: int) -> None:
            path.unlink()
            path.symlink_to(secret)
            super().chown_descriptor(descriptor)
            assert os.fstat(descriptor).st_uid == NOBODY.pw_uid

    with pid_file(str(path), Meddler(NOBODY.pw_uid, NOBODY.pw_gid, "nobody")):
        assert secret.stat().st_uid == os.geteuid()
    assert secret.read_text() == "secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symlink", "hard link"])
def test_a_socket_that_was_replaced_is_not_given_away(
    tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    """The owner of a unix socket's file changes only if the file is still the bound one."""
    secret, path = tmp_path / "shadow", tmp_path / "socket"
    secret.write_text("secret")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    file = SocketFile.of(str(path))
    path.unlink()
    make(secret, path)
    with suppress(OSError):
        Identity(NOBODY.pw_uid, NOBODY.pw_gid).chown_sockets([file])
    assert secret.stat().st_uid == os.geteuid()


def test_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks has its own message."""

    def fail(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", fail)
    with (
        pytest.raises(ConfigError, match="operation not supported"),
        pid_file(str(tmp_path / "server.pid"), ME),
    ):
        pass


@pytest.mark.parametrize("put_back", [lambda path: path.touch(), lambda path: None])
def test_owner_leaves_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put_back: Callable[[Path], None]
) -> None:
    """A file that its owner removes before it is locked is opened again."""
    import fcntl

    path = tmp_path / "server.pid"
    real, calls = fcntl.flock, []

    def lock(descriptor: int, operation: int) -> None:
        if not calls:
            path.unlink()
            put_back(path)
        calls.append(descriptor)
        real(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", lock)
    with pid_file(str(path), ME):
        assert path.read_text() == f"{os.getpid()}\n"
    assert len(calls) == 2


def test_directory_closed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not remove the file leaves it behind silently."""
    path = tmp_path / "server.pid"

    def fail(*_: object) -> None:
        raise PermissionError

    with pid_file(str(path), ME):
        monkeypatch.setattr(os, "unlink", fail)
    monkeypatch.undo()
    assert path.exists()
    with pid_file(str(path), ME):
        assert path.read_text() == f"{os.getpid()}\n"
