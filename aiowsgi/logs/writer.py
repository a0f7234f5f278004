"""The access log's way to its file: any thread puts lines, one thread writes them.

A `LogWriter` takes a line without a lock and, but for the first after a pause, without a system
call. Its own thread gives what has gathered to a `LogSink`, many lines at once.

Guarantees:

1. `LogWriter.put` never waits and never raises. What finds the queue full is dropped and counted;
   what a sink fails to take is counted too. A failure is logged once, when it begins; once writing
   goes on, so is the number of lines lost.
2. Lines of one thread are written in the order in which they were put.
3. A line put into an idle writer is on its way at once; others wait for ``linger`` at most, plus
   the time that the sink takes.
4. `LogWriter.flush` returns when every line put before it has been given to the sink or counted as
   lost, `LogWriter.close` when the thread has ended. Both are bounded by a timeout.
5. The sink is used by the writer's thread alone, from its first write until it is closed.

Properties relied upon: ``append``, ``popleft`` and ``len`` of a deque are atomic; on free-threaded
Python they take a lock of the deque's, whose operations are sequentially consistent.

The races, and why each is harmless:

* *A line arrives while the thread is about to sleep.* The thread says that it is idle before it
  looks at the queue for the last time; who puts looks at ``_idle`` after appending. One of the two
  sees the other, or both do, and a wake-up too many finds an empty queue.
* *Several threads find the last free place.* The queue grows beyond its capacity by as many lines
  as there are threads.
* *A line arrives while the writer closes.* It is written or dropped; nothing waits for it.

A thread does not survive fork(): a `LogWriter` belongs to the process that made it, hence each
worker makes its own. How the lines of several processes stay apart stands in ``logs/sinks.py``.

Lines are formatted before they come here (``logs/access_format.py`` says why), so that this thread
holds the interpreter lock for microseconds.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition, Event, Thread
from typing import Final

from aiowsgi.logs.sinks import LogSink

__all__ = ["LogWriter"]

logger = logging.getLogger("aiowsgi.server")

CAPACITY: Final = 32 * 1024
"""Lines in the queue: most of a second of what one process can serve, about 8 MB. A guess."""

BATCH: Final = 512
"""Lines given to the sink at once: 100 KB, joined in 10 microseconds. More save nothing."""

LINGER: Final = 0.02
"""Seconds between two rounds of writing, in which lines gather and wake nobody."""


class LogWriter:
    """A bounded queue of lines, and the thread that empties it."""

    def __init__(self, sink: LogSink, *, capacity: int = CAPACITY, linger: float = LINGER) -> None:
        self._sink = sink
        self._linger = linger
        self._queue: deque[str] = deque()
        # Lines that the queue may hold; 0 once closed.
        self._capacity = capacity
        # The thread sleeps, or is about to, and a line must wake it.
        self._idle = False
        self._wake = Event()
        # Guards what follows, and tells those who flush.
        self._state = Condition()
        # Flushes asked for, and how many of them are done.
        self._asked = 0
        self._done = 0
        self._reopen = False
        self._closing = False
        self._ended = False
        # Lines not written and not reported yet.
        self._lost = 0
        # The last write failed. The thread's alone.
        self._failing = False
        self._writing = Thread(target=self._run, name="aiowsgi-access-log", daemon=True)
        self._writing.start()

    # From any thread

    def put(self, line: str) -> None:
        """Queue a line, which comes without its end; drop and count it where the queue is full."""
        if len(self._queue) >= self._capacity:
            self._lose(1)
            return
        self._queue.append(line)
        if self._idle:
            self._idle = False
            self._wake.set()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait for what was put so far; False where ``timeout`` seconds were not enough."""
        with self._state:
            self._asked += 1
            ticket = self._asked
            self._wake.set()
            return self._state.wait_for(lambda: self._ended or self._done >= ticket, timeout)

    def reopen(self) -> None:
        """Have the sink reopen its file before the next batch; returns at once."""
        with self._state:
            self._reopen = True
        self._wake.set()

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued, close the sink and end the thread; idempotent.

        Where ``timeout`` seconds are not enough, the thread is left to its fate, which is that of
        the process.
        """
        with self._state:
            self._closing = True
            self._capacity = 0
        self._wake.set()
        self._writing.join(timeout)
        if self._writing.is_alive():
            logger.error("access log: given up with %d lines unwritten", len(self._queue))

    def _lose(self, count: int) -> None:
        with self._state:
            self._lost += count

    # On the writer's thread

    def _run(self) -> None:
        while True:
            # In this order: a change that is missed below has set the event again, and what was
            # put before close() is seen by a round that begins after it.
            self._wake.clear()
            closing = self._closing
            wrote = self._round()
            if closing:
                if not wrote:
                    break
            elif wrote:
                self._wake.wait(self._linger)
            else:
                self._sleep()
        self._attempt(self._sink.close)
        self._report()
        with self._state:
            self._ended = True
            self._state.notify_all()

    def _sleep(self) -> None:
        self._idle = True
        if not self._queue:
            self._wake.wait()
        self._idle = False

    def _round(self) -> bool:
        """Do what has been asked for and write what is queued; False where nothing was."""
        with self._state:
            asked = self._asked
            reopen, self._reopen = self._reopen, False
        if reopen:
            self._attempt(self._sink.reopen)
        count = len(self._queue)
        for written in range(0, count, BATCH):
            self._write(min(BATCH, count - written))
        if not self._failing and len(self._queue) <= self._capacity // 2:
            self._report()
        with self._state:
            self._done = asked
            self._state.notify_all()
        return count > 0

    def _write(self, count: int) -> None:
        batch = [self._queue.popleft() for _ in range(count)]
        if self._attempt(lambda: self._sink.write(batch)):
            self._failing = False
        else:
            self._lose(count)  # all of them, though a part may have come through
            self._failing = True

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Whether ``action`` went well; the first failure of several is logged."""
        try:
            action()
        except Exception as error:
            # Not only OSError: behind a sink may be handlers of the operator's, and this thread
            # must outlive them.
            if not self._failing:
                expected = isinstance(error, OSError)
                logger.error("access log: %s", error, exc_info=not expected)
            return False
        return True

    def _report(self) -> None:
        with self._state:
            lost, self._lost = self._lost, 0
        if lost:
            logger.warning("access log: %d lines were lost", lost)
