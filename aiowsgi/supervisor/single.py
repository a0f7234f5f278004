"""Serving an application object in this process: what ``aiowsgi.serve(app)`` does.

An object cannot be imported a second time, so no other process can serve it, and there is no
supervisor. TERM, INT, QUIT and USR1 mean what they mean elsewhere. HUP reads the certificates again
and reopens the log files. TTIN and TTOU are refused in the log, since their default action would
suspend the process. More threads that hang than ``max_detached_threads`` end the process with
`EXIT_SPENT`, for the service manager to start another.

Health is answered by the event loop, so it tells of that loop too, and the service manager's
watchdog is fed by it.
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
from aiowsgi.server.after_fork import note_signal_handlers
from aiowsgi.server.server import Server
from aiowsgi.status.aggregate import Detail, ServerFacts, WorkerReport, overview
from aiowsgi.supervisor.children import SIGNALS
from aiowsgi.supervisor.stack_log import stack_text

if TYPE_CHECKING:
    from aiowsgi.config.options import Config
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.status.metrics import Tree
    from aiowsgi.system.systemd import Notifier
    from aiowsgi.wsgi.handler import WSGIApplication

__all__ = ["EXIT_SPENT", "SingleProcess"]

logger = logging.getLogger("aiowsgi")

EXIT_SPENT: Final = 4
"""The exit status of a process in which too many threads hang."""


class SingleProcess:
    """A server that takes the signals of its process; see the module's docstring."""

    def __init__(
        self, app: WSGIApplication, config: Config, listeners: Listeners, notifier: Notifier
    ) -> None:
        """``listeners`` are closed when accepting ends."""
        self._config = config
        self._listeners = listeners
        self._notifier = notifier
        self._server = Server(app, config, listeners=listeners)
        self._server.spent = self._give_up
        # Set by TERM and INT, and when too many threads hang.
        self._stop = asyncio.Event()
        # INT has come once.
        self._interrupted = False
        # Too many threads hang.
        self._spent = False
        self._serving = False
        self._born = monotonic()

    def unready(self) -> str:
        """Why no requests should come; empty if they may."""
        if self._server.unready_because:
            return self._server.unready_because
        if self._stop.is_set():
            return "draining"
        return "" if self._server.ready else "starting"

    async def look(self, interest: Detail = Detail.FIGURES) -> Tree:
        """An overview, for the admin endpoint; see ``status/aggregate.py``."""
        facts = ServerFacts(time(), monotonic() - self._born, self.unready())
        return overview(facts, [self._row(interest)])

    def _row(self, interest: Detail) -> WorkerReport:
        state = "ready" if self._serving else "starting"
        report = self._server.report(interest) if self._serving else None
        return WorkerReport(os.getpid(), 0, state, report)

    async def run(self) -> int:
        """Serve until told to stop; the exit status, 0, 1 if requests were cut, or `EXIT_SPENT`.

        Raises ConfigError.
        """
        loop = asyncio.get_running_loop()
        self._take_signals(loop)
        await self._server.start()
        self._serving = True
        for url in self._server.urls:
            logger.info("listening on %s", url)
        self._notifier.ready()
        if (interval := self._notifier.watchdog_interval) is not None:
            self._feed_watchdog(loop, interval)
        await self._stop.wait()
        return await self._drain()

    def _take_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGQUIT, os._exit, 128 + signal.SIGQUIT)
        loop.add_signal_handler(signal.SIGUSR1, self._server.reopen_logs)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR2, self._log_stacks)
        for number in (signal.SIGTTIN, signal.SIGTTOU):
            loop.add_signal_handler(number, logger.warning, "there is one process, and no worker")
        note_signal_handlers(SIGNALS)

    def _feed_watchdog(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        self._notifier.watchdog()
        loop.call_later(interval, self._feed_watchdog, loop, interval)

    def _interrupt(self) -> None:
        if self._interrupted:
            # A person at a terminal does not want to wait.
            os._exit(128 + signal.SIGINT)
        self._interrupted = True
        self._stop.set()

    def _log_stacks(self) -> None:
        overview_now = overview(ServerFacts(time(), 0.0), [self._row(Detail.STACKS)])
        logger.info("stacks of busy threads:\n%s", stack_text(overview_now))

    def _give_up(self) -> None:
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
