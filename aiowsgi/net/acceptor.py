"""Accepts connections from one listening socket.

It replaces asyncio's servers, which log an error every second when the process runs out of
descriptors. An `Acceptor` can be paused and resumed on any event loop, logs once that it had to
pause, and passes new connections to a callback.
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
"""Maximum number of connections accepted in one step of the event loop. A guess."""

RETRY_DELAY: Final = 0.1
"""Seconds until accepting is tried again after the process ran out of descriptors or memory."""

YIELD_DELAY: Final = 0.005
"""Seconds for which a connection is left to another process that should accept it: enough for an
awake process, and a short delay if there is none. Measured: 2 ms are often too short."""

# Errors of accept(2) that concern the new connection, not the listening socket.
_CONNECTION_ERRORS: Final = frozenset(
    (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH)
)


class Acceptor:
    """Accepts connections of one listening socket and passes them to a callback."""

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
        # Number of connections to accept after the next yield in which no other process accepts.
        self._left_over = 1
        # Whether the socket is registered with the event loop.
        self._active = False
        # Timer that resumes accepting; None if accepting is not paused.
        self._retry: asyncio.TimerHandle | None = None
        # Whether the pause has been logged since the last successful accept.
        self._starving = False

    def start(self) -> None:
        """Start or resume accepting. Idempotent."""
        if not self._active:
            self._active = True
            self._loop.add_reader(self._listener.fileno(), self._ready)

    def stop(self) -> None:
        """Stop accepting until `start`; new connections wait in the backlog. Idempotent."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._active:
            self._active = False
            self._loop.remove_reader(self._listener.fileno())

    def has_pending(self) -> bool:
        """Return whether a connection waits in the backlog."""
        return bool(self._poll.poll(0))

    def _ready(self) -> None:
        for _ in range(ACCEPT_BATCH):
            if not self._active:
                return
            if self._may_accept is not None and not self._may_accept():
                self.stop()
                self._retry = self._loop.call_later(YIELD_DELAY, self._take)
                return
            # poll() costs less than an accept() that fails, which usually would be the last one.
            if not self._accept() or not self.has_pending():
                return

    def _take(self) -> None:
        """Accept connections that were left to another process and are still waiting.

        The number doubles each time, so that clients do not wait one by one for a process that is
        stuck.
        """
        self._resume()
        for _ in range(self._left_over):
            if not self._active or not self._accept():
                self._left_over = 1
                return
        self._left_over = min(2 * self._left_over, ACCEPT_BATCH)

    def _accept(self) -> bool:
        """Accept one connection; return whether to try another."""
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
        """Disable Nagle's algorithm, which delays the second of two small writes until the client's
        delayed acknowledgement of the first."""
        # On the accepted socket this is one system call; uvloop's transport would create a socket
        # object first. An error means that the client has disconnected, which the transport will
        # notice.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _wait_for_room(self, error: OSError) -> None:
        """Pause accepting: the socket stays readable, so the event loop would spin."""
        if not self._starving:
            logger.warning("accepting is paused: %s", error)
            self._starving = True
        self.stop()
        self._on_exhausted()
        self._retry = self._loop.call_later(RETRY_DELAY, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self.start()
