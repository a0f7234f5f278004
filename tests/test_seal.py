"""Listening sockets at their end."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from aiowsgi import seal as module
from aiowsgi.address import FdAddress, TcpAddress, UnixAddress
from aiowsgi.seal import accept_waiting, seal
from aiowsgi.sockets import Listeners, ListenOptions, open_listeners

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there are no such filters")


def listen() -> Listeners:
    """A listener on a free port."""
    return open_listeners([TcpAddress("127.0.0.1", 0)], ListenOptions())


def connect(listeners: Listeners) -> socket.socket:
    """A connection; TimeoutError where nothing answers."""
    client = socket.socket(listeners.sockets[0].family)
    client.settimeout(0.05)
    try:
        client.connect(listeners.sockets[0].getsockname())
    except BaseException:
        client.close()
        raise
    return client


def is_open(listeners: Listeners) -> bool:
    """Whether a connection comes in."""
    try:
        connect(listeners).close()
    except TimeoutError:
        return False
    return True


@LINUX
def test_sealed() -> None:
    """Nobody comes in, and nobody who did is lost."""
    listeners = listen()
    with connect(listeners) as early:
        early.sendall(b"early")
        seal(listeners)
        assert not is_open(listeners)
        accepted, _ = listeners.sockets[0].accept()
        with accepted:
            with pytest.raises(BlockingIOError):
                listeners.sockets[0].accept()
            listeners.close()
            accepted.settimeout(1)
            assert accepted.recv(5) == b"early"


def test_others_are_left_alone(tmp_path: Path) -> None:
    """Unix sockets and sockets that others opened go on."""
    opened = listen()
    with opened.sockets[0] as original:
        inherited = open_listeners([FdAddress(original.dup().detach())], ListenOptions())
        unix = open_listeners([UnixAddress(str(tmp_path / "socket"))], ListenOptions())
        for listeners in (inherited, unix):
            seal(listeners)
            assert is_open(listeners)
            listeners.close()


def test_without_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has none is left as it is."""
    monkeypatch.setattr(sys, "platform", "darwin")
    listeners = listen()
    seal(listeners)
    assert is_open(listeners)
    listeners.close()


@LINUX
def test_filters_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses them is no reason to fail."""
    monkeypatch.setattr(module, "_ATTACH_FILTER", 9999)
    listeners = listen()
    seal(listeners)
    assert is_open(listeners)
    listeners.close()


async def test_accept_waiting() -> None:
    """It waits for the server to accept what has come, and for no more."""
    import asyncio

    listeners = listen()
    sock = listeners.sockets[0]
    loop = asyncio.get_running_loop()
    accepted: list[socket.socket] = []
    loop.add_reader(sock.fileno(), lambda: accepted.append(sock.accept()[0]))
    clients = [connect(listeners) for _ in range(3)]
    await accept_waiting(listeners)
    loop.remove_reader(sock.fileno())
    assert len(accepted) == 3
    for one in (*clients, *accepted):
        one.close()
    listeners.close()


async def test_nobody_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has no room for them is not waited for without end."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    listeners = listen()
    with connect(listeners) as client:
        await accept_waiting(listeners)
        accepted, address = listeners.sockets[0].accept()
        accepted.close()
        assert address == client.getsockname()
    listeners.close()
