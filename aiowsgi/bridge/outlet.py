"""Everything that a connection sends goes through its `Outlet`, from whichever thread.

Guarantees:

1. Bytes leave in the order in which they were given, and a response's last byte has been taken by
   the kernel (or by the transport's buffer) before the exchange counts as finished.
2. Only the exchange that the outlet was lent to can send; a detached one, or one whose client has
   gone, gets `ClientDisconnected`.
3. A worker thread waits only while the application has more to give, and then only while both the
   memory and the spool are full; but for `PATIENCE` seconds in all for each response, which a
   client must earn by reading something every `PROGRESS` seconds. It stops waiting when there is
   room, or when the connection is closed; the loop closes connections that make no progress.

Properties relied upon: every attribute is read and written under ``lock``, but for those that say
otherwise; a send never waits, so that the lock is held for one system call at most; one exchange
at a time, hence one worker, sends.

The races, and why each is harmless:

* *The worker finishes while the loop receives the next request.* Either the finish comes first, and
  `in_use` tells the loop that the outlet is free; or the loop comes first and leaves a note, and
  the worker that finishes wakes it.
* *The worker sends while the loop closes.* The port's descriptor is closed under the lock. A send
  comes before that, or finds the outlet closed.
* *The loop drains while the worker spills the queue to disk.* The worker takes the queue away under
  the lock, writes it out without the lock, and then adds it to the spool. A drain in between finds
  nothing to send and stops; the worker wakes the loop when there is something. Direct sends are
  the same worker's, so none can come in between.
* *The connection closes while the worker writes to the spool.* The close leaves the file open, and
  the worker closes it when it takes the lock again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from threading import Condition, Lock
from time import monotonic
from typing import Final

from aiowsgi.bridge.backlog import Backlog, BacklogLimits, Spool
from aiowsgi.bridge.ports import Buffer, Port
from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.file_wrapper import FileRange

__all__ = ["Drained", "Outlet"]

logger = logging.getLogger("aiowsgi.server")

DRAIN: Final = 1024 * 1024
"""Bytes after which a drain lets the other connections have the loop. A guess."""

PATIENCE: Final = 0.1
"""Seconds for which, in all, a response may wait for a client that reads fast. A guess: tens of
megabytes on a local network, and next to nothing of a thread's time where the client is slow."""

PROGRESS: Final = 0.02
"""Seconds within which such a client reads something. A guess: several times what it takes to wake
a process on a busy machine."""

PIECE: Final = 64 * 1024
"""Bytes given to the backlog at once where there is no spool to take more."""


GONE: Final = "the client has closed the connection"


class Drained(Enum):
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


class Outlet:
    """A connection's sending side; see the module's docstring."""

    __slots__ = (
        "_backlog",
        "_claimed",
        "_closed",
        "_complete",
        "_limits",
        "_lock",
        "_notify",
        "_owner",
        "_patience",
        "_port",
        "_room",
        "_wake",
        "broken",
        "closing",
        "finished_at",
        "progress_at",
    )

    def __init__(self, port: Port, wake: Callable[[], object], limits: BacklogLimits) -> None:
        """``wake`` asks, from any thread, for the connection's attention on the loop."""
        self._lock = Lock()
        self._port = port
        self._wake = wake
        self._limits = limits
        # Who may send; None between exchanges. Set by the loop, cleared by who sends the last byte.
        self._owner: object = None
        # A worker has begun with the owner.
        self._claimed = False
        # The loop wants to be woken when the owner has finished.
        self._notify = False
        # The response that was sent last ends the connection. Ask once it is finished.
        self.closing = False
        # The owner has given its last byte, and it still waits in the backlog.
        self._complete = False
        # The kernel refused to send, or the response is torn: the loop must abort the connection.
        self.broken = False
        # Seconds that the owner may still wait for a client that reads fast.
        self._patience = 0.0
        # The connection is gone.
        self._closed = False
        # What the kernel would not take yet; None as long as there never was any.
        self._backlog: Backlog | None = None
        # Where the worker waits for room; made when first needed.
        self._room: Condition | None = None
        # When the last exchange finished, and when a backlog last became shorter (or began);
        # monotonic seconds. Read by the loop without the lock: a float, once too old by one send.
        self.finished_at = 0.0
        self.progress_at = 0.0

    # The loop: lending the outlet, and asking how it goes

    def lend(self, owner: object, *, notify: bool = False) -> None:
        """Let ``owner`` send; ``notify`` has its finish wake the loop. The outlet must be free.

        No lock: nobody else looks at a free outlet, and giving the owner to a thread publishes it.
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

    def _send_patiently(self, owner: object, rest: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Give a client that reads fast the time to do so, and return what it has not read.

        The detour by way of the backlog, and of the disk before long, costs more than the wait.
        Waiting on a descriptor that is closed meanwhile does no harm: nothing is sent unchecked.
        """
        while rest and self._patience > 0 and self._port.any_thread:
            began = monotonic()
            if not self._port.wait(PROGRESS):
                self._patience = 0.0
                break
            self._patience -= monotonic() - began
            with self._lock:
                self._check(owner)
                rest = self._send_now(rest)
        return rest

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

    def abort(self, owner: object) -> None:
        """Tear the connection, as the owner's response cannot be finished."""
        with self._lock:
            if self._owner is not owner or self._complete:
                return
            self.broken = True
        self._wake()

    def _check(self, owner: object) -> None:
        if self._owner is not owner or self.broken or self._closed:
            raise ClientDisconnected(GONE)

    def _send_now(self, buffers: tuple[Buffer, ...], *, more: bool = False) -> tuple[Buffer, ...]:
        """Send what the kernel takes, if nothing waits already, and return the rest."""
        if self._backlog or not self._port.any_thread:
            return _rest(buffers, 0)
        try:
            sent = self._port.send(buffers, more=more)
        except BlockingIOError:
            return _rest(buffers, 0)
        except OSError as error:
            raise self._break(error) from error
        if len(buffers) == 1 and sent == len(buffers[0]):
            return ()
        return _rest(buffers, sent)

    def _send_file_now(self, part: FileRange) -> FileRange:
        """Send what the kernel takes of a file in one call, and return the rest.

        One call, since a client that reads as fast as the disk would keep the lock from the loop.
        """
        if not part.size or not self._port.any_thread:
            return part
        try:
            sent = self._port.send_file(part)
        except BlockingIOError:
            return part
        except OSError as error:
            raise self._break(error) from error
        if not sent:
            raise self._break(OSError("the file is shorter than it was"))
        return FileRange(part.descriptor, part.offset + sent, part.size - sent)

    def _break(self, error: OSError) -> ClientDisconnected:
        """Give the connection up; the loop aborts it when it is woken."""
        self.broken = True
        self._wake()
        return ClientDisconnected(str(error))

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

    # Keeping what was not sent, by the worker

    def _hold(self) -> Backlog:
        if not self._backlog:
            self.progress_at = monotonic()
        if self._backlog is None:
            self._backlog = Backlog(self._limits)
        return self._backlog

    def _hold_file(self, rest: tuple[Buffer, ...], part: FileRange) -> None:
        backlog = self._hold()
        for data in rest:
            backlog.append(data)
        if part.size:
            try:
                backlog.append_file(part)
            except OSError as error:
                # No descriptor for the duplicate: the head that was sent promises too much.
                raise self._break(error) from error

    def _keep(self, owner: object, data: Buffer) -> None:
        """Keep ``data`` in memory if it fits there, else on disk, else when there is room."""
        with self._lock:
            self._check(owner)
            backlog = self._hold()
            if backlog.fits(len(data)):
                backlog.append(data)
                return
            try:
                waiting = backlog.open_spool()
            except OSError as error:
                logger.debug("no spool for a slow client: %s", error)
                waiting = []
            spool = backlog.spool
        for buffer in (*waiting, data):
            view = memoryview(buffer)
            if spool is not None:
                view = self._spill(owner, spool, view)
            while view:
                self._keep_when_empty(owner, view[:PIECE])
                view = view[PIECE:]

    def _spill(self, owner: object, spool: Spool, view: memoryview) -> memoryview:
        """Write ``view`` to the spool, waiting for room; returns what the disk had no room for."""
        while view:
            with self._lock:
                self._check(owner)
                while not (region := spool.room()).size:
                    self._wait(owner)
                spool.writing = True
            written, failed = 0, None
            try:
                written = spool.write_at(region, view)
            except OSError as error:
                failed = error
            with self._lock:
                spool.writing = False
                if self._closed:
                    spool.close()
                self._check(owner)
                spool.add(written)
            self._wake()
            if failed is not None:
                logger.warning("the file for a slow client cannot be written: %s", failed)
                break
            view = view[written:]
        return view

    def _keep_when_empty(self, owner: object, data: memoryview) -> None:
        """The last resort: keep ``data`` in memory as soon as nothing else is kept."""
        with self._lock:
            self._check(owner)
            while self._backlog:
                self._wait(owner)
            self._hold().append(data)
        self._wake()

    def _seal(self, owner: object, *, last: bool) -> None:
        """Note that the response ends with what was kept, and have the loop drain it."""
        with self._lock:
            self._check(owner)
            if last:
                self._complete = True
        self._wake()

    def _wait(self, owner: object) -> None:
        """Wait, without the lock, for the loop to drain; raises `ClientDisconnected`."""
        if self._room is None:
            self._room = Condition(self._lock)
        self._wake()
        self._room.wait()
        self._check(owner)

    def _release_worker(self) -> None:
        if self._room is not None:
            self._room.notify_all()

    # The loop: draining, and the end

    def drain(self) -> Drained:
        """Send what waits, as far as the port takes it. On the event loop only."""
        with self._lock:
            if self._closed or self.broken:
                return Drained.BROKEN
            budget = DRAIN
            while self._backlog:
                if budget <= 0:
                    return Drained.MORE
                try:
                    budget -= self._backlog.send_to(self._port)
                except BlockingIOError:
                    return Drained.BLOCKED
                except OSError as error:
                    logger.debug("a response cannot be sent to its end: %s", error)
                    self.broken = True
                    return Drained.BROKEN
                self.progress_at = monotonic()
                if self._backlog.roomy:
                    self._release_worker()
            self._release_worker()
            if not self._complete:
                return Drained.EMPTY
            self._finish()
            return Drained.FINISHED

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
            return owner


def _rest(buffers: tuple[Buffer, ...], sent: int) -> tuple[Buffer, ...]:
    """What is left of ``buffers`` behind the first ``sent`` bytes; no buffer in it is empty."""
    rest: list[Buffer] = []
    for buffer in buffers:
        if sent >= len(buffer):
            sent -= len(buffer)
        else:
            rest.append(memoryview(buffer)[sent:] if sent else buffer)
            sent = 0
    return tuple(rest)
