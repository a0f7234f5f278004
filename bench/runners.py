"""Start the peers that have no command line of their own for it: ``python -m bench.runners``.

Each function serves on 127.0.0.1 until it is terminated, configured as a careful operator would
for one process behind kept connections. A peer is imported only by its own function.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.servers import CONNECTIONS, HOST, KEEP_ALIVE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable


def paste(app: str, port: int, threads: int) -> None:
    """Paste's thread-pool server with HTTP/1.1 switched on; its default is HTTP/1.0."""
    server = import_module("paste.httpserver")
    server.serve(
        _load(app),
        HOST,
        port,
        protocol_version="HTTP/1.1",
        use_threadpool=True,
        threadpool_workers=threads,
        threadpool_options={"spawn_if_under": threads},
        request_queue_size=1024,
    )


def cheroot(app: str, port: int, threads: int) -> None:
    """Cheroot with as many kept connections as it likes; its default closes all but ten."""
    server = import_module("cheroot.wsgi").Server(
        (HOST, port),
        _load(app),
        numthreads=threads,
        max=threads,
        timeout=KEEP_ALIVE_SECONDS,
        request_queue_size=2048,
    )
    server.keep_alive_conn_limit = CONNECTIONS
    server.safe_start()


def bjoern(app: str, port: int, _threads: int) -> None:
    """The C server; it has no threads, whatever their number asked for."""
    import_module("bjoern").run(_load(app), HOST, port)


def hypercorn(app: str, port: int, _threads: int) -> None:
    """Hypercorn on uvloop; its threads are the event loop's default executor's, a fixed number."""
    config = import_module("hypercorn.config").Config()
    config.application_path = f"wsgi:{app}"
    config.bind = [f"{HOST}:{port}"]
    config.worker_class = "uvloop"
    config.backlog = 2048
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    # The default closes a kept connection after a thousand requests.
    config.keep_alive_max_requests = sys.maxsize
    import_module("hypercorn.run").run(config)


def a2wsgi(app: str, port: int, threads: int) -> None:
    """Uvicorn with its fastest loop and parser, the application behind a2wsgi's adapter."""
    middleware = import_module("a2wsgi").WSGIMiddleware(_load(app), workers=threads)
    import_module("uvicorn").run(
        middleware,
        host=HOST,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


RUNNERS: dict[str, Callable[[str, int, int], None]] = {
    "paste": paste,
    "cheroot": cheroot,
    "bjoern": bjoern,
    "hypercorn": hypercorn,
    "a2wsgi": a2wsgi,
}


def main(peer: str, target: str, port: str, threads: str) -> None:
    """Serve ``module:attribute`` by the named peer."""
    logging.basicConfig(level=logging.ERROR)
    RUNNERS[peer](target, int(port), int(threads))


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


if __name__ == "__main__":
    main(*sys.argv[1:])
