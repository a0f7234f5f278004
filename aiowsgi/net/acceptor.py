"""Accepting connections from one listening socket.

asyncio's own servers log an error every second once descriptors have run out, while the clients
wait. Here accepting is ours: it can be paused and resumed on any loop, says once that it had to
pause, and gives a new connection to whoever makes the protocol.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["Acceptor"]

logger = logging.getLogger("aiowsgi.server")

ACCEPT_BATCH: Final = 32
"""Connections accepted before the others have their turn. A guess."""

RETRY_DELAY: Final = 0.1
"""Seconds until accepting is tried again after the system had no room for one more."""

YIELD_DELAY: Final = 0.005
"""Seconds for which a connection is left to another process that should have it: enough for one
that is awake, little for a client if none is. Measured: with two milliseconds it often does not."""

# accept(2): errors of the connection that was to be accepted, not of the listener.
_CONNECTION_ERRORS: Final = frozenset(
    (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH)
)


class Acceptor:
    """Accepts on one listening socket, which stays its owner's, and hands connections over."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        on_connection: Callable[[socket.socket], object],
        on_exhausted: Callable[[], object],
        may_accept: Callable[[], bool] | None = None,
    ) -> None:
        """``listener`` remains the caller's. ``on_connection`` takes a connection, owns it and must
        not raise. ``on_exhausted`` is called when the process has run out of descriptors or memory;
        it may close something. ``may_accept`` returns whether this process should accept the next
        connection; if not, it is left to another process for `YIELD_DELAY`."""
        self._loop = loop
        self._listener = listener
        self._on_connection = on_connection
        self._on_exhausted = on_exhausted
        self._may_accept = may_accept
        self._is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6)
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        # Connections to accept if another process does not take the next one.
        self._left_over = 1
        # Registered with the loop.
        self._active = False
        # Will resume after the system had no room; None while not waiting for that.
        self._retry: asyncio.TimerHandle | None = None
        # That it had none has been logged, and it has had none since.
        self._starving = False

    def start(self) -> None:
        """Begin or go on accepting. Idempotent."""
        if not self._active:
            self._active = True
            self._loop.add_reader(self._listener.fileno(), self._ready)

    def stop(self) -> None:
        """Accept nothing until `start`; what has connected waits in the kernel. Idempotent."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._active:
            self._active = False
            self._loop.remove_reader(self._listener.fileno())

    def has_pending(self) -> bool:
        """Whether somebody has connected and waits to be accepted."""
        return bool(self._poll.poll(0))

    def _ready(self) -> None:
        for _ in range(ACCEPT_BATCH):
            if not self._active:
                return
            if self._may_accept is not None and not self._may_accept():
                self.stop()
                self._retry = self._loop.call_later(YIELD_DELAY, self._take)
                return
            # To ask costs less than an accept in vain, which is what most would end with.
            if not self._accept() or not self.has_pending():
                return

    def _take(self) -> None:
        """Accept what was left to another process and is still there.

        More each time: where the other is stuck, clients shall not wait for it one by one.
        """
        self._resume()
        for _ in range(self._left_over):
            if not self._active or not self._accept():
                self._left_over = 1
                return
        self._left_over = min(2 * self._left_over, ACCEPT_BATCH)

    def _accept(self) -> bool:
        """Accept one; returns whether to go on."""
        try:
            connection, _address = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _CONNECTION_ERRORS:
                return True
            self._wait_for_room(error)
            return False
        self._starving = False
        connection.settimeout(0)
        if self._is_tcp:
            self._send_at_once(connection)
        self._on_connection(connection)
        return True

    def _send_at_once(self, connection: socket.socket) -> None:
        """Turn Nagle's algorithm off: it would hold the second of two small writes back until the
        client's delayed acknowledgement of the first."""
        # Here, where it is one call: what uvloop's transports show as theirs makes a socket for it.
        # An error means that the client has gone already, which will be found out.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _wait_for_room(self, error: OSError) -> None:
        """Pause, not spin: the listener stays readable for as long as it is not accepted from."""
        if not self._starving:
            logger.warning("accepting is paused: %s", error)
            self._starving = True
        self.stop()
        self._on_exhausted()
        self._retry = self._loop.call_later(RETRY_DELAY, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self.start()
