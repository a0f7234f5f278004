"""Blocking ways to serve: what the command line calls, and ``aiowsgi.serve`` and ``aiowsgi.run``.

Here the process is set up as a server's: signals, logging, the event loop's kind. Exit statuses
are those of ``cli.py``, and

== ===========================================================================
0  stopped by INT or TERM, everything answered
1  stopped, but requests in progress had to be cut after ``graceful_timeout``
== ===========================================================================
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiowsgi import logs
from aiowsgi.config import Config
from aiowsgi.importer import load_application
from aiowsgi.server import Server
from aiowsgi.settings import enter
from aiowsgi.sockets import raise_descriptor_limit

if TYPE_CHECKING:
    from aiowsgi.wsgi import WSGIApplication

__all__ = ["loop_factory", "run", "run_server", "serve"]

logger = logging.getLogger("aiowsgi")


def serve(app: WSGIApplication, config: Config | None = None, **options: Any) -> int:
    """Serve ``app`` until INT or TERM; returns the exit status.

    ``options`` are those of `Config`, which may be given instead. Takes the process's signals, so
    it is for the main thread. Raises `ConfigError` and `BindError`.
    """
    return run_server(app, config or Config(**options))


def run(app: str, config: Config | None = None, **options: Any) -> int:
    """Import the application ``app`` names, ``module:attribute``, and serve it; see `serve`.

    Raises `ApplicationLoadError` too.
    """
    return run_server(app, config or Config(app=app, **options))


def run_server(app: str | WSGIApplication, config: Config) -> int:
    """Serve ``app``, or the application of that name, as ``config`` says."""
    logs.configure(
        level=config.log_level,
        config=config.log_config,
        json_lines=config.access_logformat == "json",
        color=config.color,
    )
    limit = raise_descriptor_limit()
    logger.debug("file descriptors: %d of %d", *limit)
    if isinstance(app, str):
        enter(config)
        app = load_application(app, factory=config.factory, app_dir=config.app_dir)
        logs.enable_loggers()
    with asyncio.Runner(loop_factory=loop_factory(config.loop)) as runner:
        return runner.run(_serve(app, config))


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop that ``name`` says: ``auto``, ``uvloop`` or ``asyncio``."""
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise
        else:
            factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
            return factory
    return asyncio.new_event_loop


async def _serve(app: WSGIApplication, config: Config) -> int:
    server = Server(app, config)
    await server.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if stop.is_set():
            # The second INT: whoever sits at the terminal does not want to wait.
            os._exit(130)
        stop.set()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGQUIT, os._exit, 131)
    loop.add_signal_handler(signal.SIGUSR1, server.reopen_logs)
    for url in server.urls:
        logger.info("listening on %s", url)
    await stop.wait()
    logger.info("stopping")
    clean = await server.stop()
    logger.info("stopped" if clean else "stopped; some requests were cut")
    return 0 if clean else 1
