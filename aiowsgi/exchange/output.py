"""Everything that a connection sends goes through its `ResponseOutput`, from whichever thread.

Guarantees:

1. Bytes leave in the order in which they were given, and a response's last byte has been taken by
   the kernel (or by the transport's buffer) before the exchange counts as finished.
2. Only the exchange that the outlet was lent to can send; a detached one, or one whose client has
   gone, gets `ClientDisconnected`.
3. A worker thread waits only while the application has more to give, and then only while both the
   memory and the spool are full; but for `keeper.PATIENCE` seconds in all for each response, which
   a client must earn by reading something every `keeper.PROGRESS` seconds. It stops waiting when
   there is room, or when the connection is closed; the loop closes connections that make no
   progress.

Properties relied upon: every attribute is read and written under ``lock``, but for those that say
otherwise; a send never waits, so that the lock is held for one system call at most; one exchange
at a time, hence one worker, sends.

The races, and why each is harmless:

* *The worker finishes while the loop receives the next request.* Either the finish comes first, and
  `in_use` tells the loop that the outlet is free; or the loop comes first and leaves a note, and
  the worker that finishes wakes it.
* *The worker sends while the loop closes.* The port's descriptor is closed under the lock. A send
  comes before that, or finds the outlet closed.

What is kept of a response, and how, stands in ``exchange/keeper.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import Final

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange.keeper import GONE, PATIENCE, Keeper
from aiowsgi.exchange.output_buffer import OutputLimits
from aiowsgi.exchange.writers import Buffer, SocketWriter, Writer
from aiowsgi.wsgi.file_wrapper import FileRange

__all__ = ["DrainResult", "ResponseOutput"]

logger = logging.getLogger("aiowsgi.server")

DRAIN: Final = 1024 * 1024
"""Bytes after which a drain lets the other connections have the loop. A guess."""


class DrainResult(Enum):
    """What a drain came to."""

    EMPTY = "empty"
    """Nothing waits; the response may go on."""
    FINISHED = "finished"
    """Nothing waits, and that was the end of the response."""
    BLOCKED = "blocked"
    """The client reads slowly: drain again when the port can take more."""
    MORE = "more"
    """There is more to send at once, after the other connections had their turn."""
    BROKEN = "broken"
    """Nothing can be sent any more: abort the connection."""


class ResponseOutput(Keeper):
    """A connection's sending side; see the module's docstring."""

    __slots__ = ("_claimed", "_complete", "_notify", "closing", "finished_at")

    def __init__(self, port: Writer, wake: Callable[[], object], limits: OutputLimits) -> None:
        """``wake`` asks, from any thread, for the connection's attention on the loop."""
        super().__init__(port, wake, limits)
        # A worker has begun with the owner.
        self._claimed = False
        # The loop wants to be woken when the owner has finished.
        self._notify = False
        # The response that was sent last ends the connection. Ask once it is finished.
        self.closing = False
        # The owner has given its last byte, and it still waits in the backlog.
        self._complete = False
        # When the last exchange finished, monotonic seconds. Read by the loop without the lock.
        self.finished_at = 0.0

    # The loop: lending the outlet, and asking how it goes

    def lend(self, owner: object, *, notify: bool = False) -> None:
        """Let ``owner``, who is not None, send; ``notify`` has its finish wake the loop.

        The outlet must be free. No lock: nobody else looks at a free one, and giving the owner to a
        thread publishes it.
        """
        self._owner = owner
        self._claimed = False
        self._notify = notify
        self._patience = PATIENCE

    def in_use(self) -> bool:
        """Whether a response is still being sent; if so, its end will wake the loop."""
        # Without the lock, as freeing the outlet is the last thing that a finish does.
        if self._owner is None:
            return False
        with self._lock:
            if self._owner is None:
                return False
            self._notify = True
            return True

    def claim(self, owner: object) -> bool:
        """The worker begins; False where the outlet was taken away from ``owner`` meanwhile."""
        # Not `with`, here and in `send`: every request comes by, and this is twice as fast.
        self._lock.acquire()
        try:
            if self._owner is not owner:
                return False
            self._claimed = True
            return True
        finally:
            self._lock.release()

    def revoke(self, owner: object, *, unless_claimed: bool) -> bool:
        """Take the outlet from ``owner``; False where it has given its last byte already.

        With ``unless_claimed`` only from one that still waits for a thread.
        """
        with self._lock:
            if self._owner is not owner or self._complete or (unless_claimed and self._claimed):
                return False
            self._owner = None
            self._release_worker()
            return True

    @property
    def owner(self) -> object:
        """Who may send now, or None."""
        with self._lock:
            return self._owner

    @property
    def claimed(self) -> bool:
        """A worker has begun with who has the outlet, or with who had it last."""
        with self._lock:
            return self._claimed

    @property
    def pending(self) -> bool:
        """Bytes wait for the client to read."""
        with self._lock:
            return bool(self._backlog)

    # Sending, from any thread

    def send(
        self, owner: object, buffers: tuple[Buffer, ...], *, last: bool, close: bool = False
    ) -> None:
        """Send ``buffers``, or keep what the kernel does not take.

        ``last`` ends the owner's response and frees the outlet; ``close`` then has the loop end
        the connection. Raises `ClientDisconnected` where nothing can be sent any more.
        """
        wake = False
        self._lock.acquire()
        try:
            if self._owner is not owner or self.broken or self._closed:
                raise ClientDisconnected(GONE)
            rest = self._send_now(buffers) if buffers else ()
            if last:
                self.closing = close
                if not rest and not self._backlog:
                    wake = self._finish()
                elif not rest:
                    self._complete = True
        finally:
            self._lock.release()
        if rest and not last:
            rest = self._send_patiently(owner, rest)
        if rest:
            for data in rest:
                self._keep(owner, data)
            self._seal(owner, last=last)
        elif wake:
            self._wake()

    def send_file(self, owner: object, head: bytes, part: FileRange, *, close: bool) -> None:
        """Send ``head`` and a part of a file, which ends the owner's response; never waits.

        What the kernel does not take now is sent later, from a duplicate of the descriptor.
        """
        with self._lock:
            self._check(owner)
            rest = self._send_now((head,), more=part.size > 0)
            if not rest:
                part = self._send_file_now(part)
            self.closing = close
            if not rest and not part.size:
                wake = self._finish()
            else:
                self._hold_file(rest, part)
                wake = self._complete = True
        if wake:
            self._wake()

    def receive_into(self, buffer: memoryview) -> int:
        """Receive from the port, where that is one for any thread; see `StreamedBody.lend`.

        Here, because the descriptor may be used under the lock alone. Raises `ClientDisconnected`
        once it is closed, and what the port raises.
        """
        with self._lock:
            if self._closed or not isinstance(self._port, SocketWriter):
                raise ClientDisconnected(GONE)
            return self._port.receive_into(buffer)

    def abort(self, owner: object) -> None:
        """Tear the connection, as the owner's response cannot be finished."""
        with self._lock:
            if self._owner is not owner or self._complete:
                return
            self.broken = True
        self._wake()

    def _finish(self) -> bool:
        """Free the outlet; returns whether the loop must know."""
        self._complete = False
        if self._backlog is not None:
            self._backlog.close()
            self._backlog = None
        self.finished_at = monotonic()
        wake = self._notify or self.closing
        self._owner = None
        return wake

    def _seal(self, owner: object, *, last: bool) -> None:
        """Note that the response ends with what was kept, and have the loop drain it."""
        with self._lock:
            self._check(owner)
            if last:
                self._complete = True
        self._wake()

    # The loop: draining, and the end

    def drain(self) -> DrainResult:
        """Send what waits, as far as the port takes it. On the event loop only."""
        with self._lock:
            if self._closed or self.broken:
                return DrainResult.BROKEN
            budget = DRAIN
            while self._backlog:
                if budget <= 0:
                    return DrainResult.MORE
                try:
                    budget -= self._backlog.send_to(self._port)
                except BlockingIOError:
                    return DrainResult.BLOCKED
                except OSError as error:
                    logger.debug("a response cannot be sent to its end: %s", error)
                    self.broken = True
                    return DrainResult.BROKEN
                self.progress_at = monotonic()
                if self._backlog.roomy:
                    self._release_worker()
            self._release_worker()
            if not self._complete:
                return DrainResult.EMPTY
            self._finish()
            return DrainResult.FINISHED

    def close(self) -> object:
        """Give everything back; returns the owner whose response was cut off, or None."""
        with self._lock:
            if self._closed:
                return None
            self._closed = True
            owner, self._owner = self._owner, None
            self._complete = False
            if self._backlog is not None:
                self._backlog.close()
                self._backlog = None
            self._port.close()
            self._release_worker()
            # It is a method of the connection's, which is freed now and not by the collector.
            self._wake = bool
            return owner
