"""``wsgi.input``: a request's body, fed by the loop and read by the application's thread.

Three kinds of file object, all with the methods that PEP 3333 names and more, all of the standard
library, so that their behaviour at boundaries is that of every other file:

* a body that is complete when the application starts is a ``BytesIO``;
* one that was spooled to disk (``--request-buffering on``) is a temporary file;
* one that still comes is a ``BufferedReader`` over a `StreamedBody`.

A `StreamedBody` ends with the body (``wsgi.input_terminated``), or raises `RequestBodyError` or
`ClientDisconnected`, again at every call: what was cut short never looks like the end.

Backpressure is two callables: the loop asks ``feed`` whether to stop reading from the socket, and
is called back by the reader when it should go on.

While the loop has stopped, the reading thread may take from the socket itself what the kernel has,
without a wait, a wake-up or a copy in between (`StreamedBody.lend`): as with sending, waiting is
the loop's. Measured, 8 MiB in blocks of 64 KiB: twice as fast or more. The right to receive is one,
and passes with the lock held: the loop gives it away when it holds nothing that comes before; the
thread gives it back when the kernel has nothing more, when the body is whole, or when anything is
wrong with the connection, which the loop will then find by itself; and `StreamedBody.end` takes it.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from math import inf
from threading import Condition, Lock
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "BUFFER_SIZE",
    "HIGH_WATER",
    "PLENTY",
    "RECEIVE_SIZE",
    "StreamedBody",
    "open_stream",
]

HIGH_WATER: Final = 1024 * 1024
"""Bytes waiting for the application above which the socket is no longer read: four times what
uvloop reads at once, so that a fast upload does not stop and go with every block."""

PLENTY: Final = 128 * 1024
"""The same, where the reading thread may then go on by itself: half of what the loop reads at once
from a client that is fast."""

BUFFER_SIZE: Final = 64 * 1024
"""Size of the buffer from which short reads and lines are served."""

RECEIVE_SIZE: Final = 256 * 1024
"""The same, where the reading thread receives. Each call has it let go of the interpreter, which
costs more than to copy once more: with 64 KiB an upload was measured to cost a third more."""


class StreamedBody(io.RawIOBase):
    """The reading end of a body that is still coming. The loop calls the methods that feed it."""

    def __init__(self, resume: Callable[[], object], high_water: int = HIGH_WATER) -> None:
        """``resume`` is called, from the reading thread, when `feed` has asked for a pause, as it
        does above ``high_water`` bytes, and three quarters of that have been read."""
        self._high_water = high_water
        self._lock = Lock()
        self._arrived = Condition(self._lock)
        self._blocks: deque[bytes | memoryview] = deque()
        # Bytes in the blocks.
        self._size = 0
        # No more will come; `_error` says whether that is the body's end.
        self._ended = False
        self._error: OSError | None = None
        # `feed` has asked the loop to pause, and not all that much has been read since.
        self._paused = False
        # Called once by the reading thread, before it first waits (100-continue); None afterwards.
        self._ask: Callable[[], object] | None = None
        self._resume = resume
        # Receives from the socket, while the right to do so is the reading thread's; how many bytes
        # of the body it may take, and how many it has taken since the loop asked last.
        self._receive: Callable[[memoryview], int] | None = None
        self._lent = 0
        self._taken = 0
        # Since when it is the client that is waited for, monotonic seconds: the last bytes came, or
        # room was made for more. ``inf`` while nothing is expected of the client. Read by the loop
        # without the lock: a float, once too old by one read.
        self.hungry_since = monotonic()

    def ask_first(self, ask: Callable[[], object]) -> None:
        """The client sends nothing before ``ask`` is called, which is done by the reading thread
        once it would have to wait. To be said before anything else happens."""
        self._ask = ask
        if not self._size:
            self.hungry_since = inf

    # The loop's side

    def feed(self, data: bytes) -> bool:
        """Add ``data``; returns whether the loop should stop reading from the socket."""
        with self._lock:
            self._blocks.append(data)
            self._size += len(data)
            # Sticky: who has asked for a pause has to call for the end of it.
            self._paused = self._paused or self._size > self._high_water
            self.hungry_since = inf if self._paused else monotonic()
            self._arrived.notify()
            return self._paused

    def lend(self, receive: Callable[[memoryview], int], size: int) -> None:
        """Let the reading thread receive the next ``size`` bytes, which complete the body.

        `feed` must have asked for a pause, and the loop must not read the socket until it is
        called. ``receive`` fills a buffer without a wait, as ``recv_into`` does.
        """
        with self._lock:
            # Not where all that was fed has been read meanwhile: the loop is to go on.
            if self._paused:
                self._receive, self._lent = receive, size

    def returned(self) -> int:
        """How many bytes the reading thread has received, once it does so no more; then 0."""
        with self._lock:
            if self._receive is not None:
                return 0
            taken, self._taken = self._taken, 0
            return taken

    def end(self, error: OSError | None = None) -> None:
        """There is no more: the body is whole, or ``error`` says why it never will be."""
        with self._lock:
            self._receive = None
            if not self._ended:
                self._ended = True
                self._error = error
                self.hungry_since = inf
                self._arrived.notify()

    @property
    def whole(self) -> bool:
        """All of the body has come."""
        with self._lock:
            return self._ended and self._error is None

    @property
    def hungry(self) -> bool:
        """The application could take more: it is the client that is waited for."""
        return self.hungry_since < inf

    # The application's side

    def readable(self) -> bool:
        """Whether it can be read, which it can; for the ``io`` module."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read at least one byte into ``buffer``, unless that is the end; waits for the client."""
        view = memoryview(buffer).cast("B")
        if received := self._receive_into(view):
            return received
        with self._lock:
            self._wait()
            if not self._blocks:
                return 0
            filled = 0
            while self._blocks and filled < len(view):
                block = memoryview(self._blocks[0])
                count = min(len(block), len(view) - filled)
                view[filled : filled + count] = block[:count]
                filled += count
                if count == len(block):
                    self._blocks.popleft()
                else:
                    self._blocks[0] = block[count:]
            resume = self._take(filled)
        if resume:
            self._resume()
        return filled

    def readall(self) -> bytes:
        """Read to the end."""
        parts: list[bytes | memoryview] = []
        while True:
            while received := self._receive_into(memoryview(block := bytearray(RECEIVE_SIZE))):
                parts.append(memoryview(block)[:received])
            with self._lock:
                self._wait()
                parts.extend(self._blocks)
                self._blocks.clear()
                size = self._size
                resume = self._take(size)
            if resume:
                self._resume()
            if not size:
                return b"".join(parts)

    def _wait(self) -> None:
        """Wait, under the lock, for bytes or the end; raises the error that ended the body."""
        if self._ask is not None and not self._blocks and not self._ended:
            ask, self._ask = self._ask, None
            self.hungry_since = monotonic()
            self._lock.release()
            try:
                ask()
            finally:
                self._lock.acquire()
        while not self._blocks and not self._ended:
            self._arrived.wait()
        if self._error is not None:
            # An error goes before what came ahead of it: a whole body cannot be had any more.
            raise self._error

    def _take(self, count: int) -> bool:
        """Note that ``count`` bytes were read; returns whether to call `_resume`."""
        self._size -= count
        if self._receive is None and self._paused and self._size <= self._high_water // 4:
            self._go_on()
            return True
        return False

    def _go_on(self) -> None:
        """The loop is to read on."""
        self._paused = False
        if not self._ended:
            self.hungry_since = monotonic()

    def _receive_into(self, view: memoryview) -> int:
        """Take from the socket what it has for ``view``, where that is ours to do and the turn has
        come; 0 where not."""
        with self._lock:
            if self._receive is None or self._blocks:
                return 0
            try:
                received = self._receive(view[: self._lent])
            except OSError:
                received = 0
            self._taken += received
            self._lent -= received
            if received and self._lent:
                return received
            self._receive = None
            self._ended = self._lent == 0
            self._go_on()
        self._resume()
        return received


def open_stream(body: StreamedBody, buffer_size: int = BUFFER_SIZE) -> io.BufferedReader:
    """``wsgi.input`` for a body that is still coming."""
    return io.BufferedReader(body, buffer_size)
