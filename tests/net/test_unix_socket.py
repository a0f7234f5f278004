"""The files of unix sockets: ownership and removal."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from aiowsgi.net.unix_socket import SocketFile, remove_stale_socket, temporary_umask


def bind(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    return sock


def test_nothing_in_the_way(tmp_path: Path) -> None:
    """A free path needs nothing."""
    remove_stale_socket(str(tmp_path / "s"))
    assert not list(tmp_path.iterdir())


def test_stale(tmp_path: Path) -> None:
    """A stale socket is removed."""
    path = tmp_path / "s"
    bind(path).close()
    assert path.is_socket()
    remove_stale_socket(str(path))
    assert not path.exists()


def test_live(tmp_path: Path) -> None:
    """A live socket stays, even if its backlog is full."""
    path = tmp_path / "s"
    with bind(path) as server, socket.socket(socket.AF_UNIX) as client:
        server.listen(0)
        client.connect(str(path))
        for _ in range(2):
            with pytest.raises(OSError, match="in use") as caught:
                remove_stale_socket(str(path))
            assert caught.value.errno == errno.EADDRINUSE
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_no_socket(tmp_path: Path, kind: str) -> None:
    """A file that is not a socket stays, and so does a link to a stale socket."""
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        bind(tmp_path / "target").close()
        path.symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        remove_stale_socket(str(path))
    assert path.lstat()


def test_not_allowed_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that the process may not connect to does not count as stale."""
    path = tmp_path / "s"
    bind(path).close()
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.EACCES)
    with pytest.raises(PermissionError):
        remove_stale_socket(str(path))
    assert path.is_socket()


def test_replaced_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another server creates in the meantime stays."""
    path = tmp_path / "s"
    bind(path).close()

    def other_server_starts(*_: object) -> int:
        path.rename(tmp_path / "kept, so that the inode is not given out again")
        bind(path).close()
        return errno.ECONNREFUSED

    monkeypatch.setattr(socket.socket, "connect_ex", other_server_starts)
    with pytest.raises(OSError, match="in use"):
        remove_stale_socket(str(path))
    assert path.is_socket()


def test_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is removed, whatever the working directory; a second call is harmless."""
    monkeypatch.chdir(tmp_path)
    bind(Path("s")).close()
    file = SocketFile.of("s")
    monkeypatch.chdir("/")
    file.remove()
    assert not (tmp_path / "s").exists()
    file.remove()


def test_remove_not_ours(tmp_path: Path) -> None:
    """The file of a server that has replaced it stays."""
    path = tmp_path / "s"
    bind(path).close()
    file = SocketFile.of(str(path))
    path.rename(tmp_path / "old")
    bind(path).close()
    file.remove()
    assert path.is_socket()


def test_remove_in_a_child(tmp_path: Path) -> None:
    """A process that did not bind the file leaves it."""
    path = tmp_path / "s"
    bind(path).close()
    file = SocketFile.of(str(path))
    SocketFile(file.path, file.inode, owner=os.getpid() + 1).remove()
    assert path.is_socket()


@pytest.mark.parametrize(("mask", "mode"), [(None, 0o755), (0o077, 0o700), (0, 0o777)])
def test_creation_mask(tmp_path: Path, mask: int | None, mode: int) -> None:
    """The umask is set during the block only."""
    before = os.umask(0o022)
    try:
        with temporary_umask(mask):
            bind(tmp_path / "s").close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert (tmp_path / "s").stat().st_mode & 0o777 == mode
