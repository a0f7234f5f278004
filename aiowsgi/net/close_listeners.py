"""Closes listening sockets without losing a connection.

The kernel completes connections before the server accepts them. When a listening socket is closed,
the kernel resets the connections in its backlog and the handshakes that are not complete, although
their clients may already have sent a request. So a server calls `refuse_new_connections` first,
accepts for the time that it returns, calls `drain_backlog`, and then closes the socket.

**How.** The socket is bound to a network interface that does not exist (SO_BINDTOIFINDEX). New SYN
packets no longer match the socket, so the kernel answers as for a closed port: the client is
refused at once, has sent nothing, and can connect to another server. A connection has the interface
that its SYN arrived on, so this does not affect complete connections or handshakes. Linux has
allowed it without privileges since 5.7, once for each socket. Two other ways were tried; with both,
clients repeat their SYN for a second. A socket filter also drops the last packet of handshakes, and
it needs CAP_NET_ADMIN. A minimum TTL (IP_MINTTL) of 255 is inherited by accepted connections, whose
packets are then dropped until it is reset on each of them.

**Limits.** A handshake that takes longer than `HANDSHAKE_TIME`, or that the kernel keeps no record
of (SYN cookies, during a flood), is reset. If several servers share a port (SO_REUSEPORT), the
kernel still selects the bound socket: its clients are not refused but repeat their SYN a second
later and reach another server. Older kernels, other systems and link-local addresses (``fe80::``),
whose socket already has an interface, cannot refuse new connections: a client that connects between
the last accept and the close is reset. That takes microseconds, which a busy server will
nevertheless meet.

A unix socket needs none of this: without its file no client can connect. An inherited socket is not
changed: it stays open, with its backlog, for the next process.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

from aiowsgi.net.address import parse_ip

if TYPE_CHECKING:
    from aiowsgi.net.listeners import Listener, Listeners

__all__ = ["drain_backlog", "refuse_new_connections"]

_BIND_TO_INDEX: Final = 62
"""SO_BINDTOIFINDEX of <asm-generic/socket.h>; Python has the name since 3.13."""

_NOWHERE: Final = 2**31 - 1
"""An interface index that does not exist: the kernel counts from 1."""

HANDSHAKE_TIME: Final = 0.2
"""Seconds that a handshake may take to complete. A guess: most round trips are shorter."""

DRAIN_TIMEOUT: Final = 0.5
"""Seconds after which draining ends; it takes longer only if the server cannot accept. A guess."""


def refuse_new_connections(listeners: Listeners) -> float:
    """Refuse new connections on the sockets that this process opened, if the kernel can.

    Returns the number of seconds in which to go on accepting, because handshakes may be under way.
    0 if nothing was changed: the kernel cannot, another process has done it, or only this machine
    connects.
    """
    return max((_refuse_new(listener) for listener in listeners), default=0.0)


def _refuse_new(listener: Listener) -> float:
    sock = listener.socket
    if sys.platform != "linux" or listener.inherited or sock.family == socket.AF_UNIX:
        return 0.0
    try:
        sock.setsockopt(socket.SOL_SOCKET, _BIND_TO_INDEX, _NOWHERE)
    except OSError:
        return 0.0
    return 0.0 if parse_ip(sock.getsockname()[0]).is_loopback else HANDSHAKE_TIME


async def drain_backlog(listeners: Listeners) -> None:
    """Run the event loop until the backlogs are empty; close ``listeners`` directly after.

    Returns in the same step of the event loop in which the backlogs were empty.
    """
    poll = select.poll()
    for sock in listeners.sockets:
        poll.register(sock, select.POLLIN)
    give_up = monotonic() + DRAIN_TIMEOUT
    while poll.poll(0) and monotonic() < give_up:  # noqa: ASYNC110 - the server accepts meanwhile
        await asyncio.sleep(0)
