"""Development: notice that a file was saved, and show why there is no application.

Files are watched by watchfiles where it is installed (``aiowsgi[reload]``), which the system tells
of changes, and otherwise by looking at all of them again and again: a thousand files take a few
milliseconds, ten times a second at most.

`Filter` decides which files matter; a list of changes is all that comes out. What is done about it
is the supervisor's business.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from html import escape
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiowsgi.exceptions import ConfigError

if TYPE_CHECKING:
    from aiowsgi.config.options import Config
    from aiowsgi.wsgi.handler import StartResponse, WSGIApplication

__all__ = ["Filter", "beside_watch", "changes", "describe", "error_page"]

logger = logging.getLogger("aiowsgi")

_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
"""Directories that hold files by the thousand which nobody edits; hidden ones are skipped too."""


class Filter(NamedTuple):
    """Which files are watched."""

    directories: Sequence[str]
    """Absolute."""
    include: Sequence[str] = ("*.py",)
    exclude: Sequence[str] = ()
    """Patterns of fnmatch, for the name or for the path below the directory."""

    @classmethod
    def of(cls, config: Config) -> Filter:
        """What the options say; relative directories are meant from the current one.

        Raises ConfigError for one that does not exist.
        """
        given = config.reload_dir or (config.app_dir or config.chdir or os.curdir,)
        directories = [os.path.abspath(directory) for directory in given]
        for directory in directories:
            if not os.path.isdir(directory):
                raise ConfigError(f"reload_dir: {directory}: no such directory")
        return cls(directories, ("*.py", *config.reload_include), config.reload_exclude)

    def wants(self, path: str) -> bool:
        """Whether a change of this file matters."""
        relative = next((r for d in self.directories if (r := _below(d, path)) is not None), None)
        if relative is None or any(map(_is_skipped, relative.split(os.sep)[:-1])):
            return False
        return _matches(relative, self.include) and not _matches(relative, self.exclude)

    def files(self) -> Iterator[os.DirEntry[str]]:
        """All files that are wanted now."""
        waiting = list(self.directories)
        while waiting:
            try:
                entries = list(os.scandir(waiting.pop()))
            except OSError:
                continue  # removed meanwhile, or not ours to read
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
    """One line that says what has changed, as seen from the current directory."""
    names = sorted({os.path.relpath(path) for path in paths})
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} changed"


_NAMED: Final = 3


# Watching


async def beside_watch(
    main: Coroutine[Any, Any, int], config: Config, changed: Callable[[str], object]
) -> int:
    """Run ``main``, and call ``changed`` with a line that says what has, each time files have."""
    watch = asyncio.create_task(_watch(Filter.of(config), changed))
    try:
        return await main
    finally:
        watch.cancel()


async def _watch(wanted: Filter, changed: Callable[[str], object]) -> None:
    try:
        async for paths in changes(wanted):
            changed(describe(paths))
    except OSError as error:
        logger.error("files are no longer watched: %s", error)


async def changes(wanted: Filter) -> AsyncIterator[list[str]]:
    """The paths that have changed, each time that some have; for ever."""
    try:
        from watchfiles import awatch
    except ImportError:
        async for paths in _poll(wanted):
            yield paths
        return
    # Half of a tenth of a second without a further change ends a batch: editors write in steps.
    watcher = awatch(*wanted.directories, watch_filter=None, step=50, recursive=True)
    async for found in watcher:
        if paths := [path for _, path in found if wanted.wants(path)]:
            yield paths


_INTERVAL: Final = 0.1
_SHARE: Final = 10
"""Seconds between two looks, and how many times as long as a look takes the pause must be."""


async def _poll(wanted: Filter) -> AsyncIterator[list[str]]:
    known = _look(wanted)
    pause = _INTERVAL
    while True:
        await asyncio.sleep(pause)
        began = monotonic()
        seen = _look(wanted)
        pause = max(_INTERVAL, (monotonic() - began) * _SHARE)
        if paths := [path for path in {**known, **seen} if known.get(path) != seen.get(path)]:
            yield paths
        known = seen


def _look(wanted: Filter) -> dict[str, tuple[int, int]]:
    """Time and size of every file; two saves in one tick of the clock mostly differ in size."""
    found = {}
    for entry in wanted.files():
        try:
            status = entry.stat()
        except OSError:
            continue  # removed meanwhile
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
