"""Closing listening sockets."""

from __future__ import annotations

import asyncio
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import ROOT
from sample_apps import workers, write_app
from support import PATIENCE, eventually

from aiowsgi.net import close_listeners as module
from aiowsgi.net.address import FdAddress, TcpAddress, UnixAddress
from aiowsgi.net.close_listeners import HANDSHAKE_TIME, drain_backlog, refuse_new_connections
from aiowsgi.net.listeners import Listeners, ListenOptions, open_listeners

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no seal")

V4, V6 = "127.0.0.1", "::1"


def listen(host: str = V4, port: int = 0, *, reuse_port: bool = False) -> Listeners:
    """Open a listening socket, by default on a free port of all interfaces."""
    return open_listeners([TcpAddress(host, port)], ListenOptions(reuse_port=reuse_port))


def address_of(listeners: Listeners, host: str = V4) -> tuple[str, int]:
    """Return the address of the first socket at one of this machine's addresses."""
    return host, listeners.sockets[0].getsockname()[1]


def is_refused(address: tuple[str, int]) -> bool:
    """Return whether a connection is refused; otherwise it is accepted."""
    try:
        socket.create_connection(address, PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


# Slow handshakes: the client drops the server's SYN-ACK because of its TTL. Both sides repeat their
# packets after a second.

_MIN_TTL = 21
_MIN_HOPS = 73
"""IP_MINTTL and IPV6_MINHOPCOUNT of <linux/in.h> and <linux/in6.h>."""


def expect_ttl(client: socket.socket, least: int) -> None:
    """Packets with a lower TTL are dropped; hosts begin with 64."""
    client.setsockopt(socket.IPPROTO_IP, _MIN_TTL, least)
    if client.family == socket.AF_INET6:
        client.setsockopt(socket.IPPROTO_IPV6, _MIN_HOPS, least)


@contextmanager
def in_handshake(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A client whose SYN the server has received, and which waits for the answer."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as client:
        expect_ttl(client, 255)
        client.setblocking(False)
        client.connect_ex(address)
        eventually(lambda: has_handshake(address[1]))
        client.settimeout(PATIENCE)
        yield client


def has_handshake(port: int) -> bool:
    """Return whether a handshake is incomplete."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    # The local address, the remote one, and SYN_RECV (proc_pid_net(5)).
    return re.search(rf":{port:04X} \w+:\w+ 03 ", "".join(tables)) is not None


def end_handshake(client: socket.socket) -> None:
    """Accept the repeated SYN-ACK, and complete the handshake."""
    expect_ttl(client, 0)
    assert select.select([], [client], [], PATIENCE)[1]
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


# Refusing new connections


@LINUX
@pytest.mark.parametrize(("bind", "host"), [(V4, V4), (V6, V6), ("", V4), ("", V6)])
def test_sealed(bind: str, host: str) -> None:
    """New clients are refused at once, and no earlier connection is lost."""
    listeners = listen(bind)
    address = address_of(listeners, host)
    with socket.create_connection(address, PATIENCE) as early:
        early.sendall(b"early")
        refuse_new_connections(listeners)
        assert is_refused(address)
        accepted, _ = listeners.sockets[0].accept()
        with accepted:
            with pytest.raises(BlockingIOError):
                listeners.sockets[0].accept()
            listeners.close()
            accepted.settimeout(PATIENCE)
            assert accepted.recv(5) == b"early"
            accepted.sendall(b"answer")
            assert early.recv(6) == b"answer"


@LINUX
@pytest.mark.parametrize("host", [V4, V6])
def test_in_handshake(host: str) -> None:
    """A handshake that has begun completes afterwards, and the client is answered."""
    listeners = listen("")
    with in_handshake(address_of(listeners, host)) as client:
        refuse_new_connections(listeners)
        end_handshake(client)
        assert select.select([listeners.sockets[0]], [], [], PATIENCE)[0]
        accepted, _ = listeners.sockets[0].accept()
        listeners.close()
        with accepted:
            client.sendall(b"request")
            accepted.settimeout(PATIENCE)
            assert accepted.recv(7) == b"request"
            accepted.sendall(b"answer")
            assert client.recv(6) == b"answer"


@LINUX
def test_a_shared_port() -> None:
    """If several sockets share a port, this one accepts and refuses nothing."""
    sealed = listen(reuse_port=True)
    other = listen(port=address_of(sealed)[1], reuse_port=True)
    refuse_new_connections(sealed)
    clients = [socket.socket() for _ in range(64)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(address_of(other))
    with pytest.raises(BlockingIOError):
        sealed.sockets[0].accept()
    sealed.close()
    for client in clients:
        # Dropped clients try again.
        assert select.select([], [client], [], PATIENCE)[1]
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        client.close()
    other.close()


@LINUX
@pytest.mark.slow("processes")
def test_without_privileges() -> None:
    """A second call changes nothing, even if the kernel does not allow it."""
    script = """
import os
import socket
from aiowsgi.net.address import TcpAddress
from aiowsgi.net.close_listeners import refuse_new_connections
from aiowsgi.net.listeners import ListenOptions, open_listeners
# What is imported later may lie where only root can read it.
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
listeners = open_listeners([TcpAddress("", 0)], ListenOptions())
print(refuse_new_connections(listeners), refuse_new_connections(listeners))
try:
    socket.socket().connect(("127.0.0.1", listeners.sockets[0].getsockname()[1]))
except ConnectionRefusedError:
    print("sealed")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{HANDSHAKE_TIME} 0.0", "sealed"]


@LINUX
@pytest.mark.parametrize(("hosts", "wait"), [([], 0), ([V4, V6], 0), ([V4, ""], HANDSHAKE_TIME)])
def test_handshakes_take_time(hosts: list[str], wait: float) -> None:
    """Handshakes of other machines are given time."""
    listeners = open_listeners([TcpAddress(host, 0) for host in hosts], ListenOptions())
    assert refuse_new_connections(listeners) == wait
    listeners.close()


def test_others_are_left_alone(tmp_path: Path) -> None:
    """Unix sockets and inherited sockets are not changed."""
    path = str(tmp_path / "socket")
    opened = listen("")
    original = opened.sockets[0]
    inherited = open_listeners([FdAddress(original.dup().detach())], ListenOptions())
    unix = open_listeners([UnixAddress(path)], ListenOptions())
    assert refuse_new_connections(inherited) == refuse_new_connections(unix) == 0
    assert not is_refused(address_of(opened))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    for listeners in (opened, inherited, unix):
        listeners.close()


def test_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without SO_BINDTOIFINDEX changes nothing."""
    monkeypatch.setattr(sys, "platform", "darwin")
    listeners = listen("")
    assert refuse_new_connections(listeners) == 0
    assert not is_refused(address_of(listeners))
    listeners.close()


@LINUX
def test_an_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of the kernel is not an error, and there is nothing to wait for."""
    monkeypatch.setattr(module, "_BIND_TO_INDEX", 9999)
    listeners = listen("")
    assert refuse_new_connections(listeners) == 0
    assert not is_refused(address_of(listeners))
    listeners.close()


# Servers

PATIENT = """
import sys
from aiowsgi.net import close_listeners
from aiowsgi.cli.main import main
close_listeners.HANDSHAKE_TIME = 1.5
sys.exit(main(sys.argv[4:]))
"""
"""Runs the command ``python -m aiowsgi ...`` that follows, with more time for handshakes."""


@LINUX
@pytest.mark.slow("processes")
def test_stopped_in_handshake(tmp_path: Path) -> None:
    """After TERM a new client is refused, and one whose handshake has begun is served."""
    write_app(tmp_path)
    wrapper = (sys.executable, "-c", PATIENT)
    with (
        workers(tmp_path, "--bind", ":0", wrapper=wrapper) as (program, address),
        in_handshake(address) as client,
    ):
        program.process.send_signal(signal.SIGTERM)
        eventually(lambda: is_refused(address))
        end_handshake(client)
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert program.process.wait(PATIENCE) == 0


async def test_accept_waiting() -> None:
    """drain_backlog() waits until the server has accepted every waiting connection."""
    listeners = listen()
    sock = listeners.sockets[0]
    loop = asyncio.get_running_loop()
    accepted: list[socket.socket] = []
    loop.add_reader(sock.fileno(), lambda: accepted.append(sock.accept()[0]))
    clients = [socket.create_connection(address_of(listeners), PATIENCE) for _ in range(3)]
    await drain_backlog(listeners)
    loop.remove_reader(sock.fileno())
    assert len(accepted) == 3
    for one in (*clients, *accepted):
        one.close()
    listeners.close()


async def test_nobody_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot accept is waited for only until DRAIN_TIMEOUT."""
    monkeypatch.setattr(module, "DRAIN_TIMEOUT", 0.01)
    listeners = listen()
    with socket.create_connection(address_of(listeners), PATIENCE) as client:
        await drain_backlog(listeners)
        accepted, address = listeners.sockets[0].accept()
        accepted.close()
        assert address == client.getsockname()
    listeners.close()
