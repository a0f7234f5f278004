"""The queue and the thread that write the access log: any thread puts lines, one writes them.

`LogWriter.put` takes no lock and, except for the first line after a pause, makes no system call.
The writer's thread gives the queued lines to a `LogSink`, many at once.

Guarantees:

1. `LogWriter.put` never waits and never raises. A line that finds the queue full is dropped and
   counted; lines that the sink fails to write are counted too. A failure is logged once, when it
   begins; when writing has recovered, the number of lost lines is logged.
2. The queue is bounded in bytes, however long its lines are.
3. Lines of one thread are written in the order in which they were put.
4. A line put into an idle writer is written at once; others wait for ``linger`` at most, plus the
   time that the sink takes.
5. `LogWriter.flush` returns when every line put before it has been given to the sink or counted as
   lost, `LogWriter.close` when the thread has ended. Both are bounded by a timeout.
6. The sink is used by the writer's thread alone, from its first write until it is closed.

Properties relied upon: ``append``, ``extend`` by a tuple, ``popleft`` and ``len`` of a deque are
atomic; on free-threaded Python each takes a lock of the deque, and these are sequentially
consistent.

**How bytes are counted without a lock.** The queue consists of places of `PLACE` bytes, and its
length is the number of places: a line that needs more than one is followed by None as often as it
needs further places.

The races, and why each is harmless:

* *A line arrives while the thread is about to sleep.* The thread sets ``_idle`` before it looks at
  the queue for the last time; ``put`` looks at ``_idle`` after appending. One of the two sees the
  other, or both do, and a superfluous wake-up finds an empty queue.
* *Several threads find the last free place.* The queue exceeds its capacity by one line for each.
* *A line arrives while the writer closes.* It is written or dropped; nothing waits for it.

A thread does not survive fork(): a `LogWriter` belongs to the process that made it, so each worker
makes its own. ``logs/sinks.py`` says how the lines of several processes stay apart.

Lines are formatted before they come here (``logs/access_format.py`` says why), so that this thread
holds the interpreter's lock for microseconds.
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

PLACE: Final = 256
"""Bytes of a place in the queue. Most lines take one."""

CAPACITY: Final = 32 * 1024
"""Places in the queue: 8 MiB, or most of a second of what one process can serve. A guess. (A format
with characters beyond U+00FF in its own text takes two or four bytes for each character.)"""

BATCH: Final = 512
"""Places whose lines are given to the sink at once: 100 KB, joined in 10 microseconds. A larger
batch saves nothing."""

LINGER: Final = 0.02
"""Seconds between two rounds of writing, in which lines gather without waking the thread."""


class LogWriter:
    """A bounded queue of lines and the thread that empties it."""

    def __init__(self, sink: LogSink, *, capacity: int = CAPACITY, linger: float = LINGER) -> None:
        self._sink = sink
        self._linger = linger
        # A line, and None for each further place that it takes.
        self._queue: deque[str | None] = deque()
        # Places that the queue may have; 0 once closed.
        self._capacity = capacity
        # The thread sleeps or is about to, and the next line must wake it.
        self._idle = False
        self._wake = Event()
        # Guards what follows, and wakes the threads that flush.
        self._state = Condition()
        # Flushes requested, and how many of them are done.
        self._asked = 0
        self._done = 0
        self._reopen = False
        self._closing = False
        self._ended = False
        # Lines that were lost and not reported yet.
        self._lost = 0
        # The last write failed. Used by the writer's thread alone.
        self._failing = False
        self._writing = Thread(target=self._run, name="aiowsgi-access-log", daemon=True)
        self._writing.start()

    # From any thread

    def put(self, line: str) -> None:
        """Queue a line without its end; drop and count it if the queue is full."""
        queue = self._queue
        if len(queue) >= self._capacity:
            self._lose(1)
            return
        size = len(line)
        if size <= PLACE:
            queue.append(line)
        else:
            queue.extend((line, *(None,) * ((size - 1) // PLACE)))
        if self._idle:
            self._idle = False
            self._wake.set()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until what was put so far is written; return False after ``timeout`` seconds."""
        with self._state:
            self._asked += 1
            ticket = self._asked
            self._wake.set()
            return self._state.wait_for(lambda: self._ended or self._done >= ticket, timeout)

    def reopen(self) -> None:
        """Have the sink reopen its file before the next batch. Returns at once."""
        with self._state:
            self._reopen = True
        self._wake.set()

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued, close the sink and end the thread. Idempotent.

        If ``timeout`` seconds are not enough, the thread is left running; it is a daemon.
        """
        with self._state:
            self._closing = True
            self._capacity = 0
        self._wake.set()
        self._writing.join(timeout)
        if self._writing.is_alive():
            unwritten = sum(line is not None for line in self._queue.copy())
            logger.error("access log: closed with %d lines not written", unwritten)

    def _lose(self, count: int) -> None:
        with self._state:
            self._lost += count

    # On the writer's thread

    def _run(self) -> None:
        while True:
            # In this order: a change that is missed below has set the event again, and lines put
            # before close() are seen by a round that begins after it.
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
        """Do what was requested and write what is queued; return whether anything was."""
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
        places = [self._queue.popleft() for _ in range(count)]
        batch = [line for line in places if line is not None]
        if not batch or self._attempt(lambda: self._sink.write(batch)):
            self._failing = False
        else:
            self._lose(len(batch))  # all of them, though some may have been written
            self._failing = True

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Return whether ``action`` succeeded; the first of several failures is logged."""
        try:
            action()
        except Exception as error:
            # Not only OSError: a sink may call the operator's logging handlers, and whatever they
            # raise must not end this thread.
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
