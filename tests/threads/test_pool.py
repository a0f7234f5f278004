"""The worker threads: an executor like others, and a pool that keeps its size."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from concurrent.futures import CancelledError, wait
from functools import partial
from queue import Empty, SimpleQueue
from threading import Barrier, Event, Thread, current_thread, get_ident

import pytest
from support import COMPILED, PATIENCE, Gate, eventually

from aiowsgi.threads import pool as pool_module
from aiowsgi.threads.pool import TaskQueue, WorkerPool


@pytest.fixture
def pool():
    """Two threads, which are gone when the test is over."""
    made = WorkerPool(2, "test-pool")
    yield made
    made.shutdown(timeout=PATIENCE)
    # One that was detached is nobody's to wait for.
    eventually(lambda: count_threads() == 0)


def count_threads():
    """Threads of the pool that are alive."""
    return sum(thread.name.startswith("test-pool") for thread in threading.enumerate())


def test_it_is_an_executor(pool):
    """submit and map give results and exceptions, as concurrent.futures has it."""
    assert pool.submit(pow, 2, exp=5).result(PATIENCE) == 32
    assert list(pool.map(len, ["a", "bb"], timeout=PATIENCE)) == [1, 2]
    error = pool.submit(int, "x").exception(PATIENCE)
    assert isinstance(error, ValueError)


def test_the_threads_are_named_and_daemons(pool):
    """One that hangs cannot keep the process from ending."""
    thread = pool.submit(current_thread).result(PATIENCE)
    assert thread.name in ("test-pool-1", "test-pool-2")
    assert thread.daemon
    assert pool.size == 2


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
def test_a_thread_survives_what_is_raised(pool, caplog, error):
    """The pool keeps its size; what nobody else hears of is logged."""

    def fail():
        raise error("oh")

    for _ in range(4):
        pool.execute(fail)
    assert isinstance(pool.submit(fail).exception(PATIENCE), error)
    assert len(set(pool.map(lambda _: current_thread().name, range(50)))) <= 2
    eventually(lambda: caplog.text.count("error in a worker thread") == 4)
    assert count_threads() == 2


def test_a_thread_survives_a_log_that_raises(pool):
    """A handler of the application's may be broken too."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise ValueError("broken handler")

    logger, handler = logging.getLogger("aiowsgi.server"), Broken()
    logger.addHandler(handler)
    try:
        pool.execute(lambda: 1 / 0)
        pool.execute(lambda: 1 / 0)
        assert pool.submit(pow, 2, 3).result(PATIENCE) == 8
    finally:
        logger.removeHandler(handler)


def occupy(pool):
    """Have both threads wait; gives what lets them go on."""
    begun, go_on = [Event(), Event()], Event()
    for event in begun:

        def task(event=event):
            event.set()
            assert go_on.wait(PATIENCE)

        pool.execute(task)
    assert all(event.wait(PATIENCE) for event in begun)
    return go_on


def test_what_waits_is_counted(pool):
    """Tasks that no thread has taken yet."""
    go_on = occupy(pool)
    assert pool.waiting() == 0
    futures = [pool.submit(int) for _ in range(3)]
    assert pool.waiting() == 3
    go_on.set()
    wait(futures, PATIENCE)
    assert pool.waiting() == 0


def test_a_future_can_be_cancelled_while_it_waits(pool):
    """It is then not run."""
    go_on = occupy(pool)
    called = []
    future = pool.submit(called.append, 1)
    assert future.cancel()
    go_on.set()
    assert pool.submit(int).result(PATIENCE) == 0
    pool.shutdown()
    assert not called


def test_a_shutdown_does_what_was_queued(pool):
    """As an executor's should; then nothing more is taken."""
    go_on = occupy(pool)
    futures = [pool.submit(pow, 2, n) for n in range(5)]
    pool.shutdown(wait=False)
    go_on.set()
    pool.shutdown(timeout=PATIENCE)
    assert [future.result(0) for future in futures] == [1, 2, 4, 8, 16]
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)
    pool.shutdown()


@pytest.mark.parametrize("again", [False, True])
def test_a_shutdown_can_cancel_what_was_queued(pool, again):
    """Futures are cancelled, and whoever waits for them is told; plain tasks are dropped."""
    go_on, called = occupy(pool), []
    future = pool.submit(called.append, 1)
    cancelled = pool.submit(called.append, 2)
    cancelled.cancel()
    pool.execute(lambda: called.append(3))
    if again:
        pool.shutdown(wait=False)
    pool.shutdown(wait=False, cancel_futures=True)
    assert wait([future, cancelled], PATIENCE).not_done == set()
    with pytest.raises(CancelledError):
        future.result(0)
    go_on.set()
    pool.shutdown(timeout=PATIENCE)
    assert not called


def test_a_shutdown_does_not_wait_for_ever(pool):
    """A thread that hangs is left behind when the time is over."""
    go_on = occupy(pool)
    pool.shutdown(timeout=0)
    assert count_threads() == 2
    go_on.set()


def test_a_thread_may_shut_its_own_pool_down(pool):
    """It does not wait for itself."""
    pool.submit(pool.shutdown).result(PATIENCE)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)


def test_it_is_a_context_manager():
    """As every executor."""
    with WorkerPool(1, "test-with") as made:
        future = made.submit(pow, 2, 2)
    assert future.result(0) == 4


def test_a_thread_that_waits_keeps_nothing_alive(pool):
    """The last exchange and all that it holds is freed when it is done."""

    class Big:
        def __call__(self):
            pass

    task = Big()
    gone = Event()
    weakref.finalize(task, gone.set)
    pool.execute(task)
    del task
    # A free-threaded Python frees what another thread has made when that thread comes to it, or
    # when it collects.
    gc.collect()
    assert gone.wait(PATIENCE)


def test_threads_that_cannot_be_started_are_an_error(monkeypatch):
    """The system has no threads left: who made the pool is told, and none is left behind."""
    start = threading.Thread.start
    started = []

    def fail_third(thread):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail_third)
        with pytest.raises(RuntimeError, match="can't start"):
            WorkerPool(3, "test-few")
    for thread in started:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert sys.exc_info() == (None, None, None)


def test_a_thread_that_hangs_is_replaced(pool):
    """Two go on working; the detached one ends with its task and never takes another."""
    gate, idents = Gate(), []

    def hang():
        idents.append(get_ident())
        gate.pass_through()

    pool.execute(hang)
    gate.wait()
    assert pool.detach(idents[0])
    assert not pool.detach(idents[0])
    assert (pool.size, pool.detached) == (2, 1)
    go_on = occupy(pool)
    seen = pool.submit(get_ident)
    gate.open()
    eventually(lambda: pool.detached == 0)
    assert not seen.done()
    go_on.set()
    assert seen.result(PATIENCE) != idents[0]
    assert pool.size == 2


def test_a_thread_may_end_its_task_before_it_is_detached(pool):
    """It takes one more task then, or hears that there is none."""
    ident = pool.submit(get_ident).result(PATIENCE)
    assert pool.detach(ident)
    assert pool.size == 2
    assert sorted(pool.map(abs, range(-8, 0), timeout=PATIENCE)) == list(range(1, 9))


def test_a_thread_that_is_none_of_the_pools_cannot_be_detached(pool):
    """Nor can any when the pool was shut down."""
    assert not pool.detach(get_ident())
    ident = pool.submit(get_ident).result(PATIENCE)
    pool.shutdown(timeout=PATIENCE)
    assert not pool.detach(ident)


def test_a_thread_stays_where_the_system_has_no_other(pool, monkeypatch):
    """One that hangs is better than none."""
    ident = pool.submit(get_ident).result(PATIENCE)

    def fail(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert not pool.detach(ident)
    assert (pool.size, pool.detached) == (2, 0)


def test_queued_work_can_be_dropped(pool):
    """The rest is done in its order."""
    go_on, called = occupy(pool), []
    tasks = [partial(called.append, number) for number in range(6)]
    for task in tasks:
        pool.execute(task)
    pool.drop({*tasks[1:4], tasks[1]})
    assert pool.waiting() == 3
    go_on.set()
    eventually(lambda: len(called) == 3)
    assert sorted(called) == [0, 4, 5]


# The queue


class FakeLock:
    """A thread's lock, which does what the test says when the thread falls asleep."""

    def __init__(self, *waits):
        self.waits = list(waits)
        self.held = False
        self.calls = 0

    def release(self):
        self.calls += 1

    def acquire(self):
        if self.held:
            self.waits.pop(0)()
        # A thread has a new lock each time it sleeps.
        self.held = not self.held


OVERRIDES_A_LIST = pytest.mark.skipif(
    COMPILED, reason="a compiled queue appends to a list without asking a subclass"
)


class Sleepers(list):
    """The sleepers of a queue; something happens just after a thread is entered."""

    def __init__(self, then):
        super().__init__()
        self.then = then

    def append(self, lock):
        super().append(lock)
        self.then()


@pytest.fixture
def use_lock(monkeypatch):
    """Give this lock to the next thread that sleeps."""
    return lambda lock: monkeypatch.setattr(pool_module, "Lock", lambda: lock)


def one():
    """A task."""


def other():
    """Another one."""


def test_a_burst_wakes_one_thread():
    """The thread that has slept longest; it wakes the others if they are needed."""
    queue = TaskQueue()
    locks = [FakeLock(), FakeLock(), FakeLock()]
    queue._sleepers += locks
    for task in (one, other):
        queue.put(task)
    assert [lock.calls for lock in locks] == [1, 0, 0]
    assert queue.qsize() == 2


def test_a_woken_thread_wakes_the_next_if_there_are_more_tasks(use_lock):
    """It has taken a task, and another one waits."""
    queue, asleep = TaskQueue(), FakeLock()

    def called():
        queue.put(one)
        queue.put(other)
        queue._sleepers.append(asleep)

    use_lock(FakeLock(called))
    assert queue.get() is one
    assert asleep.calls == 1


@OVERRIDES_A_LIST
def test_a_task_that_comes_while_a_thread_is_about_to_sleep_is_found(use_lock):
    """`put` has seen no sleeper; the thread looks once more, and does not sleep."""
    queue = TaskQueue()
    queue._sleepers = Sleepers(lambda: queue._tasks.append(one))
    use_lock(FakeLock())
    assert queue.get() is one
    assert not queue._sleepers


@OVERRIDES_A_LIST
def test_a_wake_up_that_comes_meanwhile_is_noted(use_lock):
    """Otherwise no thread would be woken any more."""
    queue, woken = TaskQueue(), []
    queue._sleepers = Sleepers(lambda: queue.put(one))
    lock = FakeLock(lambda: woken.append(lock.calls))
    use_lock(lock)
    assert queue.get() is one
    assert woken == [1]
    assert not queue._waking


def test_a_thread_whose_task_another_took_sleeps_on(use_lock):
    """It was called for one that is gone."""
    queue = TaskQueue()
    use_lock(FakeLock(lambda: None, lambda: queue.put(one)))
    assert queue.get() is one


@pytest.mark.parametrize("make", [TaskQueue, SimpleQueue])
def test_no_task_is_left_while_threads_sleep(make):
    """Whoever puts and takes at the same time: each task is taken once, and soon."""
    queue, taken, together = make(), [], Barrier(4)

    def take():
        while (task := queue.get()) is not None:
            task()

    threads = [Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for round_ in range(300):
        for number in range(3):
            queue.put(partial(taken.append, 3 * round_ + number))
            # All three have to come for these.
            queue.put(partial(together.wait, PATIENCE))
        together.wait(PATIENCE)
    for _ in threads:
        queue.put(None)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert sorted(taken) == list(range(900))
    with pytest.raises(Empty):
        queue.get_nowait()
