"""Opens, inherits, describes and closes listening sockets.

Everything here runs before the event loop starts or after it has ended, so a call may block, for
example while a name is resolved. Addresses as text belong to ``net/address.py``, the files of unix
sockets to ``net/unix_socket.py``, TLS to ``net/tls.py``, accepting to ``net/acceptor.py``.

**Ownership.** `Listeners` owns its sockets and their files. `Listeners.close` does not remove a
file in a forked worker, or after another server has replaced the file.

**Errors** become `BindError`: one line with the address and the reason.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from aiowsgi.exceptions import BindError
from aiowsgi.net.address import BindAddress, FdAddress, TcpAddress, UnixAddress
from aiowsgi.net.unix_socket import SocketFile, remove_stale_socket, temporary_umask

__all__ = [
    "ListenOptions",
    "Listener",
    "Listeners",
    "bound_address",
    "open_activated",
    "open_listeners",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions:
    """Options of new sockets; inherited sockets are not changed."""

    backlog: int = 2048
    """Maximum number of connections that wait to be accepted (listen(2))."""
    reuse_port: bool = False
    """SO_REUSEPORT: several processes bind one TCP port, and the kernel distributes the
    connections."""
    umask: int | None = None
    """Umask while a unix socket's file is created; None: that of the process."""
    uds_permissions: int | None = None
    """Mode of a unix socket's file, independent of the umask; clients need write permission."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One non-blocking listening socket."""

    socket: socket.socket
    address: BindAddress
    """The bound address, with the port that the kernel chose."""
    name: str = ""
    """``FileDescriptorName=`` of systemd's socket unit, else empty."""
    file: SocketFile | None = None
    """The file of a unix socket that this process has bound; else None."""
    inherited: bool = False
    """The socket was opened by another process, which may use it after this one has closed it."""

    def close(self) -> None:
        """Close the socket and remove its file if no other server has replaced it. Idempotent."""
        if self.file is not None and self.socket.fileno() >= 0:
            self.file.remove()
        self.socket.close()


class Listeners:
    """The listening sockets of a server, in the order of ``--bind``."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = tuple(listeners)

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._listeners)

    def __len__(self) -> int:
        return len(self._listeners)

    @property
    def sockets(self) -> list[socket.socket]:
        """The socket objects."""
        return [listener.socket for listener in self]

    def urls(self, scheme: str = "http") -> list[str]:
        """Return a URL or an address of each socket, for the start-up line."""
        return [listener.address.url(scheme) for listener in self]

    def close(self) -> None:
        """Close all sockets. Idempotent; accepted connections stay open."""
        for listener in self:
            listener.close()


def open_listeners(addresses: Sequence[BindAddress], options: ListenOptions) -> Listeners:
    """Open all addresses, or none: after an error the sockets that are open are closed.

    A name with several addresses gets a socket for each that this machine has; port 0 becomes the
    same port on all of them. Raises BindError.
    """
    ipv4_ports = {port for port in map(_ipv4_port, addresses) if port}
    return _all_or_none(
        (address, partial(_open, address, options, ipv4_ports)) for address in addresses
    )


def _ipv4_port(address: BindAddress) -> int:
    """Return the port of an IPv4 address, or of a name that may resolve to one; else 0."""
    if isinstance(address, TcpAddress) and address.host and ":" not in address.host:
        return address.port
    return 0


def bound_address(sock: socket.socket) -> BindAddress:
    """Return the bound address of a socket (getsockname(2))."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        path = os.fsdecode(name)
        return UnixAddress(f"@{path[1:]}" if path.startswith("\0") else path)
    return TcpAddress(name[0], name[1])


def _all_or_none(
    steps: Iterable[tuple[BindAddress, Callable[[], list[Listener]]]],
) -> Listeners:
    opened: list[Listener] = []
    with ExitStack() as undo:
        for address, step in steps:
            with _bind_errors(address):
                for listener in step():
                    undo.callback(listener.close)
                    opened.append(listener)
        undo.pop_all()
    return Listeners(opened)


def _open(
    address: BindAddress, options: ListenOptions, ipv4_ports: Collection[int]
) -> list[Listener]:
    if isinstance(address, UnixAddress):
        return [_open_unix(address, options)]
    if isinstance(address, FdAddress):
        return _inherit(address)
    return [Listener(sock, bound_address(sock)) for sock in _open_tcp(address, options, ipv4_ports)]


@contextmanager
def _new_socket(family: int) -> Iterator[socket.socket]:
    """Create a non-blocking stream socket, which is closed if the block fails."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(0)
    try:
        yield sock
    except BaseException:
        sock.close()
        raise


# TCP


class _Endpoint(NamedTuple):
    """One address of a host, as the socket functions take it."""

    family: int
    host: str
    ipv6_only: bool = True
    """IPV6_V6ONLY; without it the socket of ``::`` accepts IPv4 too. No effect on IPv4."""
    rest: tuple[int, ...] = ()
    """Flow information and scope of an IPv6 address."""


_ALL: Final = _Endpoint(socket.AF_INET6, "::", ipv6_only=False)
_ALL_IPV4: Final = _Endpoint(socket.AF_INET, "0.0.0.0")  # noqa: S104 - only where it is asked for

_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""Errors for an address that this machine does not have, or if the kernel has no IPv6."""

_PORT_ATTEMPTS: Final = 16
"""Attempts to find one port that is free on all addresses of a host. A guess; failures are rare."""


def _open_tcp(
    address: TcpAddress, options: ListenOptions, ipv4_ports: Collection[int]
) -> list[socket.socket]:
    if not address.host:
        return [_open_wildcard(address.port, options)]
    # ``[::]:80`` accepts IPv4 too, except beside ``0.0.0.0:80``: the kernel refuses to bind both.
    endpoints = _resolve(address, ipv6_only=address.host != "::" or address.port in ipv4_ports)
    for _ in range(0 if address.port else _PORT_ATTEMPTS):
        try:
            return _open_endpoints(endpoints, 0, options)
        except OSError as error:
            # The port that the kernel chose on the first address is in use on another.
            if error.errno != errno.EADDRINUSE:
                raise
    return _open_endpoints(endpoints, address.port, options)


def _open_wildcard(port: int, options: ListenOptions) -> socket.socket:
    """Open one socket for IPv4 and IPv6; an IPv4 socket if the kernel has no IPv6."""
    try:
        return _listen(_ALL, port, options)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
    return _listen(_ALL_IPV4, port, options)


def _resolve(address: TcpAddress, *, ipv6_only: bool) -> list[_Endpoint]:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    endpoints = (
        _Endpoint(family, str(name[0]), ipv6_only, name[2:]) for family, _, _, _, name in found
    )
    # A hosts file may list an address twice, which could not be bound twice.
    return list(dict.fromkeys(endpoints))


def _open_endpoints(
    endpoints: list[_Endpoint], port: int, options: ListenOptions
) -> list[socket.socket]:
    """Listen on every endpoint that this machine has, all on one port."""
    opened: list[socket.socket] = []
    absent: OSError | None = None
    with ExitStack() as undo:
        for endpoint in endpoints:
            try:
                sock = _listen(endpoint, port, options)
            except OSError as error:
                # "localhost" is often both 127.0.0.1 and ::1 on machines without IPv6.
                if error.errno not in _ABSENT:
                    raise
                absent = error
                continue
            undo.callback(sock.close)
            opened.append(sock)
            port = port or sock.getsockname()[1]
        if absent is not None and not opened:
            raise absent
        undo.pop_all()
    return opened


def _listen(endpoint: _Endpoint, port: int, options: ListenOptions) -> socket.socket:
    with _new_socket(endpoint.family) as sock:
        # A restart must not fail because of the old process's connections (TIME_WAIT).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if endpoint.family == socket.AF_INET6:
            # Do not depend on net.ipv6.bindv6only: a bind address means the same on every machine.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, endpoint.ipv6_only)
        sock.bind((endpoint.host, port, *endpoint.rest))
        sock.listen(options.backlog)
    return sock


# Unix sockets


def _open_unix(address: UnixAddress, options: ListenOptions) -> Listener:
    with _new_socket(socket.AF_UNIX) as sock:
        if address.abstract:
            sock.bind(f"\0{address.path[1:]}")
            sock.listen(options.backlog)
            return Listener(sock, address)
        remove_stale_socket(address.path)
        mode = options.uds_permissions
        with temporary_umask(options.umask if mode is None else 0o777 & ~mode):
            sock.bind(address.path)
        file = SocketFile.of(address.path)
        sock.listen(options.backlog)
    return Listener(sock, address, file=file)


# Inherited sockets

_FIRST_ACTIVATED: Final = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""

_ACTIVATION_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def open_activated(environ: MutableMapping[str, str]) -> Listeners:
    """Inherit the sockets of systemd's socket activation, in the order of the unit.

    Empty if this process was not socket-activated. Removes the variables from ``environ``, because
    child processes must not see them. Raises BindError (sd_listen_fds_with_names(3)).
    """
    pid, count, names = (environ.pop(name, "") for name in _ACTIVATION_VARIABLES)
    if pid != str(os.getpid()):
        return Listeners()
    if not (count.isascii() and count.isdigit()):
        raise BindError(f"LISTEN_FDS: {count!r} is not a number of descriptors")
    labels = names.split(":") if names else [""] * int(count)
    if len(labels) != int(count):
        raise BindError(f"LISTEN_FDNAMES: {len(labels)} names for {count} descriptors")
    named = [(FdAddress(fd), label) for fd, label in enumerate(labels, _FIRST_ACTIVATED)]
    return _all_or_none((address, partial(_inherit, address, label)) for address, label in named)


def _inherit(address: FdAddress, name: str = "") -> list[Listener]:
    """Inherit a descriptor; if it is refused, it stays open, because it belongs to the caller."""
    sock = socket.socket(fileno=address.fd)
    if not _is_listening_stream(sock):
        sock.detach()
        raise BindError(f"cannot listen on {address}: it is not a listening stream socket")
    sock.set_inheritable(False)
    sock.settimeout(0)
    return [Listener(sock, bound_address(sock), name, inherited=True)]


def _is_listening_stream(sock: socket.socket) -> bool:
    return (
        sock.family in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}
        and sock.type == socket.SOCK_STREAM
        and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    )


# Errors

_REASONS: Final = {
    errno.EACCES: "permission denied",
    errno.EADDRINUSE: "the address is in use",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EBADF: "no such descriptor was inherited",
    errno.EEXIST: "a file that is no socket is in the way",
    errno.ENOENT: "the directory does not exist",
    errno.ENOTSOCK: "the descriptor is not a socket",
}


@contextmanager
def _bind_errors(address: BindAddress) -> Iterator[None]:
    """Translate OSError to BindError for an address."""
    try:
        yield
    except OSError as error:
        # gaierror has numbers of its own, which must not be looked up as errno.
        known = None if isinstance(error, socket.gaierror) else _REASONS.get(error.errno or 0)
        reason = known or (error.strerror or str(error)).lower()
        raise BindError(f"cannot listen on {address}: {reason}") from error
