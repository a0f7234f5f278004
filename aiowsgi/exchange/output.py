"""The sending side of one connection: everything that a client is sent passes through here.

Guarantees:

1. Bytes leave in the order in which they were given. A response counts as finished when the kernel
   has taken its last byte, and the next one cannot begin earlier.
2. Only the exchange that the output is assigned to can send. An exchange that was cancelled, or
   whose client has gone, gets `ClientDisconnected`.
3. A worker thread waits for the client only while the application has more to send, and then only
   while both the memory buffer and the spool are full. There is one exception: a response may wait
   for `FAST_CLIENT_WAIT` seconds in all, as long as its client reads something every
   `FAST_CLIENT_PROGRESS` seconds. The thread stops waiting when there is space, or when the
   connection is closed; the event loop closes connections that make no progress.
4. The event loop never waits: its own responses are kept in memory, whatever the limits are.
5. After the kernel has refused a byte, nothing is read from the spool and the event loop is not
   woken until the writer can take more (`ResponseOutput.resume`).

Properties relied upon: every attribute is read and written under ``_lock``, except those whose
comment says otherwise. A send never waits, so the lock is held for one system call at most. One
exchange at a time sends, hence one worker thread.

The states of an output, and what each call does in them. A call by an exchange that is not the
owner is treated as in FREE.

=========  ============  =========  ==================  ==========  =============  =========  ======
state      assign        start      send, send_file     abort       cancel         drained    close
=========  ============  =========  ==================  ==========  =============  =========  ======
FREE       QUEUED        refused    ClientDisconnected  ignored     refused        FREE       CLOSED
QUEUED     RuntimeError  SENDING    ClientDisconnected  BROKEN      FREE           QUEUED     CLOSED
SENDING    RuntimeError  refused    SENDING, or when    BROKEN      FREE, refused  SENDING    CLOSED
                                    last FLUSHING/FREE              if only_queued
FLUSHING   RuntimeError  refused    ClientDisconnected  ignored     refused        FREE       CLOSED
UPGRADED   RuntimeError  refused    ClientDisconnected  FREE        refused        UPGRADED   CLOSED
BROKEN     ignored       refused    ClientDisconnected  ignored     refused        BROKEN     CLOSED
CLOSED     ignored       refused    ClientDisconnected  ignored     refused        CLOSED     CLOSED
=========  ============  =========  ==================  ==========  =============  =========  ======

`ResponseOutput.take` leads from SENDING to UPGRADED: the application has the connection's socket,
and nothing is sent through the output any more. Its end is an abort by the owner, after which the
connection must close.

An error of a send, by either thread, leads from any state to BROKEN. The event loop's own responses
(`ResponseOutput.answer`) begin in FREE, without an owner, and lead to FREE or FLUSHING; in BROKEN
and CLOSED they raise `ClientDisconnected`, in the others RuntimeError.

The races, and why each is harmless:

* *The worker thread finishes while the event loop receives the next request.* If the finish comes
  first, `in_use` tells the loop that the output is free. If the loop comes first, `in_use` leaves a
  note, and the worker thread that finishes wakes the loop.
* *The worker thread sends while the event loop closes.* The writer's descriptor is closed under the
  lock. A send comes before that, or finds the state CLOSED.
* *The event loop drains while the worker thread moves the memory buffer to disk.* The worker takes
  the blocks out of the buffer under the lock, writes them to the spool without the lock, and then
  makes them visible under the lock. A drain in between finds nothing to send and stops; the worker
  wakes the loop afterwards. No direct send can come in between, as the same worker would do it.
* *The event loop cancels an exchange whose thread has sent a part of an interim response.* The
  thread notes under the lock that it has the rest (``_in_transit``), and the event loop's own
  response then breaks the connection instead of following a part of a message.
* *The connection closes while the worker thread writes to the spool.* The close leaves the file
  open, and the worker closes it when it takes the lock again.
* *The worker thread buffers a block and does not wake the event loop.* Either the loop was woken
  before and has not drained yet (``_drain_due``, which the drain clears before it sends), or it
  waits for the descriptor (``_blocked``, which is set under the lock by the drain that makes it
  wait, and cleared by the loop when the descriptor is writable). The worker reads both after it has
  buffered the block, so a drain that did not see the block has cleared the flags before.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from enum import Enum
from threading import Condition, Lock
from time import monotonic
from typing import Any, Final, NamedTuple, final

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange.output_buffer import OutputBuffer, OutputLimits, Spool
from aiowsgi.exchange.writers import Buffer, SocketWriter, Writer
from aiowsgi.wsgi.file_wrapper import FileRange

__all__ = ["DrainResult", "OutputState", "ResponseOutput", "Unfinished"]

logger = logging.getLogger("aiowsgi.server")

FAST_CLIENT_WAIT: Final = 0.1
"""Seconds for which, in all, the thread of one response may wait for a client that reads fast. A
guess: tens of megabytes on a local network, and little of a thread's time if the client is slow."""

FAST_CLIENT_PROGRESS: Final = 0.02
"""Seconds within which such a client reads something. A guess: several times what it takes to wake
a process on a busy machine."""

UNSPOOLED_BLOCK: Final = 64 * 1024
"""Bytes that are buffered at a time if there is no spool to take more."""

DRAIN_BUDGET: Final = 1024 * 1024
"""Bytes after which a drain lets the event loop serve the other connections. A guess."""

CLIENT_GONE: Final = "the client has closed the connection"


class OutputState(Enum):
    """The states of a `ResponseOutput`; see the table in the module's docstring."""

    FREE = "free"
    """There is no owner: the next response may be assigned."""
    QUEUED = "queued"
    """The owner waits for a worker thread."""
    SENDING = "sending"
    """A worker thread has started on the owner, which may send."""
    FLUSHING = "flushing"
    """The response is complete, and its last bytes wait for the client to read."""
    UPGRADED = "upgraded"
    """The application has taken the connection over."""
    BROKEN = "broken"
    """Nothing can be sent any more: the event loop must abort the connection."""
    CLOSED = "closed"
    """The connection is gone."""


# Looking a member up on its enum costs as much as a call in Python 3.11, hence names of our own.
_FREE, _QUEUED, _SENDING, _FLUSHING, _UPGRADED, _BROKEN, _CLOSED = OutputState


class DrainResult(Enum):
    """What a drain ended with."""

    EMPTY = "empty"
    """Nothing waits; the response may go on."""
    FINISHED = "finished"
    """Nothing waits, and that was the end of the response."""
    BLOCKED = "blocked"
    """The client reads slowly: call `ResponseOutput.resume`, and drain again, when the writer can
    take more."""
    MORE = "more"
    """There is more to send at once, after the other connections were served."""
    BROKEN = "broken"
    """Nothing can be sent any more: abort the connection."""


class Unfinished(NamedTuple):
    """The response that a close has cut off."""

    owner: Any
    """The owner of the output; None if there was none."""
    started: bool
    """A worker thread had started on the owner."""


@final
class ResponseOutput:
    """The sending side of a connection; see the module's docstring."""

    __slots__ = (
        "_blocked",
        "_broken_early",
        "_buffer",
        "_cut_off",
        "_drain_due",
        "_in_transit",
        "_limits",
        "_lock",
        "_notify",
        "_owner",
        "_space",
        "_state",
        "_unsent",
        "_wait_left",
        "_wake",
        "_writer",
        "finished_at",
        "hand_over",
        "must_close",
        "progress_at",
    )

    def __init__(self, writer: Writer, wake: Callable[[], object], limits: OutputLimits) -> None:
        """``wake`` has the event loop drain; it may be called from any thread."""
        self._lock = Lock()
        self._writer = writer
        self._wake = wake
        self._limits = limits
        # Read by `in_use` and written by `assign` without the lock; see there.
        self._state = _FREE
        # The exchange that may send. Set by the loop; cleared by the thread that sends the last
        # byte, and by `cancel` and `close`.
        self._owner: object = None
        # The loop asked to be woken when the owner's response is finished.
        self._notify = False
        # The writer took no more when it was last drained, and the loop waits until it can. Set by
        # `drain`, cleared by `resume`.
        self._blocked = False
        # The loop was woken to drain and has not done so yet. Set without the lock, after something
        # was buffered; cleared by `drain`.
        self._drain_due = False
        # The owner's thread has bytes that are neither sent nor buffered. Set under the lock, and
        # cleared without it, by that thread.
        self._in_transit = False
        # An exchange was cancelled while its thread had such bytes: what the client has received
        # may end in the middle of an interim response.
        self._cut_off = False
        # The output broke while the owner waited for a thread, so that no thread starts on it.
        self._broken_early = False
        # Seconds that the owner's thread may still wait for a client that reads fast.
        self._wait_left = 0.0
        # What the writer has not taken yet; None if it has taken all of the present response.
        self._buffer: OutputBuffer | None = None
        # On which the worker thread waits for space in the buffer; made when first needed.
        self._space: Condition | None = None
        # The response that was sent last ends the connection. Read it once that is finished.
        self.must_close = False
        # What the loop calls, with the bytes that it has received, when the connection was taken
        # over. Set by the worker thread; read by the loop without the lock, after it was woken.
        self.hand_over: Callable[[bytes], object] | None = None
        # When the last response was finished, monotonic seconds; 0.0 before. Read by the loop
        # without the lock.
        self.finished_at = 0.0
        # When bytes began to wait, or when the client last took some of them; monotonic seconds.
        # Read by the loop without the lock: a float, which may be too old by one send.
        self.progress_at = 0.0
        # Bytes that a transport held at the last `check_progress`. Used by the loop alone.
        self._unsent = 0

    # The event loop: assigning the output

    def assign(self, owner: object, *, notify: bool = False) -> None:
        """Let ``owner`` send once its worker thread starts; ``notify`` has its finish wake the
        loop.

        Raises RuntimeError if another response is not finished. It takes no lock: no other thread
        changes the state of a free output, and handing ``owner`` to a thread publishes it.
        """
        if self._state is not _FREE:
            if self._state is _BROKEN or self._state is _CLOSED:
                return
            raise RuntimeError("the response before is not finished")
        self._owner = owner
        self._notify = notify
        self._wait_left = FAST_CLIENT_WAIT
        self._state = _QUEUED

    def in_use(self) -> bool:
        """Whether a response is still being sent; if so, its end will wake the loop."""
        # Without the lock, as setting this state is the last thing that a finish does.
        if self._state is _FREE:
            return False
        with self._lock:
            if self._state is _FREE or self._state is _CLOSED:
                return False
            self._notify = True
            return True

    @property
    def any_thread(self) -> bool:
        """Whether worker threads send by themselves, on a socket that is not encrypted."""
        return self._writer.any_thread

    @property
    def owner(self) -> object:
        """The exchange that the output is assigned to, or None."""
        with self._lock:
            return self._owner

    @property
    def state(self) -> OutputState:
        """The present state, which a worker thread may change at any moment."""
        with self._lock:
            return self._state

    @property
    def pending(self) -> bool:
        """Whether bytes wait for the client to read."""
        with self._lock:
            return bool(self._buffer) or self._state is _FLUSHING

    def check_progress(self) -> None:
        """Notice that the client read some of the bytes that a transport holds. On the event loop.

        What is sent by a socket is noticed when it is sent.
        """
        unsent = self._writer.unsent
        if unsent < self._unsent:
            self.progress_at = monotonic()
        self._unsent = unsent

    def cancel(self, owner: object, *, only_queued: bool) -> bool:
        """Take the output from ``owner``; False if its response is complete or broken already.

        With ``only_queued`` it is taken only from an exchange that still waits for a thread.
        """
        with self._lock:
            if self._owner is not owner or not (
                self._state is _QUEUED or (self._state is _SENDING and not only_queued)
            ):
                return False
            self._owner = None
            self._cut_off = self._in_transit
            self._wake_worker()
            self._state = _FREE
            return True

    # The event loop: sending by itself

    def answer(self, data: bytes, *, close: bool) -> None:
        """Send a whole response of the event loop's own; never waits.

        `in_use` says afterwards whether it is finished. ``close`` then ends the connection. Raises
        `ClientDisconnected` if nothing can be sent any more, and RuntimeError if another response
        is not finished.
        """
        with self._lock:
            self._send_from_loop(data)
            self.must_close = close
            if self._buffer:
                self._state = _FLUSHING
            else:
                self._finish()

    def send_interim(self, data: bytes) -> None:
        """Send an interim response (1xx) of the event loop's own; as `answer`."""
        with self._lock:
            self._send_from_loop(data)

    def _send_from_loop(self, data: bytes) -> None:
        if self._state is not _FREE:
            if self._state is _BROKEN or self._state is _CLOSED:
                raise ClientDisconnected(CLIENT_GONE)
            raise RuntimeError("the response before is not finished")
        # Behind interim responses on disk, these bytes would have to be written there too.
        if self._cut_off or (self._buffer is not None and self._buffer.spooled):
            raise self._break(OSError("an interim response was cut off"))
        rest = self._send_now((data,))
        if rest:
            buffer = self._open_buffer()
            for block in rest:
                buffer.append(block)
            self._wake_to_drain()

    # The worker thread

    def start(self, owner: object) -> bool:
        """A worker thread starts on ``owner``; returns False if the output was taken from it."""
        # Not `with`, here and in `send`: every request passes here, and this is twice as fast.
        self._lock.acquire()
        try:
            if self._owner is not owner or self._state is not _QUEUED:
                return False
            self._state = _SENDING
            return True
        finally:
            self._lock.release()

    def send(
        self, owner: object, buffers: tuple[Buffer, ...], *, last: bool, close: bool = False
    ) -> None:
        """Send ``buffers``; keep what the kernel does not take.

        ``last`` ends the owner's response and frees the output; ``close`` then has the event loop
        end the connection. Raises `ClientDisconnected` if nothing can be sent any more.
        """
        wake = False
        self._lock.acquire()
        try:
            if self._state is not _SENDING or self._owner is not owner:
                raise ClientDisconnected(CLIENT_GONE)
            rest = self._send_now(buffers) if buffers else ()
            if last:
                self.must_close = close
            if rest:
                self._in_transit = True
            elif last:
                if self._buffer:
                    self._state = _FLUSHING
                else:
                    wake = self._finish()
        finally:
            self._lock.release()
        if rest:
            self._send_rest(owner, rest, last=last)
        elif wake:
            self._wake()

    def send_file(self, owner: object, head: bytes, part: FileRange, *, close: bool) -> None:
        """Send ``head`` and a part of a file, which ends the owner's response; never waits.

        What the kernel does not take now is sent later, from a duplicate of the descriptor. Raises
        `ClientDisconnected` if nothing can be sent any more.
        """
        with self._lock:
            self._check(owner)
            rest = self._send_now((head,), more=part.size > 0)
            if not rest:
                part = self._send_file_now(part)
            self.must_close = close
            finished = not rest and not part.size
            if finished:
                wake = self._finish()
            else:
                self._buffer_file(rest, part)
                self._state = _FLUSHING
        if not finished:
            self._wake_to_drain()
        elif wake:
            self._wake()

    def receive_into(self, buffer: memoryview) -> int:
        """Receive from the socket, if any thread may use it; see `StreamedBody.lend`.

        It belongs here because the descriptor may be used under the lock only. Raises
        `ClientDisconnected` once that is closed, and what the writer raises.
        """
        with self._lock:
            if self._state is _CLOSED or not isinstance(self._writer, SocketWriter):
                raise ClientDisconnected(CLIENT_GONE)
            return self._writer.receive_into(buffer)

    def take(self, owner: object, hand_over: Callable[[bytes], object]) -> socket.socket:
        """Take the connection over for the owner; returns a duplicate of its socket.

        ``hand_over`` is called by the event loop once that reads no more, or if the connection is
        lost before; its argument are the bytes that were received and not used.

        Raises `ClientDisconnected` if the owner cannot send, or has sent something that waits.
        """
        with self._lock:
            self._check(owner)
            if self._buffer or not isinstance(self._writer, SocketWriter):
                raise ClientDisconnected("the connection cannot be taken over")
            duplicate = self._writer.duplicate()
            self.hand_over = hand_over
            self._state = _UPGRADED
        self._wake()
        return duplicate

    def end_input(self) -> None:
        """Have the application that has the connection find the end of its input."""
        with self._lock:
            if self._state is _UPGRADED and isinstance(self._writer, SocketWriter):
                self._writer.shut_down(socket.SHUT_RD)

    def abort(self, owner: object) -> None:
        """Have the event loop reset the connection, as the owner's response cannot be finished.

        A connection that the owner has taken over is closed in the orderly way.
        """
        with self._lock:
            if self._owner is not owner:
                return
            if self._state is _UPGRADED:
                # The event loop goes on with the descriptor, and must not wait for it.
                if isinstance(self._writer, SocketWriter):
                    self._writer.set_non_blocking()
                self.hand_over = None
                self.must_close = True
                self._finish()
            elif self._state is _QUEUED or self._state is _SENDING:
                self._set_broken()
            else:
                return
        self._wake()

    def _check(self, owner: object) -> None:
        if self._state is not _SENDING or self._owner is not owner:
            raise ClientDisconnected(CLIENT_GONE)

    def _finish(self) -> bool:
        """Free the output; returns whether the event loop must be woken."""
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None
        self.finished_at = monotonic()
        self._owner = None
        wake = self._notify or self.must_close
        self._state = _FREE
        return wake

    # Sending what the kernel takes now; under the lock, except for the waiting

    def _send_now(self, buffers: tuple[Buffer, ...], *, more: bool = False) -> tuple[Buffer, ...]:
        """Send what the kernel takes, if nothing waits already; returns the rest."""
        if self._buffer or not self._writer.any_thread:
            return _rest(buffers, 0)
        try:
            sent = self._writer.send(buffers, more=more)
        except BlockingIOError:
            return _rest(buffers, 0)
        except OSError as error:
            raise self._break(error) from error
        if len(buffers) == 1 and sent == len(buffers[0]):
            return ()
        return _rest(buffers, sent)

    def _send_file_now(self, part: FileRange) -> FileRange:
        """Send what the kernel takes of a file in one call; returns the rest.

        One call: with more, a client that reads as fast as the disk would keep the lock from the
        event loop.
        """
        if not part.size or not self._writer.any_thread:
            return part
        try:
            sent = self._writer.send_file(part)
        except BlockingIOError:
            return part
        except OSError as error:
            raise self._break(error) from error
        if not sent:
            raise self._break(OSError("the file is shorter than it was"))
        return FileRange(part.descriptor, part.offset + sent, part.size - sent)

    def _send_to_fast_client(self, owner: object, rest: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Give a client that reads fast the time to do so; returns what it has not read.

        Buffering, and before long the disk, costs more than this wait. Waiting on a descriptor that
        is closed meanwhile does no harm, as nothing is sent without another check; nor does reading
        ``_buffer`` without the lock.
        """
        while rest and self._wait_left > 0 and self._writer.any_thread and not self._buffer:
            began = monotonic()
            if not self._writer.wait(FAST_CLIENT_PROGRESS):
                self._wait_left = 0.0
                break
            self._wait_left -= monotonic() - began
            with self._lock:
                self._check(owner)
                rest = self._send_now(rest)
        return rest

    def _break(self, error: OSError) -> ClientDisconnected:
        """Give the connection up: the event loop is woken, and aborts it."""
        self._set_broken()
        self._wake()
        return ClientDisconnected(str(error))

    def _set_broken(self) -> None:
        self._broken_early = self._state is _QUEUED
        self._state = _BROKEN

    # Keeping what the kernel has not taken

    def _send_rest(self, owner: object, rest: tuple[Buffer, ...], *, last: bool) -> None:
        """Send ``rest``, which the kernel did not take at once, by way of the event loop."""
        if not last:
            rest = self._send_to_fast_client(owner, rest)
        for data in rest:
            self._store(owner, data)
        self._in_transit = False
        if not last and not rest:
            return
        if last:
            with self._lock:
                self._check(owner)
                # The loop may have sent everything already.
                self._state = _FLUSHING
        self._wake_to_drain()

    def _open_buffer(self) -> OutputBuffer:
        if not self._buffer:
            self.progress_at = monotonic()
        if self._buffer is None:
            self._buffer = OutputBuffer(self._limits)
        return self._buffer

    def _buffer_file(self, rest: tuple[Buffer, ...], part: FileRange) -> None:
        buffer = self._open_buffer()
        for data in rest:
            buffer.append(data)
        if part.size:
            try:
                buffer.append_file(part)
            except OSError as error:
                # No descriptor for the duplicate: the head that was sent promises too much.
                raise self._break(error) from error

    def _store(self, owner: object, data: Buffer) -> None:
        """Keep ``data`` in memory if it fits there, else on disk, else when there is space."""
        with self._lock:
            self._check(owner)
            buffer = self._open_buffer()
            if buffer.fits(len(data)):
                buffer.append(data)
                blocks: list[Buffer] = []
            else:
                blocks = [*self._open_spool(buffer), data]
            spool = buffer.spool
        for block in blocks:
            view = memoryview(block)
            if spool is not None:
                view = self._write_to_spool(owner, spool, view)
            while view:
                self._store_when_empty(owner, view[:UNSPOOLED_BLOCK])
                view = view[UNSPOOLED_BLOCK:]

    def _open_spool(self, buffer: OutputBuffer) -> list[Buffer]:
        """The blocks in memory, which now have to be written to the spool; none without one."""
        try:
            return buffer.open_spool()
        except OSError as error:
            logger.debug("there is no spool for a slow client: %s", error)
            return []

    def _write_to_spool(self, owner: object, spool: Spool, view: memoryview) -> memoryview:
        """Write ``view`` to the spool, waiting for space; returns what the disk did not take."""
        while view:
            with self._lock:
                self._check(owner)
                while not (region := spool.free_region()).size:
                    self._wait_for_space(owner)
                spool.writing = True
            written, failed = 0, None
            try:
                written = spool.write_at(region, view)
            except OSError as error:
                failed = error
            with self._lock:
                spool.writing = False
                if self._state is _CLOSED:
                    spool.close()
                self._check(owner)
                spool.add(written)
            self._wake_to_drain()
            if failed is not None:
                logger.warning("the file for a slow client cannot be written: %s", failed)
                break
            view = view[written:]
        return view

    def _store_when_empty(self, owner: object, data: memoryview) -> None:
        """The last resort: keep ``data`` in memory as soon as nothing else is kept."""
        with self._lock:
            self._check(owner)
            while self._buffer:
                self._wait_for_space(owner)
            self._open_buffer().append(data)
        self._wake_to_drain()

    def _wait_for_space(self, owner: object) -> None:
        """Wait, without the lock, for the event loop to drain; raises `ClientDisconnected`."""
        if self._space is None:
            self._space = Condition(self._lock)
        self._wake_to_drain()
        self._space.wait()
        self._check(owner)

    def _wake_to_drain(self) -> None:
        """Have the event loop drain, if it is not about to, and does not wait for the writer."""
        if not self._blocked and not self._drain_due:
            self._drain_due = True
            self._wake()

    def _wake_worker(self) -> None:
        if self._space is not None:
            self._space.notify_all()

    # The event loop: draining, and the end

    def resume(self) -> None:
        """The writer can take more: the next `drain` may send. On the event loop only."""
        with self._lock:
            self._blocked = False

    def drain(self) -> DrainResult:
        """Send what waits, as far as the writer takes it. On the event loop only."""
        with self._lock:
            if self._state is _CLOSED or self._state is _BROKEN:
                return DrainResult.BROKEN
            self._drain_due = False
            if self._blocked:
                return DrainResult.BLOCKED
            budget = DRAIN_BUDGET
            while self._buffer:
                if budget <= 0:
                    return DrainResult.MORE
                try:
                    budget -= self._buffer.send_to(self._writer)
                except BlockingIOError:
                    self._blocked = True
                    return DrainResult.BLOCKED
                except OSError as error:
                    logger.debug("a response cannot be sent to its end: %s", error)
                    self._set_broken()
                    return DrainResult.BROKEN
                self.progress_at = monotonic()
                if self._buffer.has_space:
                    self._wake_worker()
            self._wake_worker()
            if self._state is not _FLUSHING:
                return DrainResult.EMPTY
            if self._writer.unsent:
                # A transport has taken the last bytes, and the kernel has not.
                self._blocked = True
                return DrainResult.BLOCKED
            self._finish()
            return DrainResult.FINISHED

    def close(self) -> Unfinished:
        """Release everything; returns the response that was cut off. Idempotent."""
        with self._lock:
            started = self._state is not _QUEUED and not self._broken_early
            unfinished = Unfinished(self._owner, started)
            if self._state is _CLOSED:
                return unfinished
            if self._state is _UPGRADED and isinstance(self._writer, SocketWriter):
                # The application's own descriptor stays open; it must not wait for ever.
                self._writer.shut_down(socket.SHUT_RDWR)
            self._state = _CLOSED
            self._owner = None
            if self._buffer is not None:
                self._buffer.close()
                self._buffer = None
            self._writer.close()
            self._wake_worker()
            # It is a method of the connection's. Dropping it breaks a cycle, so that the connection
            # is freed now and not by the garbage collector.
            self._wake = bool
            return unfinished


def _rest(buffers: tuple[Buffer, ...], sent: int) -> tuple[Buffer, ...]:
    """What is left of ``buffers`` after the first ``sent`` bytes, without empty buffers."""
    rest: list[Buffer] = []
    for buffer in buffers:
        if sent >= len(buffer):
            sent -= len(buffer)
        else:
            rest.append(memoryview(buffer)[sent:] if sent else buffer)
            sent = 0
    return tuple(rest)
