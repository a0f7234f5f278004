"""The transport's half of a connection: reading or not, sending what a worker left, closing.

A `ConnectionTransport` knows nothing of requests. It owns the connection's `ResponseOutput`, which
worker threads send through, and does what the event loop must do for it: send the bytes that the
kernel did not take at first, and wait until the descriptor is writable. Everything here runs on
the event loop, except `ConnectionTransport.wake`, which any thread may call.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

from aiowsgi.exchange.output import DrainResult, ResponseOutput, Unfinished
from aiowsgi.exchange.writers import SocketWriter, TransportWriter

if TYPE_CHECKING:
    from aiowsgi.exchange.output_buffer import OutputLimits
    from aiowsgi.threads.wakeups import Wakeups

__all__ = ["ConnectionTransport"]

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: close(2) drops what waits in the kernel and sends RST."""


@final
class ConnectionTransport:
    """One connection's asyncio transport and the output that goes to it."""

    __slots__ = (
        "_attend",
        "_loop",
        "_transport",
        "_wakeups",
        "_watching",
        "eof",
        "output",
        "reading",
        "writer",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        wakeups: Wakeups,
        limits: OutputLimits,
        attend: Callable[[], object],
    ) -> None:
        """``attend`` is the connection's method that looks after its output, on the event loop.

        Raises OSError if no descriptor is left for the duplicate that worker threads send on.
        """
        self._transport = transport
        self._loop = loop
        self._wakeups = wakeups
        self._attend = attend
        # The client has closed its sending side. Set by the connection.
        self.eof = False
        # The transport is reading from the socket.
        self.reading = True
        # The event loop waits for the descriptor to become writable.
        self._watching = False
        self.writer: Final = _make_writer(transport)
        self.output: Final = ResponseOutput(self.writer, self.wake, limits)

    def wake(self) -> None:
        """Have the connection look after its output soon. Any thread may call this."""
        self._wakeups.call(self._attend)

    # Receiving

    def set_reading(self, *, reading: bool) -> None:
        """Read from the socket, or stop reading so that the client has to wait."""
        if reading is not self.reading and not self.eof and not self._transport.is_closing():
            self.reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # Sending what a worker left

    def drain(self) -> None:
        """Send what waits as far as the client reads, and arrange for the rest to be sent."""
        result = self.output.drain()
        if result is DrainResult.BLOCKED:
            self._watch_writable()
        elif result is DrainResult.MORE:
            if not self._watching:
                self._loop.call_soon(self._attend)
        elif result is DrainResult.BROKEN:
            self.reset()
        else:
            self._unwatch_writable()

    def set_writable(self, *, writable: bool) -> None:
        """Note whether the transport's own buffer takes more; only TLS transports say this."""
        if isinstance(self.writer, TransportWriter):
            self.writer.paused = not writable
            if writable:
                self.output.resume()
                self._loop.call_soon(self._attend)

    def _on_writable(self) -> None:
        """The descriptor is writable: the event loop calls this."""
        self.output.resume()
        self._attend()

    def _watch_writable(self) -> None:
        if isinstance(self.writer, SocketWriter) and not self._watching:
            self._watching = True
            self._loop.add_writer(self.writer.fileno(), self._on_writable)

    def _unwatch_writable(self) -> None:
        if isinstance(self.writer, SocketWriter) and self._watching:
            self._watching = False
            self._loop.remove_writer(self.writer.fileno())

    # Closing

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._transport.is_closing()

    def half_close(self) -> None:
        """Close the sending side and keep receiving."""
        self.set_reading(reading=True)
        try:
            self._transport.write_eof()
        except OSError:
            # The client has reset the connection, which the event loop has not noticed yet.
            self._transport.abort()

    def close(self) -> None:
        """Close the connection once the transport has sent what it holds."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def reset(self) -> None:
        """Reset the connection, so that the client does not take a part for the whole response."""
        with suppress(OSError):
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE
            )
        self._transport.abort()

    def lost(self) -> Unfinished:
        """Release everything after the connection is lost; returns the response it cut off."""
        self._unwatch_writable()
        # A method of the connection: without it, no cycle is left for the garbage collector.
        self._attend = bool
        return self.output.close()


def _make_writer(transport: asyncio.Transport) -> SocketWriter | TransportWriter:
    if transport.get_extra_info("ssl_object") is None:
        return SocketWriter(transport.get_extra_info("socket"))
    return TransportWriter(transport)
