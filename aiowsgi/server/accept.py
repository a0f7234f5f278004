"""Makes connections of accepted sockets, and limits how many there are.

The limit on descriptors bounds how many connections a process can have: each needs two, its own and
the duplicate that worker threads send on. (A slow client needs a third one, for the file or the
spool that it reads from. Few clients are slow at a time; if no descriptor is left, a worker thread
waits for the client.)

Accepting pauses *before* descriptors run out, since an ``accept`` that fails leaves the client
waiting and the listener readable, so that the event loop spins. New clients then wait in the
kernel. Kept connections that are idle, or become idle, are closed to make room, those that were
idle for longest first. When a connection has gone, accepting goes on.

``--max-connections`` is different: that many connections are served, and any other one is answered
503.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from aiowsgi.connection.connection import Connection
from aiowsgi.connection.handshake import Handshaker
from aiowsgi.net.acceptor import RETRY_DELAY, Acceptor
from aiowsgi.system.descriptors import connection_capacity

if TYPE_CHECKING:
    from aiowsgi.connection.state import ServerState
    from aiowsgi.net.tls import ServerContexts
    from aiowsgi.proxy.headers import TrustedPeers
    from aiowsgi.proxy.protocol import ProxyHeader

__all__ = [
    "ConnectionAcceptor",
]

logger = logging.getLogger("aiowsgi.server")

MAKE_ROOM: Final = 0.02
"""The share of idle connections that is closed at a time to make room, so that the search for those
idle for longest is rare. A guess."""


class ConnectionAcceptor:
    """Accepts connections on a server's listening sockets, which it does not close."""

    def __init__(
        self,
        state: ServerState,
        sockets: Sequence[socket.socket],
        *,
        most: int = 0,
        contexts: ServerContexts | None = None,
        proxies: TrustedPeers | None = None,
        timeout: float = 10.0,
        is_my_turn: Callable[[int], bool] | None = None,
    ) -> None:
        """Accept from ``sockets``.

        At most ``most`` connections are served at a time; 0 for as many as descriptors allow.
        ``contexts``, ``proxies`` and ``timeout`` are those of `Handshaker`. ``is_my_turn`` is
        called with the number of connections; it returns False to leave the next one to another
        process.
        """
        self._state = state
        self._most = most
        self._room = connection_capacity()
        turn = None if is_my_turn is None else lambda: is_my_turn(self._count())
        self._acceptors = [
            Acceptor(state.loop, sock, self._accepted, self._make_room, turn) for sock in sockets
        ]
        self._handshaker: Handshaker | None = None
        if contexts is not None or proxies is not None:
            self._handshaker = Handshaker(
                self._make,
                contexts=contexts,
                proxies=proxies,
                timeout=timeout,
                on_done=state.notify_watchers,
            )
        # Tasks in which the event loop makes transports.
        self._entering: set[asyncio.Task[None]] = set()
        # Their connections, which may be among the server state's before the task ends.
        self._made: set[Connection] = set()
        # Accepting is wanted: it pauses only for lack of descriptors.
        self._open = False
        self._paused = False
        # The next search for idle connections, while accepting is paused.
        self._retry: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin or continue to accept. Idempotent."""
        self._open = True
        self._go_on()
        for acceptor in self._acceptors:
            acceptor.start()

    def stop(self) -> None:
        """Accept nothing until `start`; new clients wait in the kernel. Idempotent."""
        self._open = False
        self._go_on()
        for acceptor in self._acceptors:
            acceptor.stop()

    @property
    def entering(self) -> int:
        """Number of accepted connections on which HTTP has not begun."""
        return len(self._entering) + (len(self._handshaker) if self._handshaker is not None else 0)

    async def clear(self) -> None:
        """Drop the connections on which HTTP has not begun, and wait until they are gone."""
        if self._handshaker is not None:
            self._handshaker.close()
        if self._entering:
            await asyncio.wait(self._entering)

    def connection_closed(self) -> None:
        """A connection has gone: continue to accept if that was paused for lack of descriptors."""
        if self._paused and self._open and self._count() < self._room:
            self.start()

    # An accepted socket

    def _accepted(self, sock: socket.socket) -> None:
        if self._handshaker is not None:
            self._handshaker.admit(sock)
        else:
            task = self._state.loop.create_task(self._enter(sock))
            self._entering.add(task)
            task.add_done_callback(self._entered)
        if self._count() >= self._room:
            self._pause()

    def _make(self, header: ProxyHeader | None = None) -> Connection:
        over = 0 < self._most <= len(self._state.connections)
        return Connection(self._state, header, refused=over)

    async def _enter(self, sock: socket.socket) -> None:
        connection = None
        try:
            connection = self._make()
            self._made.add(connection)
            await self._state.loop.connect_accepted_socket(lambda: connection, sock)
        except Exception as error:
            logger.warning("a connection could not be set up: %s", error)
            sock.close()
        finally:
            self._made.discard(connection)

    def _entered(self, task: asyncio.Task[None]) -> None:
        self._entering.discard(task)
        self._state.notify_watchers()

    # Room

    def _count(self) -> int:
        connections = self._state.connections
        return len(connections) + self.entering - len(self._made & connections)

    def _pause(self) -> None:
        if not self._paused:
            logger.debug("accepting is paused: %d connections are open", self._count())
            self._paused = True
            self._retry = self._state.loop.call_later(RETRY_DELAY, self._look_again)
        for acceptor in self._acceptors:
            acceptor.stop()
        self._make_room()

    def _go_on(self) -> None:
        self._paused = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _look_again(self) -> None:
        """Close connections that have become idle: worker threads do not report that."""
        self._retry = self._state.loop.call_later(RETRY_DELAY, self._look_again)
        if any(acceptor.has_pending() for acceptor in self._acceptors):
            self._make_room()

    def _make_room(self) -> None:
        """Close the kept connections that were idle for longest."""
        idle = [
            (since, id(connection), connection)
            for connection in tuple(self._state.connections)
            if (since := connection.idle_since()) is not None
        ]
        for _, _, connection in heapq.nsmallest(1 + int(len(idle) * MAKE_ROOM), idle):
            connection.close_idle()
