"""Writing to a client: through a socket that any thread may use, or through a transport (TLS).

A `SocketWriter` owns a duplicate of the connection's descriptor. The transport closes its own
descriptor at any time; the duplicate is closed by the `ResponseOutput` under the lock that guards
every use. So a worker thread can never send on a number that the kernel has meanwhile given to
another connection. While the transport does not read, a worker thread may receive on the duplicate.

A `TransportWriter` wraps a transport that transforms its input (TLS). It may be used on the event
loop only.

Both raise `BlockingIOError` if nothing can be taken now, and another `OSError` if the connection is
broken. Neither waits, except in `Writer.wait`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from aiowsgi.wsgi.file_wrapper import FileRange

__all__ = ["Buffer", "SocketWriter", "TransportWriter", "Writer"]

Buffer = bytes | memoryview

# Flags of each call, since the duplicate shares the descriptor's own settings with the transport.
FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
MORE: Final = getattr(socket, "MSG_MORE", 0)

FILE_PIECE: Final = 1024 * 1024
"""Bytes of a file that the kernel is asked to send in one call: it goes on for as long as the
client reads, while the thread and the output's lock are in use. A guess."""

READ_SIZE: Final = 128 * 1024
"""Bytes of a file that are read at once if the kernel cannot send it by itself."""


_NO_SENDFILE: Final = frozenset(
    (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)
)
"""Errors of sendfile(2) with file systems that do not support it (FUSE, overlays), and with seccomp
filters of containers; the file is read and sent instead."""


class Writer(Protocol):
    """Takes the bytes of a `ResponseOutput`; the module's docstring says what it raises."""

    any_thread: bool
    """Whether any thread may call the methods, and not only the event loop's."""

    def send(self, buffers: Sequence[Buffer], *, more: bool = False) -> int:
        """Take bytes from the front of ``buffers``; return how many.

        ``more`` says that other bytes follow at once.
        """

    def send_file(self, part: FileRange) -> int:
        """Take bytes from the front of ``part``; return how many, 0 if the file has ended."""

    @property
    def unsent(self) -> int:
        """Bytes that were taken and that the kernel has not got yet. On the event loop only."""

    def wait(self, seconds: float) -> bool:
        """Wait until something can be sent or an error is found; return False after that time."""

    def close(self) -> None:
        """Close what the writer owns."""


class SocketWriter:
    """Sends to the kernel directly, from any thread."""

    __slots__ = ("_socket",)

    any_thread = True

    def __init__(self, transport_socket: socket.socket) -> None:
        """Duplicate the descriptor of ``transport_socket``; raises OSError if none is left."""
        descriptor = os.dup(transport_socket.fileno())
        try:
            # With all four arguments, no system calls are made to find out the first three.
            self._socket = socket.socket(
                transport_socket.family, transport_socket.type, transport_socket.proto, descriptor
            )
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def unsent(self) -> int:
        """Nothing: every byte that is taken goes to the kernel."""
        return 0

    def fileno(self) -> int:
        """The duplicate's descriptor, to wait on."""
        return self._socket.fileno()

    def send(self, buffers: Sequence[Buffer], *, more: bool = False) -> int:
        """Send with one system call; see `Writer`."""
        flags = FLAGS | MORE if more else FLAGS
        if len(buffers) == 1:
            return self._socket.send(buffers[0], flags)
        return self._socket.sendmsg(buffers, (), flags)

    def send_file(self, part: FileRange) -> int:
        """Have the kernel copy from the page cache; see `Writer`."""
        size = min(part.size, FILE_PIECE)
        try:
            return os.sendfile(self._socket.fileno(), part.descriptor, part.offset, size)
        except OSError as error:
            if error.errno not in _NO_SENDFILE:
                raise
        data = os.pread(part.descriptor, min(size, READ_SIZE), part.offset)
        return self._socket.send(data, FLAGS) if data else 0

    def receive_into(self, buffer: memoryview) -> int:
        """Fill the front of ``buffer``; return 0 at the end of input.

        The caller must know that no other thread, nor the transport, receives.
        """
        return self._socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)

    def duplicate(self) -> socket.socket:
        """A further descriptor of the connection, for an application that takes it over."""
        return self._socket.dup()

    def shut_down(self, how: int) -> None:
        """See shutdown(2): it holds for all descriptors of the connection."""
        with suppress(OSError):
            self._socket.shutdown(how)

    def set_non_blocking(self) -> None:
        """Undo what a thread that had the connection may have set, for all descriptors of it."""
        with suppress(OSError):
            self._socket.setblocking(False)  # noqa: FBT003 - positional only

    def wait(self, seconds: float) -> bool:
        """See `Writer`."""
        poll = select.poll()
        poll.register(max(self._socket.fileno(), 0), select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close the duplicate; the transport closes the connection."""
        self._socket.close()


class TransportWriter:
    """Sends through a transport, on the event loop, until its buffer is full."""

    __slots__ = ("_transport", "paused")

    any_thread = False

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        # The transport's buffer is full. Set by the connection, from pause_writing() and
        # resume_writing().
        self.paused = False

    def send(self, buffers: Sequence[Buffer], *, more: bool = False) -> int:  # noqa: ARG002
        """Hand everything to the transport's buffer; see `Writer`."""
        self._check()
        self._transport.writelines(buffers)
        return sum(map(len, buffers))

    def send_file(self, part: FileRange) -> int:
        """Read some of the file and hand it to the transport; see `Writer`."""
        self._check()
        data = os.pread(part.descriptor, min(part.size, READ_SIZE), part.offset)
        self._transport.write(data)
        return len(data)

    def _check(self) -> None:
        if self.paused:
            raise BlockingIOError
        if self._transport.is_closing():
            raise ConnectionResetError

    @property
    def unsent(self) -> int:
        """Bytes in the transport's buffer."""
        return self._transport.get_write_buffer_size()

    def wait(self, seconds: float) -> bool:  # noqa: ARG002
        """Return False: the event loop must not wait, and no other thread may call this."""
        return False

    def close(self) -> None:
        """Do nothing: the transport is the connection's."""
