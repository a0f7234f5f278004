"""Runs a server in a background thread, for tests of applications::

    with aiowsgi.testing.serve(app) as server:
        requests.get(server.url)

The pytest plugin has a fixture ``aiowsgi_server``: a function with the same arguments that serves
an application until the test ends and returns the `RunningServer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiowsgi.config.options import Config
from aiowsgi.server.server import Server
from aiowsgi.supervisor.runner import loop_factory
from aiowsgi.threads.background import in_background

if TYPE_CHECKING:
    from aiowsgi.wsgi.handler import WSGIApplication

__all__ = ["RunningServer", "serve"]


class RunningServer:
    """A server in a background thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url
        """Base URL of the application, without a slash at the end."""
        self.port = server.port
        """The port; 0 on a unix socket."""


@contextmanager
def serve(app: WSGIApplication, **options: Any) -> Iterator[RunningServer]:
    """Serve ``app`` in a background thread until the block ends.

    ``options`` are those of `Config`. The defaults differ in two: ``bind`` is a free port of
    127.0.0.1, and ``access_log`` is off. Raises the errors of `Server.start`. Requests in progress
    at the end of the block are aborted.
    """
    config = Config(**{"bind": ("127.0.0.1:0",), "access_log": False, **options})

    async def main(ready: Callable[[RunningServer], None], stop: asyncio.Event) -> None:
        server = Server(app, config)
        await server.start()
        ready(RunningServer(server))
        await stop.wait()
        await server.stop(0)

    with in_background(main, loop_factory(config.loop)) as running:
        yield running
