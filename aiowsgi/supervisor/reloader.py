"""Development: notice that a file was saved, and show why there is no application.

Files are watched by watchfiles if it is installed (``aiowsgi[reload]``), which the system tells of
changes. Otherwise, and if the system refuses (a folder that may not be read, no watches left), all
files that can be read are looked at again and again: a thousand files take a few milliseconds, ten
times a second at most.

Watching is done by a process of its own, since watchfiles runs threads and the supervisor, which
forks, must not. It sends the supervisor one line of JSON for each batch of changes.

`Filter` decides which files matter. What is done about a change is decided by the supervisor.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from functools import partial
from html import escape
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from aiowsgi.exceptions import ConfigError
from aiowsgi.supervisor.children import Origin, die_with_parent, fork

if TYPE_CHECKING:
    from aiowsgi.config.options import Config
    from aiowsgi.wsgi.handler import StartResponse, WSGIApplication

__all__ = ["Filter", "beside_watch", "changes", "describe", "error_page"]

logger = logging.getLogger("aiowsgi")

_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
"""Directories with thousands of files that are not edited; hidden directories are skipped too."""


class Filter(NamedTuple):
    """Which files are watched."""

    directories: Sequence[str]
    """Absolute."""
    include: Sequence[str] = ("*.py",)
    exclude: Sequence[str] = ()
    """fnmatch patterns that the name, or the path below the directory, may match."""

    @classmethod
    def of(cls, config: Config) -> Filter:
        """The filter that the options describe; directories may be relative to the current one.

        Raises ConfigError for a directory that does not exist.
        """
        given = config.reload_dir or (config.app_dir or config.chdir or os.curdir,)
        directories = [os.path.abspath(directory) for directory in given]
        for directory in directories:
            if not os.path.isdir(directory):
                raise ConfigError(f"reload_dir: {directory}: no such directory")
        return cls(directories, ("*.py", *config.reload_include), config.reload_exclude)

    def wants(self, path: str) -> bool:
        """Whether a change of the file at ``path`` matters."""
        relative = next((r for d in self.directories if (r := _below(d, path)) is not None), None)
        if relative is None or any(map(_is_skipped, relative.split(os.sep)[:-1])):
            return False
        return _matches(relative, self.include) and not _matches(relative, self.exclude)

    def files(self) -> Iterator[os.DirEntry[str]]:
        """The files that exist now and matter."""
        waiting = list(self.directories)
        while waiting:
            try:
                entries = list(os.scandir(waiting.pop()))
            except OSError:
                continue  # it was removed a moment ago, or may not be read
            for entry in entries:
                if not entry.is_dir():
                    if self.wants(entry.path):
                        yield entry
                elif not entry.is_symlink() and not _is_skipped(entry.name):
                    waiting.append(entry.path)


def _below(directory: str, path: str) -> str | None:
    prefix = os.path.join(directory, "")
    return path.removeprefix(prefix) if path.startswith(prefix) else None


def _is_skipped(directory: str) -> bool:
    return directory in _SKIPPED or directory.startswith(".")


def _matches(relative: str, patterns: Iterable[str]) -> bool:
    name = os.path.basename(relative)
    return any(fnmatch(name, pattern) or fnmatch(relative, pattern) for pattern in patterns)


def describe(paths: Iterable[str]) -> str:
    """One line that names the changed files, relative to the current directory."""
    names = sorted({os.path.relpath(path) for path in paths})
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} changed"


_NAMED: Final = 3


# Watching


async def beside_watch(
    main: Coroutine[Any, Any, int],
    config: Config,
    changed: Callable[[str], object],
    origin: Origin,
) -> int:
    """Run ``main``, and call ``changed`` with a line that says what has, each time files have."""
    wanted = Filter.of(config)
    # Looked at here, so that a change is seen which comes before the other process watches.
    pid, sock = fork(partial(_watch, wanted, _look(wanted)), origin)
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    listening = asyncio.create_task(_listen(reader, changed))
    try:
        return await main
    finally:
        listening.cancel()
        writer.close()
        os.kill(pid, signal.SIGKILL)
        # As process 1, the supervisor may have waited for it already.
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)  # noqa: ASYNC222 - it was killed


async def _listen(reader: asyncio.StreamReader, changed: Callable[[str], object]) -> None:
    while line := await reader.readline():
        message = json.loads(line)
        if message["problem"]:
            logger.warning("%s", message["problem"])
        else:
            changed(message["changed"])
    logger.error("files are no longer watched: the process that watched them has ended")


def _watch(wanted: Filter, known: Files, sock: socket.socket) -> int:
    """Watch until the supervisor ends; in a process of its own."""
    die_with_parent(sock, until_cancelled=True)
    asyncio.run(_send_changes(wanted, known, sock))
    return 0


async def _send_changes(wanted: Filter, known: Files, sock: socket.socket) -> None:
    def send(changed: str, problem: str = "") -> None:
        sock.sendall(json.dumps({"changed": changed, "problem": problem}).encode() + b"\n")

    async for paths in changes(wanted, lambda problem: send("", problem), known):
        send(describe(paths))


async def changes(
    wanted: Filter, refused: Callable[[str], object], known: Files | None = None
) -> AsyncIterator[list[str]]:
    """The paths that have changed since ``known``, each time that some have; for ever.

    ``refused`` is told if the system cannot tell of changes, so that files are looked at instead.
    """
    known = _look(wanted) if known is None else known
    try:
        from watchfiles import awatch
    except ImportError:
        pass
    else:
        try:
            async for paths in _told_by_system(wanted, awatch, known):
                yield paths
        except OSError as error:
            refused(f"looking at files again and again, as the system refuses to watch: {error}")
    async for paths in _poll(wanted, known):
        yield paths


async def _told_by_system(
    wanted: Filter, awatch: Callable[..., AsyncIterator[Any]], known: Files
) -> AsyncIterator[list[str]]:
    # What was saved before the system began to watch, which may take a while.
    before = _look(wanted)
    if paths := _differences(known, before):
        yield paths
    # Half of a tenth of a second without a further change ends a batch: editors write in steps.
    options = {"watch_filter": None, "step": 50, "rust_timeout": 1000, "yield_on_timeout": True}
    first = True
    async for found in awatch(*wanted.directories, **options):
        paths = [path for _, path in found if wanted.wants(path)]
        if first:
            paths = paths or _differences(before, _look(wanted))
            first = False
        if paths:
            yield paths


_INTERVAL: Final = 0.1
_SHARE: Final = 10
"""Seconds between two looks, and how many times as long as a look takes the pause must be."""


async def _poll(wanted: Filter, known: Files) -> AsyncIterator[list[str]]:
    pause = 0.0
    while True:
        await asyncio.sleep(pause)
        began = monotonic()
        seen = _look(wanted)
        pause = max(_INTERVAL, (monotonic() - began) * _SHARE)
        if paths := _differences(known, seen):
            yield paths
        known = seen


Files: TypeAlias = dict[str, tuple[int, int]]
"""Time and size of every file, by its path."""


def _differences(known: Files, seen: Files) -> list[str]:
    return [path for path in {**known, **seen} if known.get(path) != seen.get(path)]


def _look(wanted: Filter) -> Files:
    """Time and size of every file; two saves in one tick of the clock mostly differ in size."""
    found = {}
    for entry in wanted.files():
        try:
            status = entry.stat()
        except OSError:
            continue  # it was removed a moment ago
        found[entry.path] = status.st_mtime_ns, status.st_size
    return found


# When there is no application


def error_page(text: str) -> WSGIApplication:
    """An application that answers every request with ``text``: why the real one is not there."""
    body = _PAGE.format(text=escape(text)).encode("utf-8", "backslashreplace")

    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:  # noqa: ARG001
        fields = [("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store")]
        start_response("500 Internal Server Error", fields)
        return [body]

    return application


_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<title>The application cannot be imported</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto }}
pre {{ padding: 1rem; overflow: auto; background: #f4f4f4; color: #222 }}
</style>
<h1>The application cannot be imported</h1>
<pre>{text}</pre>
<p>Save a file and it is tried again.</p>
"""
