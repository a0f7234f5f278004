"""Explores the interleavings of threads: a scheduler that decides which thread runs at each step.

The tasks of a scenario run in real threads, of which exactly one runs at a time. A *step* is an
operation on an instrumented primitive (`Lock`, `Condition`, `Event`, which stand for those of
``threading``), or a line of a module under test that is traced. Before each step the explorer may
let another task run instead. Changing the task although it could go on is a *preemption*; `explore`
runs the scenario once for each way to place at most so many of them, depth first, so that every
run is another schedule and every schedule can be repeated. Rust's loom and shuttle, and CHESS
before them, work in this way; most races need no more than two preemptions to show.

A run fails if a task raises, if the scenario's check fails afterwards, or if no task can go on
although one has not ended: a lost wake-up or a deadlock. The error names the steps at which the
running task changed.

What it cannot find: races between two bytecode instructions of one line, and the effects of memory
that is not sequentially consistent.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from contextlib import contextmanager

PREEMPTIONS = int(os.environ.get("TEST_PREEMPTIONS", "0"))
"""Preemptions in each schedule; 0 for what each scenario explores in about a second."""

HANG = 60
"""Seconds after which a step that has not ended is taken for a hang of the harness."""


class ScheduleError(AssertionError):
    """A schedule in which something went wrong."""


class Stopped(BaseException):
    """Raised in a task to end it, after another has failed."""


class Task:
    """One thread of a scenario."""

    def __init__(self, name, function):
        self.name = name
        self.function = function
        self.turn = threading.Semaphore(0)
        self.waits_for = None
        self.ended = False
        # An asynchronous exception to be raised before the next step.
        self.pending = None
        self.thread = None
        # The `Thread` that stands for it, if one has started it.
        self.fake = None


class Run:
    """One schedule: the choices of ``prefix``, and then to change the task only when it waits."""

    def __init__(self, prefix, preemptions, traced):
        self.prefix = prefix
        self.preemptions = preemptions
        self.traced = traced
        self.tasks = []
        self.current = None
        self.main = threading.Semaphore(0)
        self.error = None
        # For each choice: how many tasks could have run, and which of them did.
        self.choices = []
        # Where the running task changed.
        self.trace = []
        self.used = 0

    # The main thread

    def execute(self, functions):
        """Run the functions, by name, each in a task, until all have ended."""
        for name, function in functions.items():
            self.spawn(name, function)
        self._resume(self._choose(self.tasks[0], runnable=True, where="start"))
        if not self.main.acquire(timeout=HANG):
            raise ScheduleError("the harness hangs")
        for task in self.tasks:
            task.thread.join(HANG)
        if self.error is not None:
            raise self.error

    def spawn(self, name, function):
        """Add a task, which runs when it is chosen."""
        task = Task(name, function)
        self.tasks.append(task)
        task.thread = threading.Thread(target=self._work, args=(task,), daemon=True)
        task.thread.start()
        return task

    def next_prefix(self):
        """The choices of the next schedule in depth-first order; None after the last."""
        for index in range(len(self.choices) - 1, -1, -1):
            number, chosen = self.choices[index]
            if chosen + 1 < number:
                return [choice for _, choice in self.choices[:index]] + [chosen + 1]
        return None

    # In a task

    def step(self, where):
        """The present task comes to a step: it goes on, or another does first."""
        task = self._own()
        if task is None:
            return
        self._change(task, self._choose(task, runnable=True, where=where))
        if task.pending is not None:
            error, task.pending = task.pending, None
            raise error

    def wait_until(self, condition, where):
        """The present task cannot go on before ``condition()``."""
        task = self._own()
        if task is None:
            assert condition(), f"the main thread would wait: {where}"
            return
        while not condition():
            task.waits_for = condition
            self._change(task, self._choose(task, runnable=False, where=where))
            task.waits_for = None

    def _own(self):
        task = self.current
        return task if task is not None and task.thread is threading.current_thread() else None

    def _choose(self, task, *, runnable, where):
        others = [
            other
            for other in self.tasks
            if other is not task
            and not other.ended
            and (other.waits_for is None or other.waits_for())
        ]
        options = [task] if runnable else []
        if not runnable or self.used < self.preemptions:
            options += others
        if not options:
            waiting = [other.name for other in self.tasks if not other.ended]
            if waiting:
                self._fail(ScheduleError(f"no task can go on; {waiting} wait, at {where}"))
                raise Stopped
            return None
        index = len(self.choices)
        chosen = self.prefix[index] if index < len(self.prefix) else 0
        self.choices.append((len(options), chosen))
        if options[chosen] is not task:
            self.used += runnable
            self.trace.append(f"{task.name} at {where} -> {options[chosen].name}")
        return options[chosen]

    def _resume(self, task):
        self.current = task
        if task is None:
            self.main.release()
        else:
            task.turn.release()

    def _change(self, task, chosen):
        if chosen is not task:
            self._resume(chosen)
            self._await_turn(task)

    def _await_turn(self, task):
        if not task.turn.acquire(timeout=HANG):
            raise Stopped
        if self.error is not None:
            raise Stopped

    def _work(self, task):
        try:
            self._await_turn(task)
            if self.traced:
                sys.settrace(self._trace_call)
            try:
                task.function()
            finally:
                sys.settrace(None)
                task.ended = True
            self._resume(self._choose(task, runnable=False, where="its end"))
        except Stopped:
            pass
        except BaseException as error:
            self._fail(error)

    def _fail(self, error):
        """End the run: the main thread goes on, and every task that waits ends."""
        if self.error is not None:
            return
        steps = "\n  ".join(self.trace)
        self.error = ScheduleError(f"{error!r}\nin the schedule\n  {steps}")
        self.error.__cause__ = error
        self.current = None
        for task in self.tasks:
            task.turn.release()
        self.main.release()

    def _trace_call(self, frame, event, argument):
        return self._trace_line if frame.f_code.co_filename in self.traced else None

    def _trace_line(self, frame, event, argument):
        if event == "line":
            self.step(f"{frame.f_code.co_name}:{frame.f_lineno}")
        return self._trace_line


_run = None
"""The schedule that runs now; None between runs."""

_last = None
"""The schedule that ran last."""


def explore(scenario, *, preemptions, traced=()):
    """Run ``scenario`` in every schedule of at most so many preemptions; return how many.

    ``scenario()`` makes fresh objects; it returns the tasks' functions by name, and a check to call
    after they have ended. The lines of the modules in ``traced`` are steps too.
    """
    files = frozenset(module.__file__ for module in traced)
    count, prefix = 0, []
    # The collector would run finalizers of earlier runs' objects, whose steps no schedule has.
    gc.disable()
    try:
        while prefix is not None:
            prefix = _explore_one(scenario, prefix, PREEMPTIONS or preemptions, files)
            count += 1
    finally:
        gc.enable()
    return count


def _explore_one(scenario, prefix, preemptions, files):
    """Run one schedule; returns the prefix of the next."""
    global _run, _last  # noqa: PLW0603 (the instrumented primitives have no other way to the run)
    run = _run = _last = Run(prefix, preemptions, files)
    try:
        functions, check = scenario()
        run.execute(functions)
    finally:
        _run = None
    try:
        check()
    except AssertionError as error:
        steps = "\n  ".join(run.trace)
        raise ScheduleError(f"{error}\nafter the schedule\n  {steps}") from error
    return run.next_prefix()


def step(where):
    """A step of a fake's."""
    if _run is not None:
        _run.step(where)


def wait_until(condition, where):
    """Wait, in a task, for another one."""
    if _run is None:
        assert condition(), f"nothing runs that could end the wait: {where}"
    else:
        _run.wait_until(condition, where)


def set_pending(error):
    """Raise ``error`` in the first task before its next step, as an asynchronous exception."""
    _run.tasks[0].pending = error


def pending():
    """What `set_pending` has set in the run that ended last, and was not raised."""
    return _last.tasks[0].pending


# Instrumented primitives


class Lock:
    """``threading.Lock``."""

    def __init__(self):
        self.taken = False

    def acquire(self, blocking=True, timeout=-1):
        step("acquire")
        if self.taken and not blocking:
            return False
        wait_until(lambda: not self.taken, "acquire")
        self.taken = True
        return True

    def release(self):
        assert self.taken, "released twice"
        self.taken = False
        step("release")

    def locked(self):
        return self.taken

    def __enter__(self):
        self.acquire()

    def __exit__(self, *exc_info):
        self.release()


class Condition:
    """``threading.Condition``; a wait ends by a notification only, never by time."""

    def __init__(self, lock=None):
        self.lock = lock or Lock()
        self.waiters = []

    def __enter__(self):
        self.lock.acquire()

    def __exit__(self, *exc_info):
        self.lock.release()

    def wait(self, timeout=None):
        assert self.lock.taken
        waiter = [False]
        self.waiters.append(waiter)
        self.lock.taken = False
        wait_until(lambda: waiter[0] and not self.lock.taken, "wait")
        self.lock.taken = True
        return True

    def wait_for(self, predicate, timeout=None):
        while not predicate():
            self.wait()
        return True

    def notify(self, number=1):
        assert self.lock.taken
        for waiter in self.waiters[:number]:
            waiter[0] = True
        del self.waiters[:number]

    def notify_all(self):
        self.notify(len(self.waiters))


class Event:
    """``threading.Event``; a wait that has a timeout may end at once."""

    def __init__(self):
        self.flag = False

    def is_set(self):
        return self.flag

    def set(self):
        step("set")
        self.flag = True

    def clear(self):
        step("clear")
        self.flag = False

    def wait(self, timeout=None):
        step("wait")
        if timeout is None:
            wait_until(lambda: self.flag, "wait")
        return self.flag


class Thread:
    """``threading.Thread``: one more task."""

    def __init__(self, target=None, args=(), name="thread", daemon=None):
        self.name = name
        self.ident = id(self)
        self.task = None
        self._function = lambda: target(*args)

    def start(self):
        self.task = _run.spawn(self.name, self._function)
        self.task.fake = self
        step("start of a thread")

    def join(self, timeout=None):
        wait_until(lambda: self.task.ended, "join")

    def is_alive(self):
        return not self.task.ended


def current_thread():
    """``threading.current_thread``; of one that a `Thread` has started."""
    return _run.current.fake


class Loop:
    """The event loop's side of a scenario: callbacks that any task may add."""

    def __init__(self):
        self.callbacks = []

    def call_soon_threadsafe(self, callback, *arguments):
        step("call_soon_threadsafe")
        self.callbacks.append(lambda: callback(*arguments))

    def run_until(self, done):
        """In the loop's task: run callbacks until ``done()``."""
        while not done():
            wait_until(lambda: self.callbacks, "the event loop")
            self.callbacks.pop(0)()


@contextmanager
def instrumented(monkeypatch, *modules):
    """Put the primitives above into modules that import those of ``threading`` by name."""
    with monkeypatch.context() as patch:
        for module in modules:
            for primitive in (Lock, Condition, Event, Thread):
                if hasattr(module, primitive.__name__):
                    patch.setattr(module, primitive.__name__, primitive)
        yield patch
