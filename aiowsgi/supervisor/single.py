"""Serving in this process alone, until a second one is needed.

One worker needs no supervisor from the start: it would be a second process, with some 13 MB of its
own and a tenth of a second at every start. TERM, INT, QUIT and USR1 mean what they mean elsewhere.
When the code or the configuration is to be exchanged (HUP), a worker is to be added (TTIN), or more
threads hang than ``max_detached_threads`` allows, this process *becomes* the supervisor: it starts
a worker on the same listening sockets, and when that serves, it drains its own connections and
serves no more. If the worker cannot start, this process goes on as it is, and the log says why.
What it keeps for that is the memory of an application that it runs no more.

An application that is given as an *object* cannot be had a second time. There HUP reads the
certificates again and reopens log files, no more; TTIN and TTOU are refused in the log, as their
default action would suspend the process; and too many threads that hang end it with `EXIT_SPENT`,
for the service manager to start another.

Health is answered by the event loop, so it tells of that loop too. The service manager's watchdog
is fed by it for the same reason.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from aiowsgi.exceptions import ConfigError
from aiowsgi.net.close_listeners import drain_backlog, refuse_new_connections
from aiowsgi.server.server import Server
from aiowsgi.status.aggregate import GONE, Detail, ServerFacts, WorkerReport, overview

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiowsgi.config.options import Config
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.status.metrics import Tree
    from aiowsgi.supervisor.supervisor import Supervisor
    from aiowsgi.system.systemd import Notifier
    from aiowsgi.wsgi.handler import WSGIApplication

__all__ = ["EXIT_SPENT", "SingleProcess"]

logger = logging.getLogger("aiowsgi")

EXIT_SPENT: Final = 4
"""The exit status of a process that has ended as too many of its threads hang."""


class SingleProcess:
    """A server that takes the signals of its process; see the module's docstring."""

    def __init__(
        self,
        app: WSGIApplication,
        config: Config,
        listeners: Listeners,
        notifier: Notifier,
        successor: Callable[[], Supervisor] | None = None,
    ) -> None:
        """``listeners`` are closed when accepting ends. ``successor`` makes the supervisor that
        this process is to become, and raises ConfigError; None where it cannot become one."""
        self._successor = successor
        # Runs while this process becomes a supervisor; and that, once it has.
        self._handover: asyncio.Task[None] | None = None
        self._supervisor: Supervisor | None = None
        self._supervising: asyncio.Task[int] | None = None
        self._config = config
        self._listeners = listeners
        self._notifier = notifier
        self._server = Server(app, config, listeners=listeners)
        self._server.spent = self._give_up
        # Set by TERM and INT, and when too many threads hang.
        self._stop = asyncio.Event()
        self._spent = False
        self._serving = False
        self._born = monotonic()

    def unready(self) -> str:
        """Why no requests should come; empty if they may."""
        if self._supervisor is not None:
            return self._supervisor.unready()
        if self._server.unready_because:
            return self._server.unready_because
        if self._stop.is_set():
            return "draining"
        return "" if self._server.ready else "starting"

    async def look(self, interest: Detail = Detail.FIGURES) -> Tree:
        """An overview, for the admin endpoint; see ``status/aggregate.py``."""
        if self._supervisor is not None:
            return await self._supervisor.look(interest)
        facts = ServerFacts(time(), monotonic() - self._born, self.unready())
        return overview(facts, [self._seat(interest)])

    def _seat(self, interest: Detail) -> WorkerReport:
        if not self._serving:
            return WorkerReport(os.getpid(), 0, "starting", None)
        state = "ready"
        if self._supervisor is not None:
            state = GONE if self._stop.is_set() else "retiring"
        return WorkerReport(os.getpid(), 0, state, self._server.report(interest))

    async def run(self) -> int:
        """Serve until told to stop; the exit status, 0, 1 if requests were cut, or `EXIT_SPENT`.

        Raises ConfigError."""
        loop = asyncio.get_running_loop()
        self._take_signals()
        await self._server.start()
        self._serving = True
        for url in self._server.urls:
            logger.info("listening on %s", url)
        self._notifier.ready()
        if (interval := self._notifier.watchdog_interval) is not None:
            self._feed_watchdog(loop, interval)
        await self._stop.wait()
        if self._supervising is not None:
            return await self._supervising
        return await self._drain()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGQUIT, os._exit, 128 + signal.SIGQUIT)
        loop.add_signal_handler(signal.SIGUSR1, self._server.reopen_logs)
        if self._successor is None:
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        else:
            loop.add_signal_handler(signal.SIGHUP, self._begin_handover, "reloading")
            loop.add_signal_handler(signal.SIGTTIN, self._begin_handover, "adding a worker", 1)
        for number in (signal.SIGTTIN, signal.SIGTTOU)[self._successor is not None :]:
            loop.add_signal_handler(number, logger.warning, "there is one process, and no worker")

    def _feed_watchdog(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        self._notifier.watchdog()
        loop.call_later(interval, self._feed_watchdog, loop, interval)

    def _interrupt(self) -> None:
        if self._stop.is_set():
            # The second INT: whoever sits at the terminal does not want to wait.
            os._exit(128 + signal.SIGINT)
        self._stop.set()

    def _give_up(self) -> None:
        if self._successor is not None:
            self._begin_handover("replacing what hangs")
            return
        self._spent = not self._stop.is_set()
        self._stop.set()

    def _reload(self) -> None:
        self._notifier.reloading()
        self._server.reopen_logs()
        try:
            self._server.reload_certificates()
            logger.info("certificates read, log files reopened")
        except ConfigError as error:
            logger.error("the old certificates stay: %s", error)
        self._notifier.ready()

    # Becoming a supervisor

    def _begin_handover(self, why: str, more: int = 0) -> None:
        if self._handover is None and not self._stop.is_set():
            logger.info("%s: this process becomes a supervisor", why)
            self._handover = asyncio.get_running_loop().create_task(self._hand_over(more))

    async def _hand_over(self, more: int) -> None:
        assert self._successor is not None
        self._notifier.reloading()
        try:
            supervisor = self._successor()
        except ConfigError as error:
            self._stay(error)
            return
        supervisor.before_close = self._server.stop_accepting
        loop = asyncio.get_running_loop()
        # It takes the signals at once.
        supervising = loop.create_task(supervisor.run())
        settled = loop.create_task(supervisor.settled.wait())
        await asyncio.wait({supervising, settled}, return_when=asyncio.FIRST_COMPLETED)
        settled.cancel()
        if supervising.done() and supervising.exception() is not None:
            self._stay(supervising.exception())
            return
        # It serves; or it was told to stop, and so are we.
        self._supervisor, self._supervising = supervisor, supervising
        supervisor.census.own, supervisor.census.born = self._seat, self._born
        self._server.stop_accepting()
        if more and not supervising.done():
            supervisor.resize(more)
        logger.debug("finishing what this process has begun")
        await self._server.stop()
        self._stop.set()

    def _stay(self, error: BaseException | None) -> None:
        logger.error("not reloaded, the old process stays: %s", error)
        self._handover = None
        self._take_signals()
        self._notifier.ready()

    async def _drain(self) -> int:
        self._notifier.stopping()
        delay = self._config.shutdown_delay
        logger.info("stopping")
        if delay:
            logger.info("accepting for another %g s", delay)
        await asyncio.sleep(delay)
        await asyncio.sleep(refuse_new_connections(self._listeners))
        await drain_backlog(self._listeners)
        self._server.close()
        self._listeners.close()
        clean = await self._server.stop()
        logger.info("stopped" if clean else "stopped; some requests were cut")
        if self._spent:
            return EXIT_SPENT
        return 0 if clean else 1
