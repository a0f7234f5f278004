"""Lets an application take a connection over: the socket under ``environ["aiowsgi.socket"]``.

The request must ask for it (``Upgrade``, RFC 9110 section 7.8), over HTTP/1.1, without a body and
on a connection that is not encrypted. The application then finds a `SocketOffer` in its environ,
and the first use of that takes the connection. From then on the application reads and writes the
socket itself; the connection ends when the application returns or closes the socket.

How the connection changes hands, and why nothing is lost or sent twice:

1. The worker thread marks the output as taken (`ResponseOutput.take`). From then on neither thread
   can send a response.
2. It wakes the event loop and waits. The loop stops reading, and hands over the bytes that it has
   received behind the request (`Upgrade.hand_over`).
3. The worker receives those bytes first, then from a descriptor of its own.

A connection that is lost in between is handed over as well; the first receive finds its end.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Final, final

from aiowsgi.exceptions import ClientDisconnected

if TYPE_CHECKING:
    from aiowsgi.exchange.output import ResponseOutput
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.wsgi.handler import Environ, WSGIApplication

__all__ = ["SocketOffer", "Upgrade", "UpgradeSlots", "upgradable"]

logger = logging.getLogger("aiowsgi.server")

KEYS: Final = ("aiowsgi.socket", "gunicorn.socket")
"""Environ keys of the offer; simple-websocket, and so Flask-Sock and Socket.IO, know the second."""

NOT_TAKEN: Final = frozenset({"h2c"})
"""Protocols that clients offer to every server, and that applications do not speak."""


@final
class UpgradeSlots:
    """How many connections of this process applications may have taken over at a time."""

    __slots__ = ("_free", "_limit", "_lock", "_reported")

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._free = limit
        self._lock = Lock()
        # The log has said that none was free.
        self._reported = False

    def enter(self) -> bool:
        """Take a slot; False if none is free, which is logged the first time."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            first, self._reported = not self._reported, True
        if first:
            logger.warning(
                "a client that asked for another protocol (Upgrade) was answered 503, as %d"
                " connections may be taken over in this process; see --max-upgraded and --threads",
                self._limit,
            )
        return False

    def leave(self) -> None:
        """Give the slot back."""
        with self._lock:
            self._free += 1


@final
class UpgradedSocket(socket.socket):
    """A connection's socket; blocking, and closed by the thread that has it."""

    _early = b""

    @classmethod
    def of(cls, other: socket.socket, early: bytes) -> UpgradedSocket:
        """Take the descriptor of ``other``; ``early`` was received before and comes first."""
        made = cls(other.family, other.type, other.proto, other.detach())
        made._early = early
        made.setblocking(True)  # noqa: FBT003 - positional only
        return made

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """See `socket.socket.recv`."""
        if not self._early:
            return super().recv(size, flags)
        data = self._early[:size]
        if not flags & socket.MSG_PEEK:
            self._early = self._early[size:]
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """See `socket.socket.recv_into`."""
        if not self._early:
            return super().recv_into(buffer, nbytes, flags)
        with memoryview(buffer).cast("B") as view:
            data = self.recv(nbytes or len(view), flags)
            view[: len(data)] = data
        return len(data)


@final
class Upgrade:
    """One request that may take its connection over."""

    __slots__ = ("_early", "_handed_over", "_open", "_output", "_owner", "_record", "socket")

    def __init__(self, output: ResponseOutput, owner: object, record: RequestRecord) -> None:
        self._output = output
        self._owner = owner
        self._record = record
        # Set by the event loop once it reads no more.
        self._handed_over = Event()
        self._early = b""
        # The application is being called; afterwards the connection cannot be taken.
        self._open = True
        self.socket: UpgradedSocket | None = None
        """The socket once it is taken; None before."""

    def take(self) -> UpgradedSocket:
        """Take the connection over; on the worker thread, once.

        Raises ClientDisconnected if the connection is lost or a response has begun, and
        RuntimeError if the application has returned.
        """
        if not self._open:
            raise RuntimeError("the connection can be taken only while the application is called")
        duplicate = self._output.take(self._owner, self.hand_over)
        self._record.upgraded = True
        self._handed_over.wait()
        self.socket = UpgradedSocket.of(duplicate, self._early)
        return self.socket

    def hand_over(self, early: bytes) -> None:
        """The event loop reads no more; ``early`` was received behind the request. Idempotent."""
        if not self._handed_over.is_set():
            self._early = early
            self._handed_over.set()

    def end(self) -> None:
        """The application has returned: close its socket if it has one."""
        self._open = False
        if self.socket is not None:
            self.socket.close()


class SocketOffer:
    """Stands for the connection's socket; the first use of an attribute takes the connection."""

    def __init__(self, upgrade: Upgrade) -> None:
        self._upgrade = upgrade

    def __getattr__(self, name: str) -> Any:
        upgrade = self._upgrade
        return getattr(upgrade.socket or upgrade.take(), name)


def upgradable(app: WSGIApplication, upgrade: Upgrade, slots: UpgradeSlots) -> WSGIApplication:
    """``app`` with the offer in its environ; answers 503 if too many connections are taken.

    If the connection was taken, whatever the application returns is dropped: it raises
    ClientDisconnected, since there is no HTTP client any more. Applications for gunicorn raise
    StopIteration at that point.
    """

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if not slots.enter():
            start_response("503 Service Unavailable", [("Retry-After", "1")])
            return [b"Too many connections are upgraded.\n"]
        environ.update(dict.fromkeys(KEYS, SocketOffer(upgrade)))
        try:
            iterable = app(environ, start_response)
        except StopIteration:
            if upgrade.socket is None:
                raise
            iterable = []
        finally:
            upgrade.end()
            slots.leave()
        if upgrade.socket is None:
            return iterable
        close = getattr(iterable, "close", None)
        if close is not None:
            close()
        raise ClientDisconnected("the application has taken the connection over")

    return application
