"""What a worker does with bytes that the kernel does not take at once: the lower half of
`ResponseOutput`.

They are kept in memory up to a bound, beyond that in the spool, and only where both are full does
the thread wait; but a client that reads fast is waited for a little first. The loop sends what was
kept, in the upper half. The lock, and all that stands under it, is one and the same for both.

The races, and why each is harmless:

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
from threading import Condition, Lock
from time import monotonic
from typing import Final

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange.output_buffer import OutputBuffer, OutputLimits, Spool
from aiowsgi.exchange.writers import Buffer, Writer
from aiowsgi.wsgi.file_wrapper import FileRange

__all__ = ["GONE", "Keeper"]

logger = logging.getLogger("aiowsgi.server")

PATIENCE: Final = 0.1
"""Seconds for which, in all, a response may wait for a client that reads fast. A guess: tens of
megabytes on a local network, and next to nothing of a thread's time where the client is slow."""

PROGRESS: Final = 0.02
"""Seconds within which such a client reads something. A guess: several times what it takes to wake
a process on a busy machine."""

PIECE: Final = 64 * 1024
"""Bytes given to the backlog at once where there is no spool to take more."""

GONE: Final = "the client has closed the connection"


class Keeper:
    """See the module's docstring. What begins with an underscore is `ResponseOutput`'s too."""

    __slots__ = (
        "_backlog",
        "_closed",
        "_limits",
        "_lock",
        "_owner",
        "_patience",
        "_port",
        "_room",
        "_wake",
        "broken",
        "progress_at",
    )

    def __init__(self, port: Writer, wake: Callable[[], object], limits: OutputLimits) -> None:
        """``wake`` asks, from any thread, for the connection's attention on the loop."""
        self._lock = Lock()
        self._port = port
        self._wake = wake
        self._limits = limits
        # Who may send; None between exchanges. Set by the loop, cleared by who sends the last byte.
        self._owner: object = None
        # The kernel refused to send, or the response is torn: the loop must abort the connection.
        self.broken = False
        # Seconds that the owner may still wait for a client that reads fast.
        self._patience = 0.0
        # The connection is gone.
        self._closed = False
        # What the kernel would not take yet; None as long as there never was any.
        self._backlog: OutputBuffer | None = None
        # Where the worker waits for room; made when first needed.
        self._room: Condition | None = None
        # When a backlog last became shorter, or began; monotonic seconds. Read by the loop without
        # the lock: a float, once too old by one send.
        self.progress_at = 0.0

    def _check(self, owner: object) -> None:
        if self._owner is not owner or self.broken or self._closed:
            raise ClientDisconnected(GONE)

    # Sending what the kernel takes; under the lock, but for the waiting

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

    # Keeping the rest

    def _hold(self) -> OutputBuffer:
        if not self._backlog:
            self.progress_at = monotonic()
        if self._backlog is None:
            self._backlog = OutputBuffer(self._limits)
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
