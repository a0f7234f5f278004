"""A connection's transport and what is sent on it, without a notion of requests.

`Line` is the lower half of a `Connection`: it takes the transport, has an `ResponseOutput` made for
it, and carries out what the loop's side of sending and closing asks for. What comes in, and what
all of it means, is the upper half's. All I/O of a connection but the receiving goes through here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiowsgi.exchange.output import DrainResult, ResponseOutput
from aiowsgi.exchange.writers import SocketWriter, TransportWriter

if TYPE_CHECKING:
    from aiowsgi.connection.state import ServerState

__all__ = ["Line"]

logger = logging.getLogger("aiowsgi.server")


class Line(asyncio.Protocol):
    """See the module's docstring."""

    __slots__ = ("_eof", "_hub", "_outlet", "_port", "_reading", "_transport", "_writing")

    def __init__(self, hub: ServerState) -> None:
        self._hub = hub
        # Set by `_take`, for the rest of the connection's life.
        self._transport: asyncio.Transport
        self._port: SocketWriter | TransportWriter
        self._outlet: ResponseOutput
        # The client sends no more. Set by the upper half.
        self._eof = False
        # The transport is being read.
        self._reading = True
        # The loop waits for the descriptor to become writable.
        self._writing = False

    def _take(self, transport: asyncio.Transport) -> bool:
        """Begin; False, and the connection is cut, where that cannot be."""
        self._transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        try:
            if transport.get_extra_info("ssl_object") is None:
                self._port = SocketWriter(sock)
            else:
                self._port = TransportWriter(transport)
        except OSError as error:
            # There is no descriptor for the duplicate.
            logger.warning("a connection could not be set up: %s", error)
            transport.abort()
            return False
        self._outlet = ResponseOutput(self._port, self._wake, self._hub.backlog)
        return True

    def _wake(self) -> None:
        """Ask for `_attend`; from any thread."""
        self._hub.wakeups.call(self._attend)

    def _attend(self) -> None:
        """See what the worker wants. May be called at any time on the loop."""
        if not self._transport.is_closing():
            self._drain()

    def _read_on(self, *, reading: bool) -> None:
        """Read from the socket, or let the client wait."""
        if reading is not self._reading and not self._eof and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # Sending what the worker left

    def _drain(self) -> None:
        """Send what waits, as far as that goes, and see that the rest is sent later."""
        self._DRAINED[self._outlet.drain()](self)

    def _watch_writable(self) -> None:
        if isinstance(self._port, SocketWriter) and not self._writing:
            self._writing = True
            self._hub.loop.add_writer(self._port.fileno(), self._attend)

    def _unwatch_writable(self) -> None:
        if isinstance(self._port, SocketWriter) and self._writing:
            self._writing = False
            self._hub.loop.remove_writer(self._port.fileno())

    def _drain_soon(self) -> None:
        if not self._writing:
            self._hub.loop.call_soon(self._attend)

    def pause_writing(self) -> None:
        """Called by a transport that holds enough."""
        if isinstance(self._port, TransportWriter):
            self._port.paused = True

    def resume_writing(self) -> None:
        """Called by a transport that can take more."""
        if isinstance(self._port, TransportWriter):
            self._port.paused = False
            self._hub.loop.call_soon(self._attend)

    def _tear(self) -> None:
        """End the connection with a reset, so that nobody takes what came for a whole response."""
        with suppress(OSError):
            # Zero seconds to linger: what waits in the kernel is dropped, and RST is sent.
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self._transport.abort()

    _DRAINED: Final = {
        DrainResult.EMPTY: _unwatch_writable,
        DrainResult.FINISHED: _unwatch_writable,
        DrainResult.BLOCKED: _watch_writable,
        DrainResult.MORE: _drain_soon,
        DrainResult.BROKEN: _tear,
    }

    # Closing

    @property
    def _can_close_by_half(self) -> bool:
        """The client can be sent to while it sends no more, and the other way round."""
        return isinstance(self._port, SocketWriter)

    def _close_by_half(self) -> None:
        """Send no more, and go on to receive; where halves cannot be had, close."""
        if not self._can_close_by_half:
            self._transport.close()
            return
        self._read_on(reading=True)
        try:
            self._transport.write_eof()
        except OSError:
            # The client has reset the connection, which the loop has not noticed yet.
            self._transport.abort()
