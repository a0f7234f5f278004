"""Listening sockets: all forms of bind on real sockets, and the errors."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aiowsgi.exceptions import BindError
from aiowsgi.net.address import FdAddress, TcpAddress, UnixAddress, parse_bind
from aiowsgi.net.listeners import (
    Listeners,
    ListenOptions,
    bound_address,
    open_activated,
    open_listeners,
)
from aiowsgi.system.descriptors import raise_descriptor_limit

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


def opened(*binds: str, **options: object) -> Listeners:
    return open_listeners([parse_bind(bind) for bind in binds], ListenOptions(**options))  # type: ignore[arg-type]


def greet(family: int, address: object) -> None:
    """Connect or raise."""
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.connect(address)  # type: ignore[arg-type]


def fake_resolver(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    real = socket.getaddrinfo

    def resolve(_: str, port: int, **flags: int) -> list[object]:
        return [info for host in hosts for info in real(host, port, **flags)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture
def busy() -> Iterator[int]:
    """A port of 127.0.0.1 that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# All listening sockets


def test_attributes() -> None:
    """A listening socket is non-blocking, not inheritable, and reuses its address."""
    listeners = opened("127.0.0.1:0")
    (sock,) = listeners.sockets
    assert sock.gettimeout() == 0
    assert not sock.get_inheritable()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    greet(socket.AF_INET, sock.getsockname())
    listeners.close()
    listeners.close()
    assert sock.fileno() == -1


def test_several() -> None:
    """Listening sockets keep the order of their binds and report the kernel's choice of port."""
    listeners = opened("127.0.0.1:0", "unix:@aiowsgi-several", "127.0.0.1:0")
    ports = [sock.getsockname()[1] for sock in listeners.sockets[::2]]
    assert len(listeners) == 3
    assert listeners.urls("https") == [
        f"https://127.0.0.1:{ports[0]}",
        "unix:@aiowsgi-several",
        f"https://127.0.0.1:{ports[1]}",
    ]
    assert [listener.name for listener in listeners] == ["", "", ""]
    listeners.close()


def test_none() -> None:
    """Without addresses there are no sockets."""
    assert len(opened()) == 0


# TCP


@needs_ipv6
@pytest.mark.parametrize("bind", [":0", "[::]:0"])
def test_dual_stack(bind: str) -> None:
    """All interfaces are one socket for IPv4 and IPv6."""
    listeners = opened(bind)
    (sock,) = listeners.sockets
    port = sock.getsockname()[1]
    greet(socket.AF_INET6, ("::1", port))
    greet(socket.AF_INET, ("127.0.0.1", port))
    assert listeners.urls() == [f"http://[::]:{port}"]
    listeners.close()


@needs_ipv6
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize("order", [1, -1])
def test_all_of_ipv6_beside_an_address_of_ipv4(host: str, order: int) -> None:
    """``[::]`` accepts IPv6 only if another bind address has IPv4 on the same port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listeners = opened(*[f"{host}:{port}", f"[::]:{port}"][::order])
    for listener in listeners:
        if listener.socket.family == socket.AF_INET6 and listener.address.host == "::":
            assert listener.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    greet(socket.AF_INET, ("127.0.0.1", port))
    greet(socket.AF_INET6, ("::1", port))
    listeners.close()


@needs_ipv6
def test_ipv6_only() -> None:
    """A specific IPv6 address leaves the port of IPv4 free."""
    listeners = opened("[::1]:0")
    (sock,) = listeners.sockets
    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert bound_address(sock) == TcpAddress("::1", sock.getsockname()[1])
    listeners.close()


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_no_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Without IPv6 in the kernel, all interfaces are those of IPv4."""
    make = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, os.strerror(number))
        return make(family, kind)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    listeners = opened(":0")
    monkeypatch.undo()
    (sock,) = listeners.sockets
    assert sock.getsockname()[0] == "0.0.0.0"
    listeners.close()


@needs_ipv6
def test_name_with_two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with several addresses has one socket for each, all on one port."""
    fake_resolver(monkeypatch, "127.0.0.1", "::1", "127.0.0.1")
    listeners = opened("two.test:0")
    names = [sock.getsockname() for sock in listeners.sockets]
    assert [name[0] for name in names] == ["127.0.0.1", "::1"]
    assert names[0][1] == names[1][1] != 0
    listeners.close()


def test_name_with_an_absent_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that this machine does not have is skipped if another one exists."""
    fake_resolver(monkeypatch, "192.0.2.1", "127.0.0.1")
    listeners = opened("partly.test:0")
    assert [sock.getsockname()[0] for sock in listeners.sockets] == ["127.0.0.1"]
    listeners.close()


def test_one_port_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the port chosen on the first address is in use on the next, another one is tried."""
    fake_resolver(monkeypatch, "127.0.0.1", "127.0.0.2")
    bind = socket.socket.bind
    blockers: list[socket.socket] = []

    def bind_with_bad_luck(sock: socket.socket, address: tuple[str, int]) -> None:
        if address[0] == "127.0.0.2" and len(blockers) < 3:
            blocker = socket.socket()
            bind(blocker, address)
            blocker.listen()
            blockers.append(blocker)
        bind(sock, address)

    monkeypatch.setattr(socket.socket, "bind", bind_with_bad_luck)
    listeners = opened("two.test:0")
    assert len(blockers) == 3
    assert len({sock.getsockname()[1] for sock in listeners.sockets}) == 1
    listeners.close()
    for blocker in blockers:
        blocker.close()


def test_reuse_port() -> None:
    """Two processes can share a port if both set the option."""
    first = opened("127.0.0.1:0", reuse_port=True)
    port = first.sockets[0].getsockname()[1]
    second = opened(f"127.0.0.1:{port}", reuse_port=True)
    with pytest.raises(BindError):
        opened(f"127.0.0.1:{port}")
    first.close()
    second.close()


# Unix sockets


def test_unix(tmp_path: Path) -> None:
    """A unix socket serves at its path and removes the file when it is closed."""
    path = tmp_path / "app.sock"
    listeners = opened(f"unix:{path}")
    greet(socket.AF_UNIX, str(path))
    assert listeners.urls() == [f"unix:{path}"]
    assert bound_address(listeners.sockets[0]) == UnixAddress(str(path))
    listeners.close()
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({}, 0o755),
        ({"umask": 0o007}, 0o770),
        ({"uds_permissions": 0o660}, 0o660),
        ({"umask": 0o777, "uds_permissions": 0o666}, 0o666),
    ],
)
def test_unix_mode(tmp_path: Path, options: dict[str, int], mode: int) -> None:
    """The mode follows the umask, or the given permissions."""
    before = os.umask(0o022)
    try:
        listeners = opened(f"unix:{tmp_path}/s", **options)
    finally:
        os.umask(before)
    assert (tmp_path / "s").stat().st_mode & 0o777 == mode
    listeners.close()


def test_unix_stale(tmp_path: Path) -> None:
    """The file of a killed server does not prevent the next start."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ConnectionRefusedError):
        greet(socket.AF_UNIX, str(path))
    listeners = opened(f"unix:{path}")
    greet(socket.AF_UNIX, str(path))
    listeners.close()


def test_unix_taken_over(tmp_path: Path) -> None:
    """A server whose path was replaced does not remove the new file."""
    path = tmp_path / "s"
    old = opened(f"unix:{path}")
    path.rename(tmp_path / "aside")
    new = opened(f"unix:{path}")
    old.close()
    greet(socket.AF_UNIX, str(path))
    new.close()
    assert not path.exists()


def test_abstract() -> None:
    """An abstract socket has no file, and its name can be bound once."""
    listeners = opened("unix:@aiowsgi-test")
    greet(socket.AF_UNIX, "\0aiowsgi-test")
    assert bound_address(listeners.sockets[0]) == UnixAddress("@aiowsgi-test")
    with pytest.raises(BindError, match="in use"):
        opened("unix:@aiowsgi-test")
    listeners.close()


# Inherited sockets


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_inherit(tmp_path: Path, family: int) -> None:
    """An inherited descriptor is not changed, and its file is not removed."""
    with socket.socket(family) as maker:
        maker.bind(str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        maker.listen()
        fd = os.dup(maker.fileno())
        os.set_inheritable(fd, True)
        (listener,) = listeners = opened(f"fd://{fd}")
        assert listener.socket.fileno() == fd
        assert not os.get_inheritable(fd)
        assert listener.socket.gettimeout() == 0
        assert listener.address == bound_address(maker)
        listeners.close()
    assert (tmp_path / "s").exists() == (family == socket.AF_UNIX)


def test_inherit_no_listener() -> None:
    """A descriptor that does not listen, or is not a stream socket, is refused and stays open."""
    with socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for sock in (idle, datagram):
            with pytest.raises(BindError, match="is not a listening stream socket"):
                opened(f"fd://{sock.fileno()}")
            assert os.fstat(sock.fileno())


def test_inherit_no_socket(tmp_path: Path) -> None:
    """A file's descriptor is refused, and so is a closed one."""
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(BindError, match="the descriptor is not a socket"):
            opened(f"fd://{file.fileno()}")
        fd = file.fileno()
    with pytest.raises(BindError, match="no such descriptor"):
        opened(f"fd://{fd}")


# Socket activation


def activation(count: object, names: str | None = None, pid: object = None) -> dict[str, str]:
    environ = {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count), "HOME": "/"}
    if names is not None:
        environ["LISTEN_FDNAMES"] = names
    return environ


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Two adjacent descriptors of listening sockets, standing in for 3 and 4."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    first = 700
    for number, server in enumerate(servers, first):
        os.dup2(server.fileno(), number)
    monkeypatch.setattr("aiowsgi.net.listeners._FIRST_ACTIVATED", first)
    yield [server.getsockname()[1] for server in servers]
    for number, server in enumerate(servers, first):
        server.close()
        with suppress(OSError):  # adopted and closed by the code under test
            os.close(number)


@pytest.mark.parametrize(("names", "labels"), [("web:admin", ["web", "admin"]), (None, ["", ""])])
def test_activation(passed: list[int], names: str | None, labels: list[str]) -> None:
    """The sockets come in the order of the unit, with their names; the variables are removed."""
    environ = activation(2, names)
    listeners = open_activated(environ)
    assert [listener.address for listener in listeners] == [
        TcpAddress("127.0.0.1", port) for port in passed
    ]
    assert [listener.name for listener in listeners] == labels
    assert environ == {"HOME": "/"}
    listeners.close()


@pytest.mark.parametrize("environ", [{}, activation(1, pid=1), activation(0), {"LISTEN_FDS": "1"}])
def test_not_activated(environ: dict[str, str]) -> None:
    """Without the variables, or with another process's, nothing is inherited."""
    assert len(open_activated(dict(environ))) == 0


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (activation("two"), "LISTEN_FDS: 'two' is not a number"),
        (activation("-1"), "LISTEN_FDS: '-1' is not a number"),
        (activation(2, "web"), "LISTEN_FDNAMES: 1 names for 2 descriptors"),
    ],
)
def test_bad_activation(environ: dict[str, str], message: str) -> None:
    """Malformed variables are an error."""
    with pytest.raises(BindError, match=message):
        open_activated(environ)


def test_activation_fails_as_a_whole(passed: list[int]) -> None:
    """One bad descriptor closes those that were inherited before it."""
    with pytest.raises(BindError, match="fd://702: no such descriptor"):
        open_activated(activation(3))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(700)


# Errors


def test_in_use(busy: int) -> None:
    """The error names the address and the reason in one line."""
    with pytest.raises(BindError) as caught:
        opened(f"127.0.0.1:{busy}")
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{busy}: the address is in use"


@needs_ipv6
def test_wildcard_in_use(busy: int) -> None:
    """A port that is in use for one family is not silently served for the other."""
    with pytest.raises(BindError, match=f"cannot listen on :{busy}: the address is in use"):
        opened(f":{busy}")


def test_never_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a common port ends."""
    fake_resolver(monkeypatch, "127.0.0.1")

    def always_taken(*_: object) -> None:
        raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr(socket.socket, "listen", always_taken)
    with pytest.raises(BindError, match="in use"):
        opened("unlucky.test:0")


@pytest.mark.parametrize(
    ("bind", "reason"),
    [
        ("192.0.2.1:0", "this machine has no such address"),
        ("unix:{tmp}/none/s", "the directory does not exist"),
        ("unix:{tmp}/file", "a file that is no socket is in the way"),
        ("unix:{tmp}/file/s", "not a directory"),
        ("unix:{tmp}/" + 120 * "x", "af_unix path too long"),
    ],
)
def test_reasons(tmp_path: Path, bind: str, reason: str) -> None:
    """Each error of the system has its own message."""
    (tmp_path / "file").write_text("precious")
    bind = bind.format(tmp=tmp_path)
    with pytest.raises(BindError) as caught:
        opened(bind)
    assert str(caught.value) == f"cannot listen on {bind}: {reason}"
    assert (tmp_path / "file").read_text() == "precious"


def test_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a privileged port says what is missing."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(BindError, match=r"127\.0\.0\.1:80: permission denied"):
        opened("127.0.0.1:80")


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve has its own message, whatever the resolver's number."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(errno.ENOENT, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(BindError, match=r"nowhere\.test:80: name or service not known"):
        opened("nowhere.test:80")


def test_live_unix(tmp_path: Path) -> None:
    """A live unix socket is not replaced."""
    listeners = opened(f"unix:{tmp_path}/s")
    with pytest.raises(BindError, match="in use"):
        opened(f"unix:{tmp_path}/s")
    greet(socket.AF_UNIX, f"{tmp_path}/s")
    listeners.close()


def test_all_or_none(tmp_path: Path, busy: int) -> None:
    """An error closes the sockets that were opened before it, and removes their files."""
    with pytest.raises(BindError):
        opened(f"unix:{tmp_path}/s", f"127.0.0.1:{busy}")
    assert not (tmp_path / "s").exists()


def test_some_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch, busy: int) -> None:
    """A name of which one address is in use is not bound at all."""
    fake_resolver(monkeypatch, "127.0.0.2", "127.0.0.1")
    with pytest.raises(BindError, match="in use"):
        opened(f"two.test:{busy}")
    with socket.create_server(("127.0.0.2", busy)):
        pass


def test_fd_address() -> None:
    """Standard input is not a listening socket."""
    with pytest.raises(BindError, match="fd://0"):
        open_listeners([FdAddress(0)], ListenOptions())


# Descriptors


def test_descriptor_limit() -> None:
    """The soft limit is raised to the hard one, and both are returned."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = min(256, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    try:
        assert raise_descriptor_limit() == (low, hard)
        assert raise_descriptor_limit() == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptor_limit_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that refuses keeps its limit."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_descriptor_limit() == (soft, soft)
