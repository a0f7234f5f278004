"""The worker threads: a ``concurrent.futures.Executor`` with a cheaper method than ``submit``.

``submit`` makes a Future, as every executor does. `WorkerPool.execute` only puts a callable into a
queue: it takes half the time, and an exchange needs no Future because it reports by sending.

**Why there is a queue of our own.** Before Python 3.13 every thread that takes a task from a
``SimpleQueue`` wakes another thread, which finds nothing and sleeps again: two context switches,
and contention for the interpreter's lock, for nothing. `TaskQueue` wakes a thread only if there is
a task for it. Measured (Python 3.11, one client that sends one request after the other, one
processor, side by side): 2.3 context switches for a request instead of 8, and 20 % less processor
time; no difference if many clients send at a time. From 3.13 on ``SimpleQueue`` does the same, and
is faster without the interpreter's lock, where threads would spin on a lock such as ours.

Threads are daemons, so that a thread that hangs in the application cannot keep the process from
ending; the caller of ``shutdown`` decides how long to wait. The pool keeps its size: whatever a
callable raises, its thread goes on, and a thread that hangs can be replaced (`WorkerPool.detach`).
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Container
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import Any, ParamSpec, TypeVar

__all__ = ["TaskQueue", "WorkerPool"]

P = ParamSpec("P")
T = TypeVar("T")
Task = Callable[[], object]

logger = logging.getLogger("aiowsgi.server")


class TaskQueue:
    """Tasks that wait for a thread, and threads that wait for a task: a `queue.SimpleQueue`.

    A burst of tasks wakes one thread. Once that is awake, it wakes the next one if there are still
    tasks: threads that are awake already, or about to be done, may be enough. So at most one thread
    is being woken at a time (``_waking``).

    Why no lock is needed besides the interpreter's: `put` appends the task before it reads the flag
    and the sleepers; a thread clears the flag, or enters itself among the sleepers, before it reads
    the tasks. Whichever comes first, the task is taken by a thread that is awake, or wakes one.
    """

    __slots__ = ("_sleepers", "_tasks", "_waking")

    def __init__(self) -> None:
        self._tasks: deque[Task | None] = deque()
        # Locks that sleeping threads wait for. The thread that takes one out releases it.
        self._sleepers: list[Lock] = []
        # A lock was released, and its thread has not looked for a task since.
        self._waking = False

    def qsize(self) -> int:
        """Number of tasks that no thread has taken yet."""
        return len(self._tasks)

    def put(self, task: Task | None) -> None:
        """Have a thread take ``task``."""
        self._tasks.append(task)
        if not self._waking:
            self._wake_one()

    def get(self) -> Task | None:
        """Take the oldest task, or wait for one."""
        tasks = self._tasks
        try:
            return tasks.popleft()
        except IndexError:
            pass
        while True:
            wake_up = Lock()
            wake_up.acquire()
            self._sleepers.append(wake_up)
            # A task that was put there before may have found no thread to wake.
            if not tasks or not self._stay_awake(wake_up):
                wake_up.acquire()
                self._waking = False
            try:
                task = tasks.popleft()
            except IndexError:
                continue
            if tasks:
                self._wake_one()
            return task

    def get_nowait(self) -> Task | None:
        """Take the oldest task; raises `queue.Empty` if there is none."""
        try:
            return self._tasks.popleft()
        except IndexError:
            raise Empty from None

    def _stay_awake(self, wake_up: Lock) -> bool:
        """Leave the sleepers; False if another thread is waking this one already."""
        try:
            self._sleepers.remove(wake_up)
        except ValueError:
            return False
        return True

    def _wake_one(self) -> None:
        try:
            # First in, first out. With LIFO the woken thread preempts the event loop more often
            # (6 % slower with 16 connections).
            wake_up = self._sleepers.pop(0)
        except IndexError:
            # All threads are awake, and each looks for a task once more before it sleeps.
            return
        self._waking = True
        wake_up.release()


def _make_queue() -> SimpleQueue[Task | None] | TaskQueue:
    return SimpleQueue() if sys.version_info >= (3, 13) else TaskQueue()


class WorkerPool(Executor):
    """A fixed number of threads and an unbounded queue; the caller bounds it."""

    def __init__(self, threads: int, name: str = "aiowsgi-thread") -> None:
        """Start ``threads`` threads, named ``name`` and a number."""
        # None tells the thread that takes it to end.
        self._queue = _make_queue()
        # The two that every request calls are the queue's own methods, bound once.
        self.execute: Callable[[Task], object] = self._queue.put
        """Has a thread call a callable; its result is dropped, its exception logged."""
        self.waiting: Callable[[], int] = self._queue.qsize
        """Gives the number of callables that no thread has taken yet."""
        self._lock = Lock()
        self._name = name
        self._started = 0
        self._shut_down = False
        # The threads that take tasks, without the detached ones.
        self._threads: list[Thread] = []
        # The threads that hang; each removes itself when its task has ended.
        self._detached: set[Thread] = set()
        try:
            for _ in range(threads):
                self._start_thread()
        except RuntimeError:
            # The system allows no more threads.
            self.shutdown(wait=False)
            raise

    @property
    def size(self) -> int:
        """Number of threads that take tasks."""
        return len(self._threads)

    @property
    def detached(self) -> int:
        """Number of threads that were replaced and still run."""
        return len(self._detached)

    def detach(self, ident: int) -> bool:
        """Replace the thread with that identity, which hangs; it ends when its task has ended.

        If its task has not ended when this returns, it never takes another. Returns False if no
        such thread takes tasks, or if the system allows no thread in its place.
        """
        with self._lock:
            thread = next((thread for thread in self._threads if thread.ident == ident), None)
            if thread is None or self._shut_down:
                return False
            # Before the other thread starts, whose task may look at the pool.
            self._threads.remove(thread)
            self._detached.add(thread)
            try:
                self._start_thread()
            except RuntimeError:
                self._detached.remove(thread)
                self._threads.append(thread)
                return False
            return True

    def drop(self, tasks: Container[Task | None]) -> None:
        """Remove those tasks from the queue that are in ``tasks``.

        For a moment the queue is empty, so a thread may take a task out of order.
        """
        for task in self._take_all():
            if task not in tasks:
                self._queue.put(task)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See ``concurrent.futures.Executor.submit``."""
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        call.future = future  # type: ignore[attr-defined]
        with self._lock:
            if self._shut_down:
                raise RuntimeError("cannot submit to a pool that was shut down")
            self._queue.put(call)
        return future

    def shutdown(
        self,
        wait: bool = True,  # noqa: FBT001, FBT002 (the base class's signature)
        *,
        cancel_futures: bool = False,
        timeout: float | None = None,
    ) -> None:
        """See ``Executor.shutdown``. Waits for ``timeout`` seconds at most; None is no limit.

        Tasks that were queued before are run, unless ``cancel_futures`` drops them.
        """
        with self._lock:
            first = not self._shut_down
            self._shut_down = True
        if cancel_futures:
            self._drop_queued()
        if first:
            # A detached thread may be waiting for a task, if it was detached after its last one.
            for _ in range(len(self._threads) + len(self._detached)):
                self._queue.put(None)
        if wait:
            until = None if timeout is None else monotonic() + timeout
            for thread in self._threads:
                if thread is not current_thread():
                    thread.join(None if until is None else max(0.0, until - monotonic()))

    def _drop_queued(self) -> None:
        for task in self._take_all():
            if task is None:
                self._queue.put(None)
            future: Future[Any] | None = getattr(task, "future", None)
            if future is not None:
                future.cancel()
                future.set_running_or_notify_cancel()

    def _take_all(self) -> list[Task | None]:
        taken = []
        with suppress(Empty):
            while True:
                taken.append(self._queue.get_nowait())
        return taken

    def _start_thread(self) -> None:
        self._started += 1
        thread = Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        get = self._queue.get
        while True:
            task = get()
            if task is None:
                return
            try:
                task()
            except BaseException:
                # A logging handler of the application may raise, too.
                with suppress(BaseException):
                    logger.exception("error in a worker thread")
            # Do not keep the last exchange alive while waiting for the next one.
            del task
            if self._detached and self._retire():
                return

    def _retire(self) -> bool:
        """Whether this thread was replaced and has to end."""
        with self._lock:
            thread = current_thread()
            if thread not in self._detached:
                return False
            self._detached.remove(thread)
            return True
