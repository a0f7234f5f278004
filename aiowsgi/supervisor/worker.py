"""A worker process: it imports the application, serves it, and ends when it is told to.

A worker is forked by its supervisor, or by the template process of its generation, and begins with
everything in memory: configuration, listening sockets, its place among the workers. Its orders come
over a `Channel`.

Signals to a worker are for people: TERM retires this one worker, which will be replaced; QUIT ends
it at once; USR1 reopens its log files. It ignores the others, above all INT and HUP, which a
terminal sends to all processes: the supervisor decides what is to be done.

When the supervisor has ended, a worker finishes what has begun and ends. One that is still
importing ends at once.

At the end a worker does what an interpreter does at its exit: it waits for the application's
threads that are no daemons, and runs the functions registered with ``atexit``. Both together may
take what is left of ``--graceful-timeout`` (``threads/process_exit.py``).
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import random
import signal
import socket
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.config.sources import prepare_process
from aiowsgi.exceptions import AiowsgiError, ApplicationLoadError
from aiowsgi.logs import setup as logs
from aiowsgi.net.close_listeners import drain_backlog, refuse_new_connections
from aiowsgi.server.after_fork import ForkGuard, note_signal_handlers
from aiowsgi.server.server import Server
from aiowsgi.status.aggregate import Detail
from aiowsgi.supervisor.channel import BEAT, LAST_REPORT, Channel, Message, encode
from aiowsgi.supervisor.children import HARMLESS, die_with_parent
from aiowsgi.supervisor.live_gauges import metrics_directory
from aiowsgi.supervisor.recycling import RecyclingLimits
from aiowsgi.system.event_loop import loop_factory
from aiowsgi.system.interpreter import set_switch_interval
from aiowsgi.system.monkey_patching import refuse_monkey_patching
from aiowsgi.threads.process_exit import finish_threads
from aiowsgi.wsgi.importer import load_application, own_traceback

if TYPE_CHECKING:
    from aiowsgi.config.options import Config
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.status.metrics import Tree
    from aiowsgi.supervisor.connection_counts import ConnectionCounts
    from aiowsgi.wsgi.handler import WSGIApplication

__all__ = ["Application", "Assignment", "Worker", "load", "main", "serve"]

logger = logging.getLogger("aiowsgi")

EXIT_QUIT: Final = 128 + signal.SIGQUIT
"""As a shell reports a process that QUIT has ended."""


SHOWN: Final = 10
"""Requests of which the supervisor knows what they are, should this worker die."""


class Assignment(NamedTuple):
    """What a worker is to serve."""

    config: Config
    """``config.app`` names the application."""
    listeners: Listeners
    counts: ConnectionCounts


class Application(NamedTuple):
    """An application that was imported."""

    app: WSGIApplication
    broken: str = ""
    """Why ``app`` is a page that shows this text, and not what was asked for; or empty."""


def main(assignment: Assignment, place: int, sock: socket.socket) -> int:
    """Import the application and serve it until the supervisor at the other end of ``sock`` says
    otherwise; the exit status: 0 if all requests were finished, 1 if some were cut, or if it never
    served."""
    try:
        die_with_parent(sock, until_cancelled=True)
        prepare(assignment.config)
        # The application may fork while it is imported.
        guard = ForkGuard(assignment.listeners.sockets)
        note_signal_handlers(HARMLESS)
        status = serve(load(assignment.config), assignment, place, sock)
        guard.close()
        return status
    except AiowsgiError as error:
        report_failure(error, sock)
        return 1


def prepare(config: Config) -> None:
    """Set this process up for an application."""
    # A segmentation fault, or the supervisor's ABRT to a loop that is stuck, shows where.
    faulthandler.enable()
    # USR2 shows the stacks though C code holds the interpreter's lock; see ``stack_log.py``.
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    logs.configure(
        level=config.log_level,
        config=config.log_config,
        json_lines=config.access_logformat == "json",
        color=config.color,
    )
    prepare_process(config)


def load(config: Config) -> Application:
    """Import the application; with ``--reload``, one that fails becomes a page that says why.

    Raises ApplicationLoadError.
    """
    assert config.app is not None
    try:
        app = load_application(config.app, factory=config.factory, app_dir=config.app_dir)
        refuse_monkey_patching()
    except ApplicationLoadError as error:
        if not config.reload:
            raise
        from aiowsgi.supervisor.reloader import error_page  # for development only

        broken = f"{own_traceback(error)}{error}"
        return Application(error_page(broken), broken)
    return Application(app)


def report_failure(error: AiowsgiError, sock: socket.socket) -> None:
    """Tell the supervisor why this process cannot serve."""
    trace = own_traceback(error) if isinstance(error, ApplicationLoadError) else ""
    name, message = type(error).__name__, str(error)
    sock.sendall(encode("failed", error=name, message=message, traceback=trace))


def serve(application: Application, assignment: Assignment, place: int, sock: socket.socket) -> int:
    """Serve ``application`` in the loop of this process, and bring the process to its end; the
    exit status."""
    assignment.counts.place = place
    set_switch_interval(assignment.config.switch_interval)
    with asyncio.Runner(loop_factory=loop_factory(assignment.config.loop)) as runner:
        worker = Worker(application, assignment)
        status = runner.run(worker.serve(sock))
        # What the loop would leave behind differs from loop to loop.
        signal.pthread_sigmask(signal.SIG_BLOCK, HARMLESS)
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    finish_threads(worker.deadline, status)
    return status


def condition(report: Tree) -> dict[str, object]:
    """What the supervisor knows of a worker, should it die: see ``beat`` in ``channel.py``."""
    requests = [
        f"{row['method']} {row['path']} ({row['id'] or 'reading its body'})"
        for row in report["requests"][:SHOWN]
    ]
    return {"rss": report["rss"], "in_flight": report["in_flight"], "requests": requests}


class Worker:
    """The server, its orders, and its recycling."""

    def __init__(self, application: Application, assignment: Assignment) -> None:
        config = assignment.config
        self._grace = config.grace
        # An admin endpoint shows what this worker has counted.
        self._observed = config.admin is not None
        self._listeners = assignment.listeners
        self._server = Server(application.app, config, listeners=self._listeners)
        self._server.is_my_turn = assignment.counts.is_my_turn
        self._server.spent = self._give_up
        self._broken = application.broken
        self._limits = RecyclingLimits.of(config, random.SystemRandom())
        self._born = monotonic()
        # It has asked to be replaced.
        self._expired = False
        self.deadline = inf
        """When this process is to have ended, monotonic seconds; infinite before it retires, and if
        it may take as long as it likes."""
        # Made by `serve`; the future is done, with the seconds of grace, when it shall end.
        self._loop: asyncio.AbstractEventLoop
        self._channel: Channel
        self._retired: asyncio.Future[float | None]

    async def serve(self, sock: socket.socket) -> int:
        """Serve until the order comes over ``sock``; the exit status."""
        loop = self._loop = asyncio.get_running_loop()
        self._retired = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._retire, self._grace)
        loop.add_signal_handler(signal.SIGUSR1, self._server.reopen_logs)
        loop.add_signal_handler(signal.SIGQUIT, os._exit, EXIT_QUIT)
        note_signal_handlers((*HARMLESS, signal.SIGTERM, signal.SIGQUIT))
        await self._server.start()
        die_with_parent(sock, until_cancelled=False)
        self._channel = Channel(loop, sock, self._obey, self._orphaned)
        metrics = metrics_directory(os.environ)
        self._channel.send("ready", broken=self._broken, metrics_directory=metrics)
        loop.call_later(BEAT, self._beat)
        grace = await self._retired
        await drain_backlog(self._listeners)
        self._server.close()
        self._listeners.close()
        self._channel.send("draining")
        clean = await self._server.stop(grace)
        if self._observed:
            self._channel.send("report", number=LAST_REPORT, report=self._server.report())
        return 0 if clean else 1

    def _beat(self) -> None:
        report = self._server.report(Detail.HEALTH)
        self._channel.beat(**condition(report))
        if not self._expired:
            age = monotonic() - self._born
            served = self._server.requests_served
            reason = self._limits.reason(requests=served, rss=report["rss"], age=age)
            if reason is not None:
                self._expired = True
                self._channel.send("expired", reason=reason, unfit=False)
        self._loop.call_later(BEAT, self._beat)

    def _give_up(self) -> None:
        """More threads hang than may: serve with the others until another worker has started."""
        self._expired = True
        self._channel.send("expired", reason=self._server.unready_because, unfit=True)

    def _obey(self, order: Message) -> None:
        if order["kind"] == "retire":
            self._retire(order["grace"])
        elif order["kind"] == "reopen":
            self._server.reopen_logs()
        elif order["kind"] == "look":
            report = self._server.report(Detail(order["interest"]))
            self._channel.send("report", number=order["number"], report=report)

    def _orphaned(self) -> None:
        if not self._retired.done():
            logger.warning("the supervisor has ended; finishing what has begun")
            delay = refuse_new_connections(self._listeners)
            self._loop.call_later(delay, self._retire, self._grace)

    def _retire(self, grace: float | None) -> None:
        if not self._retired.done():
            self.deadline = inf if grace is None else monotonic() + grace
            self._retired.set_result(grace)
