"""A server in a background thread, for tests of applications::

    with aiowsgi.testing.serve(app) as server:
        requests.get(server.url)

The pytest plugin offers the same as the fixture ``aiowsgi_server``, a function that serves an
application until the test is over and returns the `RunningServer`.
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
    """A server that runs in another thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url
        """Where the application can be reached, without a slash at the end."""
        self.port = server.port
        """The port; 0 on a unix socket."""


@contextmanager
def serve(app: WSGIApplication, **options: Any) -> Iterator[RunningServer]:
    """Serve ``app`` in a background thread for as long as the block runs.

    ``options`` are those of `Config`; without ``bind`` a free port of 127.0.0.1 is taken, and
    nothing is written to the access log unless ``access_log=True``. Raises what `Server.start`
    raises. Requests in progress at the end of the block are cut.
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
