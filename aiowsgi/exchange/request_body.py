"""``wsgi.input``: a request's body, fed by the event loop and read by the application's thread.

There are three kinds of file object. All have the methods that PEP 3333 names and more, and are
made of the standard library's classes, so that they behave like every other file:

* a body that is complete when the application starts is a ``BytesIO``;
* a body that was collected on disk is a temporary file;
* a body that still comes is a ``BufferedReader`` over a `StreamedBody`.

A `StreamedBody` ends with the body (``wsgi.input_terminated``), or raises `RequestBodyError` or
`ClientDisconnected`, again at each call: a body that was cut short never looks complete.

Backpressure is two callables: `StreamedBody.feed` tells the event loop whether to stop reading from
the socket, and the reading thread calls ``resume`` when the loop should go on.

While the event loop does not read, the reading thread may receive from the socket by itself what
the kernel has, without a wait, a wake-up or another copy (`StreamedBody.receive_directly`). As with
sending, only the loop waits. Measured with 8 MiB in blocks of 64 KiB: at least twice as fast. At
every moment one of the two threads has the right to receive, and it passes from one to the other
under the lock. The loop gives it away when it holds no bytes that come before. The reading thread
gives it back when the kernel has no more, when the body is complete, and after any error of the
connection, which the loop will then meet itself. `StreamedBody.end` takes it back.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from copy import copy
from math import inf
from threading import Condition, Lock
from time import monotonic
from typing import TYPE_CHECKING, Final

from aiowsgi.exchange.interrupts import outside_application
from aiowsgi.exchange.memory_budget import MemoryBudget

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "BUFFER_SIZE",
    "DIRECT_BUFFER_SIZE",
    "DIRECT_HIGH_WATER",
    "HIGH_WATER",
    "StreamedBody",
    "open_stream",
]

HIGH_WATER: Final = 1024 * 1024
"""Bytes that wait for the application above which the event loop stops reading from the socket:
four times what uvloop reads at once, so that a fast upload does not stop and go with each block."""

DIRECT_HIGH_WATER: Final = 128 * 1024
"""The same if the reading thread may then receive by itself: half of what the event loop reads at
once from a fast client."""

BUFFER_SIZE: Final = 64 * 1024
"""Size of the buffer from which short reads and lines are served."""

DIRECT_BUFFER_SIZE: Final = 256 * 1024
"""The same if the reading thread may receive by itself. Each call releases the interpreter's lock,
which costs more than another copy: with 64 KiB an upload took a third more processor time."""


NO_BUDGET: Final = MemoryBudget()
"""A budget without a limit; used for streams that are closed."""


class StreamedBody(io.RawIOBase):
    """A body that still comes: the event loop feeds it, the application's thread reads it."""

    def __init__(
        self,
        resume: Callable[[], object],
        high_water: int = HIGH_WATER,
        budget: MemoryBudget = NO_BUDGET,
    ) -> None:
        """`feed` asks for a pause above ``high_water`` bytes; the reading thread calls ``resume``
        when three quarters of them have been read. What has come and was not read counts in
        ``budget`` until the stream is closed."""
        self._high_water = high_water
        self._budget = budget
        self._lock = Lock()
        self._arrived = Condition(self._lock)
        self._blocks: deque[bytes | memoryview] = deque()
        # Bytes in the blocks.
        self._size = 0
        # No more will come.
        self._ended = False
        # Why the body ended before it was complete; None if it was complete, or has not ended.
        self._error: OSError | None = None
        # `feed` has asked the loop to pause, and the reading thread has not called `_resume` since.
        self._paused = False
        # Called once by the reading thread, before it first waits (100-continue); None afterwards.
        self._ask: Callable[[], object] | None = None
        self._resume = resume
        # Receives from the socket; None while the right to receive is the event loop's.
        self._receive: Callable[[memoryview], int] | None = None
        # Bytes of the body that the reading thread may still receive by itself.
        self._may_receive = 0
        # Bytes that it has received since the loop asked last.
        self._received = 0
        # Since when the client is expected to send, monotonic seconds: the last bytes came, or
        # reading was resumed. ``inf`` while nothing is expected of the client. Read by the event
        # loop without the lock: a float, which may be too old by one read.
        self.waiting_since = monotonic()

    def ask_first(self, ask: Callable[[], object]) -> None:
        """Have the reading thread call ``ask`` before it first waits: the client sends nothing
        before that. Call this before anything else."""
        if self._ended:
            return
        self._ask = ask
        if not self._size:
            self.waiting_since = inf

    # The event loop

    def feed(self, data: bytes) -> bool:
        """Add ``data``; returns whether the event loop should stop reading from the socket."""
        with self._lock:
            self._blocks.append(data)
            self._size += len(data)
            self._budget.add(len(data))
            # It stays set until the reading thread calls `_resume`.
            self._paused = self._paused or self._size > self._high_water
            self.waiting_since = inf if self._paused else monotonic()
            self._arrived.notify()
            return self._paused

    def receive_directly(self, receive: Callable[[memoryview], int], size: int) -> None:
        """Let the reading thread receive the next ``size`` bytes, which complete the body.

        `feed` must have asked for a pause, and the loop must not read the socket before ``resume``
        is called. ``receive`` fills a buffer without waiting, as ``recv_into`` does.
        """
        with self._lock:
            # If everything that was fed has been read meanwhile, the loop goes on.
            if self._paused:
                self._receive, self._may_receive = receive, size

    def take_received(self) -> int:
        """How many bytes the reading thread has received by itself, once the right to receive is
        the event loop's again; 0 before, and when asked again."""
        with self._lock:
            if self._receive is not None:
                return 0
            received, self._received = self._received, 0
            return received

    def end(self, error: OSError | None = None) -> None:
        """No more will come: the body is complete, or ``error`` says why it never will be."""
        with self._lock:
            self._receive = None
            # A method of the exchange that has the stream: a cycle for the garbage collector. It is
            # released after the lock, as it may be the last reference and closes the stream then.
            ask, self._ask = self._ask, None
            if not self._ended:
                self._ended = True
                self._error = error
                self.waiting_since = inf
                self._arrived.notify()
        del ask

    @property
    def whole(self) -> bool:
        """Whether all of the body has come."""
        with self._lock:
            return self._ended and self._error is None

    @property
    def waits_for_client(self) -> bool:
        """Whether the client is expected to send: there is space for more."""
        return self.waiting_since < inf

    # The application's thread

    def close(self) -> None:
        """Release what was not read from the memory budget. Idempotent."""
        with outside_application(), self._lock:
            self._budget.add(-self._size)
            self._budget = NO_BUDGET
        super().close()

    def readable(self) -> bool:
        """Return True; for the ``io`` module."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read at least one byte into ``buffer``, or none at the end; waits for the client."""
        with outside_application():
            return self._read_into(memoryview(buffer).cast("B"))

    def _read_into(self, view: memoryview) -> int:
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
        """Read to the end; waits for the client."""
        with outside_application():
            return self._read_all()

    def _read_all(self) -> bytes:
        parts: list[bytes | memoryview] = []
        while True:
            while received := self._receive_into(
                memoryview(block := bytearray(DIRECT_BUFFER_SIZE))
            ):
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
            self.waiting_since = monotonic()
            self._lock.release()
            try:
                ask()
            finally:
                self._lock.acquire()
        while not self._blocks and not self._ended:
            self._arrived.wait()
        if self._error is not None:
            # Before the bytes that came ahead of the error: the body cannot become complete.
            # A copy: the traceback of what is raised refers to this object, which would be a cycle.
            raise copy(self._error)

    def _take(self, count: int) -> bool:
        """Note that ``count`` bytes were read; returns whether to call ``resume``."""
        self._size -= count
        self._budget.add(-count)
        if self._receive is None and self._paused and self._size <= self._high_water // 4:
            self._go_on()
            return True
        return False

    def _go_on(self) -> None:
        """The event loop is to read from the socket again."""
        self._paused = False
        if not self._ended:
            self.waiting_since = monotonic()

    def _receive_into(self, view: memoryview) -> int:
        """Receive from the socket what the kernel has; 0 if that is the event loop's to do, if
        bytes that come before are not read yet, and if there is nothing."""
        with self._lock:
            if self._receive is None or self._blocks:
                return 0
            try:
                received = self._receive(view[: self._may_receive])
            except OSError:
                received = 0
            self._received += received
            self._may_receive -= received
            if received and self._may_receive:
                return received
            self._receive = None
            self._ended = self._may_receive == 0
            self._go_on()
        self._resume()
        return received


def open_stream(body: StreamedBody, buffer_size: int = BUFFER_SIZE) -> io.BufferedReader:
    """``wsgi.input`` for a body that is still coming."""
    return io.BufferedReader(body, buffer_size)
