"""The last moment of a listening socket: nobody comes in any more, and nobody who did is lost.

The kernel completes connections before anybody accepts them. When a listening socket is closed,
those that wait are reset, though their clients have been told that they are connected and may have
sent a request. So a socket is *sealed* first: what arrives for it is dropped, those who wait are
accepted, and then it is closed. A client that knocks in between is refused when it tries again, a
second later; it has sent nothing, and may go elsewhere.

A classic socket filter (SO_ATTACH_FILTER, socket(7)) does this on Linux. Kernels of late want
CAP_NET_ADMIN for it. Without that, and elsewhere, there is none, and what comes between the last
accept and the close is reset: a matter of microseconds, which a busy server meets all the same. A
unix socket needs no seal, for nobody finds
it once its file is gone. One that was inherited is not ours to seal, nor need it be: it stays open,
with those who wait, for who comes after us.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import sys
from array import array
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiowsgi.sockets import Listeners

__all__ = ["accept_waiting", "seal"]

_ATTACH_FILTER: Final = 26
"""SO_ATTACH_FILTER of <asm-generic/socket.h>, which Python does not name."""

_DROP: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One instruction of linux/filter.h: return (BPF_RET | BPF_K), and keep no byte."""

PATIENCE: Final = 0.5
"""Seconds in which what waits is accepted; longer only where a server has no room. A guess."""


def seal(listeners: Listeners) -> None:
    """Let no further connection come in, where that is ours to say and can be done."""
    if sys.platform != "linux":
        return
    program = array("B", _DROP)
    filter_ = struct.pack("HP", 1, program.buffer_info()[0])
    for listener in listeners:
        if not listener.inherited and listener.socket.family != socket.AF_UNIX:
            # Who may set no filter has the window of other systems.
            with suppress(OSError):
                listener.socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, filter_)


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
