"""The supervisor: the process that owns the listening sockets and the workers.

It imports no application, so no application can change or break it; it runs one thread, and serves
nothing but health. Which workers to start and to retire is decided by ``supervisor/plan.py`` and
carried out by ``supervisor/worker_group.py``; what a start, a reload and a stop are is decided
here. Every event ends in `Supervisor._adjust`.

The states, and what the events mean in each::

    state       HUP             all serve      a worker dies            TERM, INT
    ----------  --------------  -------------  -----------------------  -------------------
    STARTING    is remembered   -> SERVING     the start fails (*)      -> STOPPING
    SERVING     -> RELOADING    (nothing)      it is replaced           -> STOPPING
    RELOADING   starts anew     -> SERVING     it is replaced (**)      -> STOPPING
    RESTARTING  starts anew     -> SERVING     -> FAILED                -> STOPPING
    FAILED      -> RESTARTING   (nothing)      is logged                -> STOPPING
    STOPPING    is ignored      (nothing)      it is replaced           2nd INT: -> ENDED
    DRAINING    is ignored      (nothing)      the last one: -> ENDED   2nd INT: -> ENDED
    ENDED       is ignored      (nothing)      is ignored               is ignored

    (*)  If HUP has come meanwhile, the start is tried again with the files of now.
    (**) If it was on trial, the reload has failed: -> SERVING, with the old generation.

QUIT ends the process in every state. USR1, TTIN and TTOU act in every state; a worker that is still
importing is told when it serves.

**Starting.** The first workers start together, and one that cannot start ends the whole start, once
and with its own message. Workers that die later are replaced, with pauses if they die in a row.

**Reloading** reads the configuration again and puts one worker with it on trial
(``supervisor/generations.py``). Once that serves, the others are exchanged a few at a time; if it
fails, nothing has changed. As many workers serve meanwhile as before. In development (``--reload``)
the old workers go first (RESTARTING): their code is out of date, and clients that connect meanwhile
wait in the kernel.

**Stopping** seals the listening sockets (``net/close_listeners.py``), lets handshakes end, and
closes our copies. The workers accept what waits and close theirs; closing the last copy would reset
connections that nobody had accepted.

**How load is spread.** All workers accept from the same sockets, and one that has more connections
than another lets that one accept first (``supervisor/connection_counts.py``). A queue for each
worker (SO_REUSEPORT) would be filled by hash, not by which worker is free, and what waits in it is
lost when its process dies. Measured (``python -m bench.spread``, four workers on two processors,
the largest share divided by an even one, the worst of ten rounds): of 64 connections that are
opened together and kept, 1.7, and 1.4 with SO_REUSEPORT; of 2,000 with one request each, 1.1 with
both. Without waiting for another: 3.8 and 1.7.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from enum import Enum
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from aiowsgi.exceptions import AiowsgiError, ApplicationLoadError, BindError, ConfigError
from aiowsgi.logs import setup as logs
from aiowsgi.net.close_listeners import refuse_new_connections
from aiowsgi.status.aggregate import Detail
from aiowsgi.supervisor.children import SIGNALS, Children, Origin, has_terminal
from aiowsgi.supervisor.connection_counts import ConnectionCounts
from aiowsgi.supervisor.generations import Generations
from aiowsgi.supervisor.plan import Backoff, WorkerState, plan
from aiowsgi.supervisor.stack_log import silent_workers, stack_text
from aiowsgi.supervisor.start_line import start_line
from aiowsgi.supervisor.status import StatusCollector
from aiowsgi.supervisor.worker_group import WorkerGroup, WorkerProcess

if TYPE_CHECKING:
    from aiowsgi.config.options import Config
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.status.metrics import Tree
    from aiowsgi.supervisor.channel import Message
    from aiowsgi.system.systemd import Notifier

__all__ = ["State", "Supervisor"]

logger = logging.getLogger("aiowsgi")

RESTART_GRACE: Final = 0.25
"""Seconds that a worker has to finish in development: enough for most responses, and too short to
see much of the old code on a browser's kept connection. A guess."""


STANDARD_ERROR: Final = 2


class State(Enum):
    """See the module's docstring."""

    STARTING = "starting"
    """Not all workers have served yet."""
    SERVING = "serving"
    RELOADING = "reloading"
    """Not all workers are of the generation that a reload has brought."""
    RESTARTING = "restarting"
    """In development: as STARTING, after a change."""
    FAILED = "failed"
    """In development: the last start failed, and the next change is waited for."""
    STOPPING = "stopping"
    """Still accepting, for ``shutdown_delay``; clients should go elsewhere."""
    DRAINING = "draining"
    """The listening sockets are closed; the workers finish."""
    ENDED = "ended"


_BEFORE_THE_END: Final = frozenset(
    (State.STARTING, State.SERVING, State.RELOADING, State.RESTARTING, State.FAILED)
)

_NEXT: Final[dict[State, frozenset[State]]] = {
    State.STARTING: frozenset((State.SERVING, State.RESTARTING, State.STOPPING, State.ENDED)),
    State.SERVING: frozenset((State.RELOADING, State.RESTARTING, State.STOPPING, State.ENDED)),
    State.RELOADING: frozenset((State.RELOADING, State.SERVING, State.STOPPING, State.ENDED)),
    State.RESTARTING: frozenset(
        (State.RESTARTING, State.SERVING, State.FAILED, State.STOPPING, State.ENDED)
    ),
    State.FAILED: frozenset((State.RESTARTING, State.STOPPING, State.ENDED)),
    State.STOPPING: frozenset((State.DRAINING, State.ENDED)),
    State.DRAINING: frozenset((State.ENDED,)),
    State.ENDED: frozenset(),
}
"""The states that may follow each; every other step is a mistake in this module."""


class Supervisor:
    """Runs workers until it is told to stop; on one event loop, in the main thread."""

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        *,
        notifier: Notifier,
        reread: Callable[[], Config],
        origin: Origin,
    ) -> None:
        """``config.app`` names the application. ``listeners`` are closed when accepting ends.
        ``reread`` returns the configuration for a reload, and raises ConfigError. Workers begin
        from ``origin``."""
        self._listeners = listeners
        self._notifier = notifier
        self._origin = origin
        self._counts = ConnectionCounts()
        self._generations = Generations(config, listeners, self._counts, reread)
        self._state = State.STARTING
        # Number of workers that there should be.
        self._size = self._generations.present.size
        self._backoff = Backoff()
        # Calls `_adjust` when a pause is over; None if there is no pause.
        self._retry: asyncio.TimerHandle | None = None
        # A HUP came while starting.
        self._reload_wanted = False
        # Looks at the workers for USR2; kept, as the loop keeps no tasks.
        self._looking: asyncio.Task[None] | None = None
        # Requests were cut.
        self._cut = False
        # INT has come once.
        self._interrupted = False
        self._status = StatusCollector(lambda: self._workers, self.unready)
        # Made by `run`; the future is done with the exit status.
        self._workers: WorkerGroup
        self._ended: asyncio.Future[int]

    async def run(self) -> int:
        """Start, supervise, and stop; returns the exit status, 0, or 1 if requests were cut.

        Raises what kept the first workers from starting: ApplicationLoadError, ConfigError,
        BindError.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        children = Children(self._origin)
        self._workers = WorkerGroup(self, children, self._counts)
        for number, handle in self._HANDLERS.items():
            loop.add_signal_handler(number, handle, self)
        # Until now they were blocked, and those that have come are waiting.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if self._notifier.watchdog_interval is not None:
            self._feed_watchdog(self._notifier.watchdog_interval)
        self._adjust()
        try:
            return await self._ended
        finally:
            # The loop gives them back their default actions, and what is left takes no time.
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            self._workers.close()
            children.close()

    def _feed_watchdog(self, interval: float) -> None:
        self._notifier.watchdog()
        asyncio.get_running_loop().call_later(interval, self._feed_watchdog, interval)

    def _enter(self, state: State) -> None:
        assert state in _NEXT[self._state], f"{self._state} -> {state}"
        self._state = state

    async def look(self, interest: Detail = Detail.FIGURES) -> Tree:
        """An overview of all workers, for the admin endpoint; see ``status/aggregate.py``."""
        return await self._status.look(interest)

    def unready(self) -> str:
        """Why no requests should come; empty if they may."""
        if self._state not in _BEFORE_THE_END:
            return "draining"
        reasons = [worker.unfit for worker in self._workers.ready()] or ["starting"]
        return "" if "" in reasons else reasons[0]

    # Having as many workers as there should be

    def _adjust(self) -> None:
        """Retire and start the workers that the plan names, and see whether all is as it should
        be."""
        if self._state in {State.DRAINING, State.ENDED}:
            return
        self._workers.hear_starting()
        present = self._generations.present
        step = plan(list(self._workers), self._size, present.number)
        for worker in step.retire:
            self._workers.retire(worker, present.grace)
        if not step.start:
            self._check_settled()
        elif self._state is not State.FAILED and self._retry is None:
            if pause := self._backoff.pause(monotonic()):
                loop = asyncio.get_running_loop()
                self._retry = loop.call_later(pause, self._try_again)
            else:
                self._start(step.start)

    def _try_again(self) -> None:
        self._retry = None
        self._adjust()

    def _start(self, count: int) -> None:
        present = self._generations.present
        try:
            for _ in range(count):
                self._workers.start(present)
        except OSError as error:
            reason = f"no worker can be started: {error.strerror}"
            if self._state is State.STARTING:
                self._fail(ApplicationLoadError(reason))
            else:
                logger.error(reason)
                self._backoff.failed(monotonic())
                self._adjust()

    def _check_settled(self) -> None:
        """Once all workers that there should be serve, tell those who wait for that."""
        present = self._generations.present
        accepting = [worker for worker in self._workers if worker.accepting]
        current = all(worker.generation == present.number for worker in accepting)
        ready = len(self._workers.ready()) >= self._size
        if ready and current and not self._generations.trying:
            self._SETTLED.get(self._state, Supervisor._do_nothing)(self)

    def _finish_start(self) -> None:
        config = self._generations.present.config
        if self._state is State.STARTING and os.isatty(STANDARD_ERROR):
            logger.info("%s", start_line(config, self._size))
        self._enter(State.SERVING)
        scheme = "https" if config.certfile else "http"
        for url in self._listeners.urls(scheme):
            logger.info("listening on %s", url)
        self._notifier.ready()
        if self._reload_wanted:
            self._reload_wanted = False
            self._reload()

    def _finish_reload(self) -> None:
        self._enter(State.SERVING)
        logger.info("reloaded")
        self._notifier.ready()

    # What happens to workers

    def worker_ready(self, worker: WorkerProcess, broken: str) -> None:
        """Called by the group."""
        if broken:
            logger.error("the application cannot be imported\n%s", broken)
        if self._generations.passed(worker):
            self._size = self._generations.present.size
        self._adjust()

    def worker_changed(self) -> None:
        """Called by the group."""
        self._adjust()

    def worker_reported(self, worker: WorkerProcess, message: Message) -> None:
        """Called by the group."""
        self._status.heard(worker, message)

    def worker_ended(self, worker: WorkerProcess, status: int) -> None:
        """Called by the group."""
        self._status.ended(worker)
        if worker.state is WorkerState.RETIRING:
            at_the_end = self._state not in _BEFORE_THE_END
            self._cut |= at_the_end and worker.served and status != 0
            logger.debug("worker %d has ended", worker.pid)
        elif self._generations.failed(worker):
            self._end_reload(worker.cause_of_end(status))
        else:
            self._DIED.get(self._state, Supervisor._replace)(self, worker, status)
        if self._state is State.DRAINING and not self._workers:
            self._end(1 if self._cut else 0)
        self._adjust()

    def _fail_start(self, worker: WorkerProcess, status: int) -> None:
        """Give up with the worker's own message, unless a HUP asks for another try."""
        if not self._reload_wanted:
            self._fail(_start_error(worker, status))
            return
        logger.error("%s", worker.cause_of_end(status))
        logger.info("HUP; starting again")
        self._reload_wanted = False
        self._generations.renew()
        self._size = self._generations.present.size

    def _fail_restart(self, worker: WorkerProcess, status: int) -> None:
        """Wait for the next change."""
        logger.error("%s", worker.cause_of_end(status))
        self._enter(State.FAILED)

    def _replace(self, worker: WorkerProcess, status: int) -> None:
        logger.error("%s", worker.cause_of_end(status))
        self._backoff.died(worker, monotonic())

    def _do_nothing(self, *_: object) -> None:
        pass

    def _fail(self, error: AiowsgiError) -> None:
        self._enter(State.ENDED)
        if not self._ended.done():
            self._ended.set_exception(error)

    # Reloading

    def reload(self) -> None:
        """HUP: exchange the workers for others with the code and the configuration of now."""
        self._HUNG_UP.get(self._state, Supervisor._do_nothing)(self)

    def _remember_reload(self) -> None:
        logger.info("HUP while starting; reloading afterwards")
        self._reload_wanted = True

    def _reload(self) -> None:
        if self._generations.present.config.reload:
            if self._terminal_is_closed():
                self.stop()
            else:
                self.restart("HUP")
            return
        logger.info("reloading")
        self._warn_of_stale_module()
        self._notifier.reloading()
        self._enter(State.RELOADING)
        try:
            self._generations.try_next(self._workers)
        except (ConfigError, OSError) as error:
            self._end_reload(str(error))

    def _warn_of_stale_module(self) -> None:
        """A program that calls ``aiowsgi.run`` may have imported the application itself."""
        module = (self._generations.present.config.app or "").partition(":")[0]
        if module in sys.modules:
            logger.warning(
                "%s was imported by this program before the workers were forked: new code in it is"
                " not loaded by HUP, but by a restart",
                module,
            )

    def _terminal_is_closed(self) -> bool:
        """Whether HUP came because the terminal was closed, and not from a person or program."""
        ours = self._origin.terminal and signal.SIGHUP not in self._origin.ignored
        return ours and not has_terminal()

    def _end_reload(self, failure: str) -> None:
        logger.error("not reloaded, the old workers stay: %s", failure)
        if self._state is State.RELOADING:
            self._enter(State.SERVING)
            self._notifier.ready()

    def restart(self, why: str) -> None:
        """For development: end the workers and start others, whatever becomes of them."""
        if self._state not in _BEFORE_THE_END:
            return
        logger.info("%s; restarting", why)
        self._generations.renew()
        self._backoff = Backoff()
        self._enter(State.RESTARTING)
        self._workers.hear_starting()
        for worker in self._workers:
            self._workers.retire(worker, RESTART_GRACE)
        self._adjust()

    # The end

    def stop(self) -> None:
        """Drain: after ``shutdown_delay`` stop accepting, let everything finish, end."""
        if self._state not in _BEFORE_THE_END:
            return
        self._enter(State.STOPPING)
        self._notifier.stopping()
        served = any(worker.served for worker in self._workers)
        delay = self._generations.present.config.shutdown_delay if served else 0.0
        logger.info("stopping")
        if delay:
            logger.info("accepting for another %g s", delay)
        asyncio.get_running_loop().call_later(delay, self._seal)

    def _seal(self) -> None:
        asyncio.get_running_loop().call_later(refuse_new_connections(self._listeners), self._drain)

    def _drain(self) -> None:
        if self._state is not State.STOPPING:
            return
        self._enter(State.DRAINING)
        self._listeners.close()
        self._workers.hear_starting()
        for worker in self._workers:
            self._workers.retire(worker, self._generations.present.grace)
        if not self._workers:
            self._end(0)

    def _interrupt(self) -> None:
        """INT: drain; at the second time end at once, as a person at a terminal does not wait."""
        if self._interrupted:
            self._end(128 + signal.SIGINT)
        self._interrupted = True
        self.stop()

    def _end(self, status: int) -> None:
        if self._state is not State.ENDED:
            self._enter(State.ENDED)
            logger.info("stopped; some requests were cut" if status else "stopped")
            self._ended.set_result(status)

    # Other signals

    def _reopen_logs(self) -> None:
        logs.reopen_files()
        self._workers.tell_all("reopen")

    def _log_stacks(self) -> None:
        """USR2: write what all workers do to the log. It never ends anything."""
        self._looking = asyncio.get_running_loop().create_task(self._look_at_stacks())

    async def _look_at_stacks(self) -> None:
        overview = await self._status.look(Detail.STACKS)
        logger.info("stacks of busy threads:\n%s", stack_text(overview))
        for pid in silent_workers(overview):
            logger.warning(
                "worker %d does not answer; its stacks come from faulthandler, on standard error",
                pid,
            )
            os.kill(pid, signal.SIGUSR2)

    def resize(self, change: int) -> None:
        """Have ``change`` workers more, or fewer if it is negative, but at least one."""
        self._size = max(1, self._size + change)
        logger.info("workers: %d", self._size)
        self._adjust()

    _HANDLERS: Final[dict[signal.Signals, Callable[[Supervisor], object]]] = {
        signal.SIGHUP: reload,
        signal.SIGINT: _interrupt,
        signal.SIGQUIT: partial(_end, status=128 + signal.SIGQUIT),
        signal.SIGTERM: stop,
        signal.SIGTTIN: partial(resize, change=+1),
        signal.SIGTTOU: partial(resize, change=-1),
        signal.SIGUSR1: _reopen_logs,
        signal.SIGUSR2: _log_stacks,
    }

    # The columns of the table in the module's docstring. A state that is not named ignores HUP,
    # replaces a worker that dies, and does nothing when all workers serve.

    _HUNG_UP: Final[dict[State, Callable[[Supervisor], object]]] = {
        State.STARTING: _remember_reload,
        State.SERVING: _reload,
        State.RELOADING: _reload,
        State.RESTARTING: _reload,
        State.FAILED: _reload,
    }

    _SETTLED: Final[dict[State, Callable[[Supervisor], object]]] = {
        State.STARTING: _finish_start,
        State.RESTARTING: _finish_start,
        State.RELOADING: _finish_reload,
    }

    _DIED: Final[dict[State, Callable[[Supervisor, WorkerProcess, int], object]]] = {
        State.STARTING: _fail_start,
        State.RESTARTING: _fail_restart,
        State.ENDED: _do_nothing,
    }


_ERRORS: Final = {error.__name__: error for error in (ApplicationLoadError, BindError, ConfigError)}


def _start_error(worker: WorkerProcess, status: int) -> AiowsgiError:
    """The error of the worker, to be raised here again. Its traceback is shown now."""
    if worker.failure is None:
        return ApplicationLoadError(worker.cause_of_end(status))
    sys.stderr.write(worker.failure["traceback"])
    error = _ERRORS.get(worker.failure["error"], ApplicationLoadError)
    return error(worker.failure["message"])
