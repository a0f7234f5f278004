"""Listening sockets: opened, inherited, described, and given back.

From bind addresses to sockets that listen, without an event loop: everything here happens before
the loop runs or after it has ended, so a call may block for as long as a name takes to resolve.
Addresses as text belong to ``net/address.py``, the files of unix sockets to ``net/unix_socket.py``,
TLS to ``net/tls.py``, accepting to the server.

**Ownership.** `Listeners` owns its sockets and their files. `Listeners.close` is safe in a forked
worker, and after another server has taken over the path: neither removes a file.

**Errors** become `BindError`: one line that names the address and says what is wrong with it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
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
    """How new sockets are made; inherited ones keep what their maker chose."""

    backlog: int = 2048
    """Connections that the kernel keeps for us before they are accepted (listen(2))."""
    reuse_port: bool = False
    """SO_REUSEPORT: several processes bind one TCP port, the kernel deals out the connections."""
    umask: int | None = None
    """Mask while a unix socket's file is created; None leaves the process's own."""
    uds_permissions: int | None = None
    """Mode of a unix socket's file, whatever the mask; to connect takes write permission."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One non-blocking listening socket."""

    socket: socket.socket
    address: BindAddress
    """What the socket is bound to, the kernel's choice of port included."""
    name: str = ""
    """``FileDescriptorName=`` of systemd's socket unit; empty for all others."""
    file: SocketFile | None = None
    """None where no file of ours stands for the socket."""
    inherited: bool = False
    """It was opened by another process, which may go on listening when we have closed it."""

    def close(self) -> None:
        """Close the socket and remove its file if it is still ours. Idempotent."""
        if self.file is not None and self.socket.fileno() >= 0:
            self.file.remove()
        self.socket.close()


class Listeners:
    """The listeners of a server, in the order of their binds."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = tuple(listeners)

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._listeners)

    def __len__(self) -> int:
        return len(self._listeners)

    @property
    def sockets(self) -> list[socket.socket]:
        """The bare sockets, for the event loop."""
        return [listener.socket for listener in self]

    def urls(self, scheme: str = "http") -> list[str]:
        """A link or an address for each listener, for the start-up line."""
        return [listener.address.url(scheme) for listener in self]

    def close(self) -> None:
        """Stop listening. Idempotent; connections that were accepted live on."""
        for listener in self:
            listener.close()


def open_listeners(addresses: Sequence[BindAddress], options: ListenOptions) -> Listeners:
    """Open every address, or none: at the first failure those already open are closed again.

    A name that resolves to several addresses gives a listener for each that this machine has; with
    port 0 they share one port. Raises BindError.
    """
    return _all_or_none((address, partial(_open, address, options)) for address in addresses)


def bound_address(sock: socket.socket) -> BindAddress:
    """What getsockname(2) says of a socket, as a bind address; its ``url()`` is for people."""
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


def _open(address: BindAddress, options: ListenOptions) -> list[Listener]:
    if isinstance(address, UnixAddress):
        return [_open_unix(address, options)]
    if isinstance(address, FdAddress):
        return _inherit(address)
    return [Listener(sock, bound_address(sock)) for sock in _open_tcp(address, options)]


@contextmanager
def _new_socket(family: int) -> Iterator[socket.socket]:
    """A non-blocking stream socket, which is closed if the block fails."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(0)
    try:
        yield sock
    except BaseException:
        sock.close()
        raise


# TCP


class _Endpoint(NamedTuple):
    """One address of a host, as the socket calls take it."""

    family: int
    host: str
    rest: tuple[int, ...] = ()
    """Flow and scope of an IPv6 address."""


_ALL: Final = _Endpoint(socket.AF_INET6, "::")
_ALL_IPV4: Final = _Endpoint(socket.AF_INET, "0.0.0.0")  # noqa: S104 - only where it is asked for

_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""What the kernel answers where it has no such address, or no IPv6 at all."""

_PORT_ATTEMPTS: Final = 16
"""Tries to find one port that is free on all addresses of a host; a guess, failures are rare."""


def _open_tcp(address: TcpAddress, options: ListenOptions) -> list[socket.socket]:
    if not address.host:
        return [_open_wildcard(address.port, options)]
    endpoints = _resolve(address)
    for _ in range(0 if address.port else _PORT_ATTEMPTS):
        try:
            return _open_endpoints(endpoints, 0, options)
        except OSError as error:
            # The port that the kernel chose on the first address is taken on another.
            if error.errno != errno.EADDRINUSE:
                raise
    return _open_endpoints(endpoints, address.port, options)


def _open_wildcard(port: int, options: ListenOptions) -> socket.socket:
    """One socket for both families; IPv4 alone where the kernel has no IPv6."""
    try:
        return _listen(_ALL, port, options)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
    return _listen(_ALL_IPV4, port, options)


def _resolve(address: TcpAddress) -> list[_Endpoint]:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    endpoints = (_Endpoint(family, str(name[0]), name[2:]) for family, _, _, _, name in found)
    # A hosts file that gives an address twice must not make us collide with ourselves.
    return list(dict.fromkeys(endpoints))


def _open_endpoints(
    endpoints: list[_Endpoint], port: int, options: ListenOptions
) -> list[socket.socket]:
    """Listen on every endpoint that exists here, all on one port."""
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
        # A restart must not wait for the connections of the process before it (TIME_WAIT).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if endpoint.family == socket.AF_INET6:
            # Not left to net.ipv6.bindv6only: an option means the same on every machine.
            only = endpoint.host != _ALL.host
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
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
    """Take over the sockets of systemd's socket activation, in the order of the unit.

    Empty where no socket unit started this process; otherwise these stand in for the default bind.
    The variables are removed from ``environ``, for they are not meant for child processes.
    Raises BindError (sd_listen_fds_with_names(3)).
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
    """Adopt a descriptor; one that is refused stays open, for it is not ours."""
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
    """Translate what the operating system says of an address."""
    try:
        yield
    except OSError as error:
        # gaierror has numbers of its own, which must not be read as errno.
        known = None if isinstance(error, socket.gaierror) else _REASONS.get(error.errno or 0)
        reason = known or (error.strerror or str(error)).lower()
        raise BindError(f"cannot listen on {address}: {reason}") from error
