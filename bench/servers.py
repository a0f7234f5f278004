"""The servers under test: how each is started, and what a reader must know of it.

Every server is one worker process with the number of threads that the workload asks for, its access
log off unless its name says otherwise, and its limits raised so far that thousands of idle
connections are allowed: what is compared is speed, not defaults. All run under one interpreter.
This is a table only; ``running.py`` starts and stops what it lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeAlias

HOST = "127.0.0.1"
KEEP_ALIVE_SECONDS = 75
"""Seconds that an idle connection is kept, if a server has a setting; the default of aiowsgi."""
CONNECTIONS = 20_000
"""Maximum number of connections, if a server has a setting."""

Arguments: TypeAlias = Callable[[str, int, int], list[str]]
"""Returns the interpreter's arguments for an application, a port and a number of threads."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One row of the table of servers."""

    name: str
    module: str
    """The module that must be importable."""
    arguments: Arguments
    note: str = ""
    """What a reader must know to compare this server fairly."""

    @property
    def installed(self) -> bool:
        """Whether the server's package can be found; a file of the checkout counts."""
        return find_spec(self.module) is not None


def _aiowsgi(*options: str) -> Arguments:
    def arguments(app: str, port: int, threads: int) -> list[str]:
        bind = ["--bind", f"{HOST}:{port}", "--threads", str(threads)]
        return ["-m", "aiowsgi", app, *bind, *options]

    return arguments


def _runner(peer: str) -> Arguments:
    return lambda app, port, threads: ["-m", "bench.runners", peer, app, str(port), str(threads)]


def _granian(app: str, port: int, threads: int) -> list[str]:
    options = ["--interface", "wsgi", "--http", "1", "--no-ws", "--no-access-log", "--workers", "1"]
    limits = ["--backpressure", str(CONNECTIONS), "--backlog", "2048"]
    address = ["--host", HOST, "--port", str(port)]
    return ["-m", "granian", *options, *limits, *address, "--blocking-threads", str(threads), app]


def _waitress(app: str, port: int, threads: int) -> list[str]:
    limits = [
        "--connection-limit",
        str(CONNECTIONS),
        "--channel-timeout",
        "120",
        "--asyncore-use-poll",
    ]
    return ["-m", "waitress", "--listen", f"{HOST}:{port}", "--threads", str(threads), *limits, app]


def _gunicorn(app: str, port: int, threads: int) -> list[str]:
    options = [
        "-k",
        "gthread",
        "-w",
        "1",
        "--threads",
        str(threads),
        "--keep-alive",
        str(KEEP_ALIVE_SECONDS),
    ]
    limits = [
        "--worker-connections",
        str(CONNECTIONS),
        "--log-level",
        "warning",
        "--no-control-socket",
    ]
    return ["-m", "gunicorn", "-b", f"{HOST}:{port}", *options, *limits, app]


H11 = ("--http", "h11")
HTTPTOOLS = ("--http", "httptools")
QUIET = "--no-access-log"

SERVERS = {
    spec.name: spec
    for spec in (
        ServerSpec("aiowsgi-h11", "aiowsgi", _aiowsgi(*H11, QUIET)),
        ServerSpec("aiowsgi-httptools", "aiowsgi", _aiowsgi(*HTTPTOOLS, QUIET)),
        ServerSpec("aiowsgi-httptools+log", "aiowsgi", _aiowsgi(*HTTPTOOLS, "--access-log")),
        ServerSpec("granian", "granian", _granian, "Rust"),
        ServerSpec("bjoern", "bjoern", _runner("bjoern"), "C, no threads"),
        ServerSpec("waitress", "waitress", _waitress),
        ServerSpec("gunicorn-gthread", "gunicorn", _gunicorn),
        ServerSpec("cheroot", "cheroot", _runner("cheroot")),
        ServerSpec("uvicorn+a2wsgi", "a2wsgi", _runner("a2wsgi")),
        ServerSpec(
            "hypercorn", "hypercorn", _runner("hypercorn"), "its number of threads is fixed"
        ),
        ServerSpec("paste", "paste", _runner("paste")),
    )
}
"""Every server by name, in the order of the tables; each has one worker process."""

DEFAULT_SERVERS = tuple(name for name in SERVERS if name not in {"paste", "aiowsgi-httptools+log"})
