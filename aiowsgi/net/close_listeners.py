"""The last moment of a listening socket: nobody comes in any more, and nobody who did is lost.

The kernel completes connections before anybody accepts them. When a listening socket is closed,
those that wait are reset, and so are those whose handshake is half done; their clients may have
been told that they are connected, and may have sent a request. So a socket is *sealed* first: who
comes now is refused, who has begun comes in and is accepted, and then it is closed.

**How.** The socket is bound to a network interface that does not exist (SO_BINDTOIFINDEX). No SYN
finds it any more, and each is answered as on a port where nobody listens: its client is refused at
once, has sent nothing, and may go elsewhere. A connection has the interface of the moment of its
SYN, so the seal does not touch one that waits or is in its handshake. Linux allows it without
privileges since 5.7, once for each socket. Two other ways were tried, and both let clients try in
vain for a second. A socket filter drops the last packet of handshakes, too, and wants
CAP_NET_ADMIN. A least TTL (IP_MINTTL) of 255 goes over to the connections that come in afterwards:
what they send is dropped until somebody takes it off each of them again.

**What is lost all the same.** A handshake is reset that takes longer than `ROUND_TRIP` to end, or
of which the kernel keeps no record (SYN cookies, in a flood). Where several servers share a port
(SO_REUSEPORT), the kernel goes on dealing to a sealed socket: those clients are not refused, but
dropped, and come to another server when they try again, a second later. Older kernels, other
systems, and an address of one link (``fe80::``), whose socket has its interface already, have no
seal: there who comes between the last accept and the close is reset, a matter of microseconds,
which a busy server meets all the same.

A unix socket needs no seal, for nobody finds it once its file is gone. One that was inherited is
not ours to seal, nor need it be: it stays open, with those who wait, for who comes after us.
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

__all__ = ["accept_waiting", "stop_accepting"]

_BIND_TO_INDEX: Final = 62
"""SO_BINDTOIFINDEX of <asm-generic/socket.h>, which Python names from 3.13 on."""

_NOWHERE: Final = 2**31 - 1
"""The number of no interface: they are counted from 1."""

ROUND_TRIP: Final = 0.2
"""Seconds in which a handshake that has begun may end. A guess: most of the Internet is nearer."""

PATIENCE: Final = 0.5
"""Seconds in which what waits is accepted; longer only where a server has no room. A guess."""


def stop_accepting(listeners: Listeners) -> float:
    """Let nobody else come in, where that is ours to say and can be done.

    Returns for how many seconds to go on accepting, as handshakes may have begun: 0 where nothing
    was sealed, be it that another process has done it before, or where only this machine connects.
    """
    return max((_seal(listener) for listener in listeners), default=0.0)


def _seal(listener: Listener) -> float:
    sock = listener.socket
    if sys.platform != "linux" or listener.inherited or sock.family == socket.AF_UNIX:
        return 0.0
    try:
        sock.setsockopt(socket.SOL_SOCKET, _BIND_TO_INDEX, _NOWHERE)
    except OSError:
        return 0.0
    return 0.0 if parse_ip(sock.getsockname()[0]).is_loopback else ROUND_TRIP


async def accept_waiting(listeners: Listeners) -> None:
    """Let the server accept what waits, just before ``listeners`` are closed.

    It returns in the very step of the loop in which nobody waited.
    """
    poll = select.poll()
    for sock in listeners.sockets:
        poll.register(sock, select.POLLIN)
    give_up = monotonic() + PATIENCE
    while poll.poll(0) and monotonic() < give_up:  # noqa: ASYNC110 - the server accepts meanwhile
        await asyncio.sleep(0)
