"""What a process that the application forks must not share with the server.

``multiprocessing`` forks by default before Python 3.14, and so do ``os.fork`` and everything on top
of it. A forked child begins with copies of all that the server has. Left as they are,

* the wake-up descriptor and the handlers of the event loop would make the *server* stop when the
  child gets TERM: the child's C handler writes the signal's number into a pipe that it shares with
  the server's loop. ``multiprocessing.Pool`` sends TERM whenever it ends;
* a copy of a connection would keep it open for as long as the child runs: a client that waits for
  the end of an HTTP/1.0 response, or of an idle connection, would wait for the child;
* a copy of a listening socket would keep the port, and connections to it that nothing accepts;
* a child that returns from the application would answer the request a second time.

So in the child, before any of its code runs (``os.register_at_fork``), the wake-up descriptor is
removed, the server's signal handlers are replaced by the default actions, and every socket with the
local address of a listening socket becomes /dev/null. Connections are recognised by that address,
and not by a list, so that one is found which has been accepted a moment ago. A child that comes
back to the server's code, by a return or an exception, ends there (`leave_child`).

Programs that the application executes are not concerned: all descriptors are closed on exec.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from aiowsgi.exchange.forked_child import leave_child

if TYPE_CHECKING:
    from aiowsgi.exchange.app_context import AppContext

__all__ = ["ForkGuard", "note_signal_handlers"]

_guards: Final[WeakSet[ForkGuard]] = WeakSet()

_handlers: Final[dict[int, Any]] = {}
"""The signal handlers of the server, by signal."""


def note_signal_handlers(numbers: Iterable[int]) -> None:
    """Have a forked child give these signals, as they are handled now, their default actions.

    A handler that the application puts in the place of one of them stays in the child, and so does
    an ignored signal.
    """
    for number in numbers:
        handler = signal.getsignal(number)
        if callable(handler):
            _handlers[number] = handler


class ForkGuard:
    """While it exists, keeps the children of this process from some listeners and connections."""

    def __init__(
        self, listeners: Iterable[socket.socket], context: AppContext | None = None
    ) -> None:
        """``context`` belongs to the server that serves on ``listeners``, once there is one."""
        self.context = context
        self.addresses = {_key(sock.family, sock.getsockname()) for sock in listeners}
        _guards.add(self)

    def close(self) -> None:
        """The server has ended. Idempotent."""
        _guards.discard(self)


def _key(family: int, name: Any) -> object:
    """What a listening socket and its connections have in common: the port, or the path.

    A connection to a listener for all addresses has the address that its client asked for, so the
    host cannot be compared. No other socket of this process can have the port: the kernel gives it
    to none that connects.
    """
    return name if family == socket.AF_UNIX else name[1]


# A signal must not reach the child before the handlers are replaced: the server's would take it.
# So signals are blocked in the forking thread for that time.

_mask: Final[ContextVar[Any]] = ContextVar("mask", default=None)
"""Signals that were blocked before, or None; each thread has its own context."""


def _before_fork() -> None:
    if _guards:
        _mask.set(signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()))


def _after_fork_in_parent() -> None:
    if (mask := _mask.get()) is not None:
        _mask.set(None)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    if not _guards:
        return
    signal.set_wakeup_fd(-1)
    replaced = [number for number, ours in _handlers.items() if signal.getsignal(number) is ours]
    for number in replaced:
        signal.signal(number, signal.SIG_DFL)
    addresses = _detach_servers()
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):
            # The descriptor by which the directory was read is closed by now.
            _drop(int(name), addresses)
    # An INT that has come meanwhile ends the child here. As KeyboardInterrupt, it would be lost:
    # exceptions in a function of register_at_fork() are only printed.
    _after_fork_in_parent()
    if signal.SIGINT in replaced:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _detach_servers() -> set[object]:
    """Have the servers of this process answer nothing; the addresses of their sockets."""
    addresses: set[object] = set()
    for guard in tuple(_guards):
        addresses |= guard.addresses
        if guard.context is not None:
            guard.context.forked = True
            guard.context.released = lambda _: leave_child()
    _guards.clear()
    return addresses


def _drop(descriptor: int, addresses: set[object]) -> None:
    """Replace the descriptor by /dev/null if it is a socket with one of the addresses."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return
    # An object of its own, which would close the descriptor if it were not detached.
    sock = socket.socket(fileno=descriptor)
    try:
        is_stream = sock.type == socket.SOCK_STREAM and sock.family in _FAMILIES
        if not is_stream or _key(sock.family, sock.getsockname()) not in addresses:
            return
    finally:
        sock.detach()
    # It keeps its number: the server's objects in this process will close that once more.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor, inheritable=False)
    os.close(null)


_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
