"""The two ways for bytes to leave: a socket that any thread may use, or a transport.

A `SocketWriter` owns a duplicate of the connection's descriptor. The transport closes its own when
it likes; the duplicate is closed by its `ResponseOutput` under the lock that guards every use, so
that a worker can never send on a number that the kernel has given to another connection meanwhile.
Where the transport does not read, a worker may receive by the duplicate too.

A `TransportWriter` wraps a transport that transforms what it is given (TLS). It may be used on the
event loop's thread only.

Both raise `BlockingIOError` when nothing more is taken now, and any other `OSError` when the
connection is broken. Neither waits.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Sequence
from typing import Final, Protocol

from aiowsgi.wsgi.file_wrapper import FileRange

__all__ = ["Buffer", "SocketWriter", "TransportWriter", "Writer"]

Buffer = bytes | memoryview

# The descriptor may be one that an embedding program's sockets share settings with, so waiting and
# SIGPIPE are refused per call.
FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
MORE: Final = getattr(socket, "MSG_MORE", 0)

FILE_PIECE: Final = 1024 * 1024
"""Bytes of a file that the kernel is asked to send in one call: it goes on for as long as the
client reads, while others wait for the thread and for the outlet's lock. A guess."""

READ_SIZE: Final = 128 * 1024
"""Bytes of a file read at once where the kernel cannot send it by itself."""


class Writer(Protocol):
    """Where an `ResponseOutput` puts bytes; see the module's docstring for errors and threads."""

    any_thread: bool
    """A worker thread may call the methods, not only the event loop's thread."""

    def send(self, buffers: Sequence[Buffer], *, more: bool = False) -> int:
        """Take bytes from the front of ``buffers``; return how many. ``more`` will follow."""

    def send_file(self, part: FileRange) -> int:
        """Take bytes from the front of ``part``; return how many, 0 where the file ended early."""

    def wait(self, seconds: float) -> bool:
        """Wait until something can be sent, or broken is found; False if it cannot by then."""

    def close(self) -> None:
        """Give back what the port owns."""


class SocketWriter:
    """Sends straight to the kernel, from any thread."""

    __slots__ = ("_socket",)

    any_thread = True

    def __init__(self, transport_socket: socket.socket) -> None:
        """Duplicate the descriptor of ``transport_socket``, which stays its owner's."""
        descriptor = os.dup(transport_socket.fileno())
        try:
            # With all four arguments no system call is made to find out what it is.
            self._socket = socket.socket(
                transport_socket.family, transport_socket.type, transport_socket.proto, descriptor
            )
        except BaseException:
            os.close(descriptor)
            raise

    def fileno(self) -> int:
        """The duplicate's descriptor, to wait on."""
        return self._socket.fileno()

    def send(self, buffers: Sequence[Buffer], *, more: bool = False) -> int:
        """Send with one system call; see `Port`."""
        flags = FLAGS | MORE if more else FLAGS
        if len(buffers) == 1:
            return self._socket.send(buffers[0], flags)
        return self._socket.sendmsg(buffers, (), flags)

    def send_file(self, part: FileRange) -> int:
        """Let the kernel copy from the page cache; see `Port`."""
        size = min(part.size, FILE_PIECE)
        return os.sendfile(self._socket.fileno(), part.descriptor, part.offset, size)

    def receive_into(self, buffer: memoryview) -> int:
        """Fill the front of ``buffer``; 0 at the end. For who knows that nobody else receives."""
        return self._socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)

    def wait(self, seconds: float) -> bool:
        """See `Port`."""
        poll = select.poll()
        poll.register(max(self._socket.fileno(), 0), select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close the duplicate; the connection itself is the transport's to close."""
        self._socket.close()


class TransportWriter:
    """Sends through a transport, on the loop, for as long as that is not congested."""

    __slots__ = ("_transport", "paused")

    any_thread = False

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        # Set by the connection from pause_writing() and resume_writing().
        self.paused = False

    def send(self, buffers: Sequence[Buffer], *, more: bool = False) -> int:  # noqa: ARG002
        """Hand everything to the transport's buffer; see `Port`."""
        self._check()
        self._transport.writelines(buffers)
        return sum(map(len, buffers))

    def send_file(self, part: FileRange) -> int:
        """Read some of the file and hand it to the transport; see `Port`."""
        self._check()
        data = os.pread(part.descriptor, min(part.size, READ_SIZE), part.offset)
        self._transport.write(data)
        return len(data)

    def _check(self) -> None:
        if self.paused:
            raise BlockingIOError
        if self._transport.is_closing():
            raise ConnectionResetError

    def wait(self, seconds: float) -> bool:  # noqa: ARG002
        """See `Port`. The event loop must not wait, and no other thread may come here."""
        return False

    def close(self) -> None:
        """Own nothing, close nothing."""
