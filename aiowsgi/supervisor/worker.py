"""A worker process: it is told what to serve, serves it, and ends when it is told to.

Its supervisor gives it the listening sockets and one end of a `Channel`, over which it gets its
orders. Signals are for people: TERM retires this one worker, which will be replaced; QUIT ends it
at once; USR1 reopens its log files. INT and HUP reach it from a terminal, together with the
supervisor, which decides what is to be done.

When the supervisor has gone, so that nobody would replace it or stop it, a worker finishes what has
begun and ends.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import random
import signal
import socket
from time import monotonic
from typing import TYPE_CHECKING, Final

from aiowsgi.config.options import Config
from aiowsgi.config.sources import prepare_process
from aiowsgi.exceptions import AiowsgiError, ApplicationLoadError
from aiowsgi.logs import setup as logs
from aiowsgi.net.close_listeners import drain_backlog, refuse_new_connections
from aiowsgi.net.listeners import Listener, Listeners, bound_address
from aiowsgi.server.server import Server
from aiowsgi.status.aggregate import Detail
from aiowsgi.supervisor.channel import BEAT, FAREWELL, Channel, Message, encode, read_first
from aiowsgi.supervisor.load_board import ConnectionCounts
from aiowsgi.supervisor.recycling import RecyclingLimits
from aiowsgi.system.event_loop import loop_factory
from aiowsgi.system.interpreter import set_switch_interval
from aiowsgi.system.memory import resident_bytes
from aiowsgi.wsgi.importer import load_application, own_traceback

if TYPE_CHECKING:
    from aiowsgi.wsgi.handler import WSGIApplication

__all__ = ["Worker", "main"]

logger = logging.getLogger("aiowsgi")

EXIT_QUIT: Final = 128 + signal.SIGQUIT
"""As a shell reports a process that QUIT has ended."""


def main(descriptor: int) -> int:
    """Serve as the supervisor at the other end of ``descriptor`` says; the exit status.

    0 if all requests came to their end, 1 if some were cut, or if it never served.
    """
    # A segmentation fault, or the supervisor's ABRT to a loop that is stuck, shows where.
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGHUP):
        # Not SIG_IGN, which programs that the application executes would inherit.
        signal.signal(number, lambda *_: None)
    with socket.socket(fileno=descriptor) as sock:
        try:
            return _serve(read_first(sock), sock)
        except EOFError:
            return 1
        except AiowsgiError as error:
            trace = own_traceback(error) if isinstance(error, ApplicationLoadError) else ""
            name, message = type(error).__name__, str(error)
            sock.sendall(encode("failed", error=name, message=message, traceback=trace))
            return 1


def _serve(charge: Message, sock: socket.socket) -> int:
    config = Config(**charge["config"])
    logs.configure(
        level=config.log_level,
        config=config.log_config,
        json_lines=config.access_logformat == "json",
        color=config.color,
    )
    listeners = _inherited(charge["sockets"])
    board = ConnectionCounts(charge["board"], charge["place"])
    os.close(charge["board"])
    app, broken = _application(charge["app"], config)
    set_switch_interval(config.switch_interval)
    with asyncio.Runner(loop_factory=loop_factory(config.loop)) as runner:
        return runner.run(Worker(app, config, listeners, board, broken).serve(sock))


def _inherited(sockets: list[tuple[int, str, bool]]) -> Listeners:
    """Listeners without files: those of unix sockets are the supervisor's to remove."""
    listeners = []
    for descriptor, name, inherited in sockets:
        sock = socket.socket(fileno=descriptor)
        sock.set_inheritable(False)
        listeners.append(Listener(sock, bound_address(sock), name, inherited=inherited))
    return Listeners(listeners)


def _application(name: str, config: Config) -> tuple[WSGIApplication, str]:
    """The application; in development also one that shows why there is none, and that text."""
    prepare_process(config)
    try:
        app = load_application(name, factory=config.factory, app_dir=config.app_dir)
    except ApplicationLoadError as error:
        if not config.reload:
            raise
        from aiowsgi.supervisor.reloader import error_page  # for development only

        broken = f"{own_traceback(error)}{error}"
        return error_page(broken), broken
    finally:
        logs.enable_loggers()
    return app, ""


class Worker:
    """The server, its orders, and its wear."""

    def __init__(
        self,
        app: WSGIApplication,
        config: Config,
        listeners: Listeners,
        board: ConnectionCounts,
        broken: str = "",
    ) -> None:
        """``board`` is where to see whose turn it is to accept; ``broken`` says why ``app`` is not
        what was asked for, and is empty if it is."""
        self._grace = config.graceful_timeout or None
        # There is an endpoint at which somebody may ask.
        self._observed = config.admin is not None
        self._server = Server(app, config, listeners=listeners)
        self._server.is_my_turn = board.is_my_turn
        self._server.spent = self._give_up
        self._listeners = listeners
        self._broken = broken
        self._limits = RecyclingLimits.of(config, random.SystemRandom())
        self._born = monotonic()
        # It has said that it is worn.
        self._worn = False
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
        await self._server.start()
        self._channel = Channel(loop, sock, self._obey, self._orphaned)
        self._channel.send("ready", broken=self._broken)
        loop.call_later(BEAT, self._beat)
        grace = await self._retired
        await drain_backlog(self._listeners)
        self._server.close()
        self._listeners.close()
        self._channel.send("draining")
        clean = await self._server.stop(grace)
        if self._observed:
            self._channel.send("report", number=FAREWELL, report=self._server.report())
        return 0 if clean else 1

    def _beat(self) -> None:
        self._channel.beat()
        if not self._worn:
            age = monotonic() - self._born
            served = self._server.requests_served
            reason = self._limits.reason(requests=served, rss=resident_bytes(), age=age)
            if reason is not None:
                self._worn = True
                self._channel.send("worn", reason=reason, unfit=False)
        self._loop.call_later(BEAT, self._beat)

    def _give_up(self) -> None:
        """More threads hang than may: serve with the others until somebody stands in for us."""
        self._worn = True
        self._channel.send("worn", reason=self._server.unready_because, unfit=True)

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
            logger.warning("the supervisor has gone; finishing what has begun")
            self._loop.call_later(
                refuse_new_connections(self._listeners), self._retire, self._grace
            )

    def _retire(self, grace: float | None) -> None:
        if not self._retired.done():
            self._retired.set_result(grace)
