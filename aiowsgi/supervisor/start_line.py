"""One line for a person at a terminal: what has started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiowsgi.http1 import head_parser
from aiowsgi.system.event_loop import loop_factory
from aiowsgi.wsgi import handler

if TYPE_CHECKING:
    from aiowsgi.config.options import Config

__all__ = ["start_line"]


def start_line(config: Config, workers: int) -> str:
    """What serves, in words: version, workers and threads, parser, event loop."""
    # Imported here: it takes some time, and most starts are not at a terminal.
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("aiowsgi")
    except PackageNotFoundError:
        release = "of a source tree"
    kind = "pure Python" if handler.__file__.endswith(".py") else "compiled"
    parser = head_parser(config.http).__module__.rpartition(".")[2].removesuffix("_parser")
    loop = loop_factory(config.loop).__module__.partition(".")[0]
    processes, threads = _count(workers, "worker"), _count(config.threads, "thread")
    return f"aiowsgi {release} ({kind}): {processes} x {threads}, {parser}, {loop}; Ctrl-C stops"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
