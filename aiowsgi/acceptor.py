"""Accepting connections from one listening socket.

asyncio's own servers log an error every second once descriptors have run out, while the clients
wait. Here accepting is ours: it can be paused and resumed on any loop, says once that it had to
pause, and gives a new connection to whoever makes the protocol.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

__all__ = ["Acceptor"]

logger = logging.getLogger("aiowsgi.server")

BATCH: Final = 32
"""Connections accepted before the others have their turn. A guess."""

PAUSE: Final = 0.1
"""Seconds until accepting is tried again after the system had no room for one more."""

# accept(2): errors of the connection that was to be accepted, not of the listener.
_PASSING: Final = frozenset(
    (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH)
)


class Acceptor:
    """Accepts on one listening socket, which stays its owner's, and hands connections over."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        accepted: Callable[[socket.socket], object],
        exhausted: Callable[[], object],
    ) -> None:
        """``accepted`` takes a connection and owns it then; it must not raise. ``exhausted`` is
        called when descriptors or memory have run out, to make room if that can be."""
        self._loop = loop
        self._listener = listener
        self._accepted = accepted
        self._exhausted = exhausted
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

    def _ready(self) -> None:
        for _ in range(BATCH):
            if not self._active:
                return
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _PASSING:
                    self._wait_for_room(error)
                    return
            else:
                self._starving = False
                connection.settimeout(0)
                self._accepted(connection)

    def _wait_for_room(self, error: OSError) -> None:
        """Pause, not spin: the listener stays readable for as long as it is not accepted from."""
        if not self._starving:
            logger.warning("accepting is paused: %s", error)
            self._starving = True
        self.stop()
        self._exhausted()
        self._retry = self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self.start()
