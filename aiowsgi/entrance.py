"""How accepted sockets become connections, and how many there may be.

Descriptors bound what a process can hold: a connection takes two, its own and the duplicate that
workers send on. Accepting pauses *before* they run out, as an ``accept`` that fails leaves the
client waiting and the listener readable, over which a server spins. What has connected then waits
in the kernel. Kept connections that are idle are closed to make room, those idle for longest first,
and every connection that goes lets accepting go on.

``--max-connections`` is another matter: that many are served, and the next one is told so.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
import resource
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aiowsgi.acceptor import Acceptor
from aiowsgi.connection import Connection
from aiowsgi.gate import Gate

if TYPE_CHECKING:
    from aiowsgi.hub import Hub
    from aiowsgi.proxy import TrustedPeers
    from aiowsgi.proxy_protocol import ProxyHeader
    from aiowsgi.tls import ServerContexts

__all__ = ["Entrance", "room_for_connections"]

logger = logging.getLogger("aiowsgi.server")

RESERVE: Final = 64
"""Descriptors left to the application, log files and spools. A guess."""

MAKE_ROOM: Final = 0.02
"""The share of connections that is closed at once to make room, if idle; so that the search for
the longest idle ones is seldom. A guess."""


def room_for_connections() -> int:
    """How many connections the limit on descriptors (RLIMIT_NOFILE) leaves room for; at least 1."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = RESERVE
    return max(1, (limit - used - RESERVE) // 2)


class Entrance:
    """Lets connections in; made by a server for its listening sockets, which stay their owner's."""

    def __init__(
        self,
        hub: Hub,
        sockets: Sequence[socket.socket],
        *,
        most: int = 0,
        contexts: ServerContexts | None = None,
        proxies: TrustedPeers | None = None,
        timeout: float = 10.0,
    ) -> None:
        """``most`` connections are served at a time, 0 for as many as there is room for;
        ``contexts``, ``proxies`` and ``timeout`` are `Gate`'s."""
        self._hub = hub
        self._most = most
        self._room = room_for_connections()
        self._acceptors = [
            Acceptor(hub.loop, sock, self._accepted, self._make_room) for sock in sockets
        ]
        self._gate: Gate | None = None
        if contexts is not None or proxies is not None:
            self._gate = Gate(
                self._make, contexts=contexts, proxies=proxies, timeout=timeout, left=hub.notice
            )
        # Connections of which the event loop is making a transport.
        self._entering: set[asyncio.Task[object]] = set()
        # Accepting is wanted, and goes on where there is room.
        self._open = False
        self._paused = False

    def start(self) -> None:
        """Begin or go on accepting. Idempotent."""
        self._open = True
        self._paused = False
        for acceptor in self._acceptors:
            acceptor.start()

    def stop(self) -> None:
        """Accept nothing until `start`; who connects waits in the kernel. Idempotent."""
        self._open = False
        for acceptor in self._acceptors:
            acceptor.stop()

    @property
    def entering(self) -> int:
        """Number of accepted connections on which HTTP has not begun."""
        return len(self._entering) + (len(self._gate) if self._gate is not None else 0)

    async def clear(self) -> None:
        """Drop the connections on which HTTP has not begun, and wait until they are gone."""
        if self._gate is not None:
            self._gate.close()
        if self._entering:
            await asyncio.wait(self._entering)

    def left(self) -> None:
        """A connection has gone: accept again, if that was stopped for lack of room."""
        if self._paused and self._open and self._count() < self._room:
            self.start()

    # An accepted socket

    def _accepted(self, sock: socket.socket) -> None:
        if self._gate is not None:
            self._gate.admit(sock)
        else:
            loop = self._hub.loop
            task: asyncio.Task[object] = loop.create_task(
                loop.connect_accepted_socket(self._make, sock)
            )
            self._entering.add(task)
            task.add_done_callback(self._entered)
        if self._count() >= self._room:
            self._pause()

    def _make(self, header: ProxyHeader | None = None) -> Connection:
        over = 0 < self._most <= len(self._hub.connections)
        return Connection(self._hub, header, refused=over)

    def _entered(self, task: asyncio.Task[object]) -> None:
        self._entering.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("a connection could not be set up: %s", error)
        self._hub.notice()

    # Room

    def _count(self) -> int:
        return len(self._hub.connections) + self.entering

    def _pause(self) -> None:
        if not self._paused:
            logger.debug("accepting is paused: %d connections are open", self._count())
        self._paused = True
        for acceptor in self._acceptors:
            acceptor.stop()
        self._make_room()

    def _make_room(self) -> None:
        """Close the kept connections that have been idle for longest."""
        idle = [
            (since, id(connection), connection)
            for connection in tuple(self._hub.connections)
            if (since := connection.idle_since()) is not None
        ]
        for _, _, connection in heapq.nsmallest(1 + int(len(idle) * MAKE_ROOM), idle):
            connection.close_idle()
