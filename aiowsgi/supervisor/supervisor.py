"""The process that has workers: it owns the listening sockets and serves nothing but health.

It imports no application, so none can break it; it has one thread, and waits. Whom to start and
whom to send away is decided by ``supervisor/plan.py`` and carried out by
``supervisor/worker_group.py``; here stands what a start, a reload and a stop are. Every event ends
in `Supervisor._adjust`.

**One worker** needs no supervisor before something has to be exchanged or replaced; see
``supervisor/single.py``. A process that is process 1, that reloads or that recycles has one from
the start.

**Starting.** The first workers start together, and one that cannot start ends the whole start, once
and with its own message. Later deaths are replaced, with pauses where they come in a row.

**Reloading** reads the configuration again and puts one worker with it on trial
(``supervisor/generations.py``). Once that serves, the others are exchanged a few at a time; if it
does not, nothing has changed. Meanwhile as many serve as before. In development (``--reload``) the
old ones go first instead: nobody wants to see them, and who connects meanwhile waits in the kernel.

**Stopping** seals the listening sockets (``net/close_listeners.py``), lets handshakes end, and
closes our copies; the workers accept what waits and close theirs, the last of which would reset it.

**How load is spread.** All workers accept from the same sockets, and one that has more connections
than another gives way to it (``supervisor/load_board.py``). A queue for each worker (SO_REUSEPORT)
would be filled by hash: by chance, not by who is free; and what waits in it is lost when its
process dies. Measured (``python -m bench.spread``, four workers on two processors, the largest
share over an even one, the worst of ten rounds): of 64 connections that are opened together and
kept, 1.7, and 1.4 with SO_REUSEPORT; of 2,000 with one request each, 1.1 with both. Without giving
way: 3.8 and 1.7.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from aiowsgi.exceptions import AiowsgiError, ApplicationLoadError, BindError, ConfigError
from aiowsgi.logs import setup as logs
from aiowsgi.net.close_listeners import refuse_new_connections
from aiowsgi.status.aggregate import Detail
from aiowsgi.supervisor.generations import Generations
from aiowsgi.supervisor.plan import Backoff, WorkerState, plan
from aiowsgi.supervisor.status import StatusCollector
from aiowsgi.supervisor.worker_group import WorkerGroup, WorkerProcess

if TYPE_CHECKING:
    from aiowsgi.config.options import Config
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.status.metrics import Tree
    from aiowsgi.supervisor.channel import Message
    from aiowsgi.system.systemd import Notifier

__all__ = ["Supervisor"]

logger = logging.getLogger("aiowsgi")

RESTART_GRACE: Final = 0.25
"""Seconds that a worker has to finish in development: enough for most of what is being answered,
and too short to see much of the old code on a browser's kept connection. A guess."""


class Supervisor:
    """Runs workers until it is told to stop; on one event loop, in the main thread."""

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        *,
        notifier: Notifier,
        reread: Callable[[], Config],
    ) -> None:
        """``config.app`` names the application. ``listeners`` are closed when accepting ends.
        ``reread`` gives the configuration of a reload, and raises ConfigError."""
        self._listeners = listeners
        self._notifier = notifier
        self._generations = Generations(config, listeners, reread)
        # Workers that there should be.
        self._size = self._generations.present.size
        self._backoff = Backoff()
        # Looks again when a pause is over; None while there is none.
        self._retry: asyncio.TimerHandle | None = None
        # Not all have served yet since the start; in development, since the last change.
        self._starting = True
        # Not all are of the generation that a reload has brought.
        self._reloading = False
        # In development: the last start failed, the next change is waited for.
        self._held = False
        # The end has begun: no requests should come any more.
        self._stopping = False
        # Listeners are closed, nobody is started any more.
        self._closed = False
        # Requests were cut.
        self._cut = False
        self.census = StatusCollector(lambda: self._crew, self.unready)
        """What the workers do and have counted."""
        # All workers have served once since the start.
        self.settled = asyncio.Event()
        # Called when the listeners are about to be closed, for who accepts from them in this
        # process; see ``supervisor/single.py``.
        self.before_close: Callable[[], object] = lambda: None
        # Made by `run`; the second is done with the exit status.
        self._crew: WorkerGroup
        self._ended: asyncio.Future[int]

    async def run(self) -> int:
        """Start, supervise, and stop; returns the exit status, 0, or 1 if requests were cut.

        Raises what kept the first workers from starting: ApplicationLoadError, ConfigError,
        BindError.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._crew = WorkerGroup(self)
        for number, handle in self._SIGNALS.items():
            loop.add_signal_handler(number, handle, self)
        if self._notifier.watchdog_interval is not None:
            self._feed_watchdog(self._notifier.watchdog_interval)
        self._adjust()
        try:
            return await self._ended
        finally:
            self._crew.close()

    def _feed_watchdog(self, interval: float) -> None:
        self._notifier.watchdog()
        asyncio.get_running_loop().call_later(interval, self._feed_watchdog, interval)

    async def look(self, interest: Detail = Detail.FIGURES) -> Tree:
        """An overview of all workers, for the admin endpoint; see ``status/aggregate.py``."""
        return await self.census.look(interest)

    def unready(self) -> str:
        """Why no requests should come; empty if they may."""
        if self._stopping:
            return "draining"
        reasons = [worker.unfit for worker in self._crew.ready()] or ["starting"]
        return "" if "" in reasons else reasons[0]

    # Having as many as there should be

    def _adjust(self) -> None:
        """Send away and start whom the plan says, and see whether all is as it should be."""
        if self._closed:
            return
        present = self._generations.present
        step = plan(list(self._crew), self._size, present.number)
        for worker in step.retire:
            self._crew.retire(worker, present.grace)
        if not step.start:
            self._check_settled()
        elif not self._held and self._retry is None:
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
                self._crew.start(present.number, present.charge, self._listeners)
        except OSError as error:
            reason = f"no worker can be started: {error.strerror}"
            if present.number == 1 and self._starting:
                self._fail(ApplicationLoadError(reason))
            else:
                logger.error(reason)
                self._backoff.failed(monotonic())
                self._adjust()

    def _check_settled(self) -> None:
        """Once all workers that there should be serve, say so to those who wait for that."""
        present = self._generations.present
        accepting = [worker for worker in self._crew if worker.accepting]
        current = all(worker.generation == present.number for worker in accepting)
        if self._generations.trying or len(self._crew.ready()) < self._size or not current:
            return
        if self._reloading:
            logger.info("reloaded")
            self._notifier.ready()
        elif self._starting:
            scheme = "https" if present.config.certfile else "http"
            for url in self._listeners.urls(scheme):
                logger.info("listening on %s", url)
            self._notifier.ready()
            self.settled.set()
        self._starting = self._reloading = False

    # What happens to workers

    def worker_ready(self, worker: WorkerProcess, broken: str) -> None:
        """Called by the crew."""
        if broken:
            logger.error("the application cannot be imported\n%s", broken)
        if self._generations.passed(worker):
            self._size = self._generations.present.size
        self._adjust()

    def worker_changed(self) -> None:
        """Called by the crew."""
        self._adjust()

    def worker_reported(self, worker: WorkerProcess, message: Message) -> None:
        """Called by the crew."""
        self.census.heard(worker, message)

    def worker_ended(self, worker: WorkerProcess, status: int) -> None:
        """Called by the crew."""
        self.census.ended(worker)
        if worker.state is WorkerState.RETIRING:
            self._cut |= self._stopping and worker.served and status != 0
            logger.debug("worker %d has ended", worker.pid)
        elif self._generations.failed(worker):
            self._end_reload(worker.epitaph(status))
        elif self._starting and not self._stopping:
            self._fail_start(worker, status)
        else:
            logger.error("%s", worker.epitaph(status))
            self._backoff.died(worker, monotonic())
        if self._closed and not self._crew:
            self._end(1 if self._cut else 0)
        self._adjust()

    def _fail_start(self, worker: WorkerProcess, status: int) -> None:
        """Give up, with the worker's own message; in development, wait for the next change."""
        if self._closed:
            # Another has failed before it, and has said why.
            return
        present = self._generations.present
        if present.config.reload and present.number > 1:
            logger.error("%s", worker.epitaph(status))
            self._held = True
        else:
            self._fail(_start_error(worker, status))

    def _fail(self, error: AiowsgiError) -> None:
        self._closed = True
        if not self._ended.done():
            self._ended.set_exception(error)

    # Reloading

    def reload(self) -> None:
        """Exchange the workers for others with the code and the configuration of now."""
        if self._generations.present.config.reload:
            self.restart("HUP")
        elif not self._stopping and not self._starting:
            logger.info("reloading")
            self._notifier.reloading()
            self._reloading = True
            try:
                self._generations.try_next(self._crew)
            except (ConfigError, OSError) as error:
                self._end_reload(str(error))

    def _end_reload(self, failure: str) -> None:
        logger.error("not reloaded, the old workers stay: %s", failure)
        self._reloading = False
        self._notifier.ready()

    def restart(self, why: str) -> None:
        """For development: end the workers and start others, for better or worse."""
        if self._stopping:
            return
        logger.info("%s; restarting", why)
        self._generations.renew()
        self._starting, self._held, self._backoff = True, False, Backoff()
        for worker in self._crew:
            self._crew.retire(worker, RESTART_GRACE)
        self._adjust()

    # The end

    def stop(self) -> None:
        """Drain: after ``shutdown_delay`` stop accepting, let everything finish, end."""
        if self._stopping:
            return
        self._stopping = True
        self._notifier.stopping()
        delay = self._generations.present.config.shutdown_delay
        logger.info("stopping")
        if delay:
            logger.info("accepting for another %g s", delay)
        asyncio.get_running_loop().call_later(delay, self._seal)

    def _seal(self) -> None:
        asyncio.get_running_loop().call_later(refuse_new_connections(self._listeners), self._close)

    def _close(self) -> None:
        self._closed = True
        self.before_close()
        self._listeners.close()
        for worker in self._crew:
            self._crew.retire(worker, self._generations.present.grace)
        if not self._crew:
            self._end(0)

    def _interrupt(self) -> None:
        """Drain; at the second time end at once: whoever sits at the terminal does not wait."""
        if self._stopping:
            self._end(128 + signal.SIGINT)
        self.stop()

    def _end(self, status: int) -> None:
        self._closed = True
        if not self._ended.done():
            logger.info("stopped; some requests were cut" if status else "stopped")
            self._ended.set_result(status)

    # Other signals

    def _reopen_logs(self) -> None:
        logs.reopen_files()
        self._crew.tell_all("reopen")

    def resize(self, change: int) -> None:
        """Have so many workers more, or fewer, but one at least."""
        self._size = max(1, self._size + change)
        logger.info("workers: %d", self._size)
        self._adjust()

    _SIGNALS: Final[dict[signal.Signals, Callable[[Supervisor], object]]] = {
        signal.SIGHUP: reload,
        signal.SIGINT: _interrupt,
        signal.SIGQUIT: partial(_end, status=128 + signal.SIGQUIT),
        signal.SIGTERM: stop,
        signal.SIGTTIN: partial(resize, change=+1),
        signal.SIGTTOU: partial(resize, change=-1),
        signal.SIGUSR1: _reopen_logs,
    }


_ERRORS: Final = {error.__name__: error for error in (ApplicationLoadError, BindError, ConfigError)}


def _start_error(worker: WorkerProcess, status: int) -> AiowsgiError:
    """What the worker raised, to be raised here again. Its traceback is shown now."""
    if worker.failure is None:
        return ApplicationLoadError(worker.epitaph(status))
    sys.stderr.write(worker.failure["traceback"])
    error = _ERRORS.get(worker.failure["error"], ApplicationLoadError)
    return error(worker.failure["message"])
