"""The worker threads: a ``concurrent.futures.Executor`` with a cheaper way in.

``submit`` makes a Future, as every executor does. `WorkerPool.execute` only puts a callable into a
``SimpleQueue``, which is written in C and needs no lock of ours: half the cost of a hand-over, and
an exchange needs no Future as it reports by sending.

Threads are daemons, so that one that hangs in the application cannot keep the process from ending;
who owns the pool decides in ``shutdown`` how long to wait. The pool keeps its size: whatever a
callable raises, its thread goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import Any, ParamSpec, TypeVar

__all__ = ["WorkerPool"]

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("aiowsgi.server")


class WorkerPool(Executor):
    """A fixed number of threads and an unbounded queue; bounding it is the caller's."""

    def __init__(self, threads: int, name: str = "aiowsgi-worker") -> None:
        """Start ``threads`` threads, named ``name`` and a number."""
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        # The two that every request calls are the queue's own methods, bound once.
        self.execute: Callable[[Callable[[], object]], object] = self._queue.put
        """Has a thread call a callable; its result is dropped, its exception logged."""
        self.waiting: Callable[[], int] = self._queue.qsize
        """Gives the number of callables that no thread has taken yet."""
        self._lock = Lock()
        self._name = name
        self._started = 0
        self._shut_down = False
        # Those that take from the queue; a detached one is in here no more.
        self._threads: list[Thread] = []
        for _ in range(threads):
            self._start_thread()

    @property
    def size(self) -> int:
        """Number of threads that take work."""
        return len(self._threads)

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
        """See ``Executor.shutdown``. At most ``timeout`` seconds are waited, None being for ever.

        Work that was queued before is done, unless ``cancel_futures``, which drops what is queued.
        """
        with self._lock:
            first = not self._shut_down
            self._shut_down = True
        if cancel_futures:
            self._drop_queued()
        if first:
            for _ in self._threads:
                self._queue.put(None)
        if wait:
            until = None if timeout is None else monotonic() + timeout
            for thread in self._threads:
                if thread is not current_thread():
                    thread.join(None if until is None else max(0.0, until - monotonic()))

    def _drop_queued(self) -> None:
        while True:
            try:
                task = self._queue.get_nowait()
            except Empty:
                return
            if task is None:
                self._queue.put(None)
                return
            future: Future[Any] | None = getattr(task, "future", None)
            if future is not None:
                future.cancel()
                future.set_running_or_notify_cancel()

    def _start_thread(self) -> None:
        self._started += 1
        thread = Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        get = self._queue.get
        while True:
            task = get()
            if task is None:
                return
            try:
                task()
            except BaseException:
                # A handler of the application's may raise too.
                with suppress(BaseException):
                    logger.exception("error in a worker thread")
            # Do not keep the last exchange alive while waiting for the next.
            del task
