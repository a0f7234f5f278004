"""Listening sockets at their end."""

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
    """A listener, on a free port unless told otherwise; without a host on all interfaces."""
    return open_listeners([TcpAddress(host, port)], ListenOptions(reuse_port=reuse_port))


def address_of(listeners: Listeners, host: str = V4) -> tuple[str, int]:
    """Where to reach the first one from one of this machine's addresses."""
    return host, listeners.sockets[0].getsockname()[1]


def is_refused(address: tuple[str, int]) -> bool:
    """Whether a connection is refused; the alternative is that it comes in."""
    try:
        socket.create_connection(address, PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


# Handshakes that take their time: the client drops the server's SYN-ACK, as the hops that it has
# come are too many. Either side repeats itself after a second.

_MIN_TTL = 21
_MIN_HOPS = 73
"""IP_MINTTL and IPV6_MINHOPCOUNT of <linux/in.h> and <linux/in6.h>."""


def expect_ttl(client: socket.socket, least: int) -> None:
    """Drop what arrives with less; other hosts begin with 64, and so does this one."""
    client.setsockopt(socket.IPPROTO_IP, _MIN_TTL, least)
    if client.family == socket.AF_INET6:
        client.setsockopt(socket.IPPROTO_IPV6, _MIN_HOPS, least)


@contextmanager
def in_handshake(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A client that the server has heard of, and that waits for the answer."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as client:
        expect_ttl(client, 255)
        client.setblocking(False)
        client.connect_ex(address)
        eventually(lambda: has_handshake(address[1]))
        client.settimeout(PATIENCE)
        yield client


def has_handshake(port: int) -> bool:
    """Whether somebody is about to connect."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    # The local address, the remote one, and SYN_RECV (proc_pid_net(5)).
    return re.search(rf":{port:04X} \w+:\w+ 03 ", "".join(tables)) is not None


def end_handshake(client: socket.socket) -> None:
    """Hear the answer, when it is repeated, and say the last word."""
    expect_ttl(client, 0)
    assert select.select([], [client], [], PATIENCE)[1]
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


# The seal


@LINUX
@pytest.mark.parametrize(("bind", "host"), [(V4, V4), (V6, V6), ("", V4), ("", V6)])
def test_sealed(bind: str, host: str) -> None:
    """Who comes now is refused at once, and nobody who came before is lost."""
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
    """Whose handshake has begun comes in after the seal, and is heard and answered."""
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
    """Where several listen on one port, a sealed socket takes nobody, and refuses nobody."""
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
        # Those that were dropped try again.
        assert select.select([], [client], [], PATIENCE)[1]
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        client.close()
    other.close()


@LINUX
@pytest.mark.slow("processes")
def test_without_privileges() -> None:
    """It takes none; and a second time does no harm, where that is not allowed."""
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
    """Those from afar are waited for."""
    listeners = open_listeners([TcpAddress(host, 0) for host in hosts], ListenOptions())
    assert refuse_new_connections(listeners) == wait
    listeners.close()


def test_others_are_left_alone(tmp_path: Path) -> None:
    """Unix sockets and sockets that others opened go on."""
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
    """One that has no seal is left as it is."""
    monkeypatch.setattr(sys, "platform", "darwin")
    listeners = listen("")
    assert refuse_new_connections(listeners) == 0
    assert not is_refused(address_of(listeners))
    listeners.close()


@LINUX
def test_an_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that refuses is no reason to fail, and there is nothing to wait for."""
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
"""Runs the command ``python -m aiowsgi ...`` that follows, and waits longer for handshakes."""


@LINUX
@pytest.mark.slow("processes")
def test_stopped_in_handshake(tmp_path: Path) -> None:
    """After TERM, a new client is refused, and one whose handshake has begun is served."""
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
    """It waits for the server to accept what has come, and for no more."""
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
    """A server that has no room for them is not waited for without end."""
    monkeypatch.setattr(module, "DRAIN_TIMEOUT", 0.01)
    listeners = listen()
    with socket.create_connection(address_of(listeners), PATIENCE) as client:
        await drain_backlog(listeners)
        accepted, address = listeners.sockets[0].accept()
        accepted.close()
        assert address == client.getsockname()
    listeners.close()
