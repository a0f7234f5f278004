"""The commands ``aiowsgi top``, ``requests`` and ``stacks``: what a running server is doing.

Each asks the admin endpoint of a server, whose address it finds where the server does: ``--admin``,
the variable, the configuration file. ``top`` shows the status once a second until ``q`` or Ctrl-C,
and goes on while the server restarts; the others ask once. On a terminal there are colours if rich
is installed (the extra ``top``). If standard output is not a terminal, plain text is written.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from aiowsgi.admin.client import AdminClient
from aiowsgi.admin.tables import (
    Table,
    fit,
    plain,
    request_grid,
    stack_lines,
    summary,
    worker_grid,
)
from aiowsgi.config.sources import Sources, flag_name
from aiowsgi.config.types import Duration, Integer
from aiowsgi.exceptions import AdminError, ConfigError
from aiowsgi.net.address import parse_bind

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = ["requests", "stacks", "top"]

Part: TypeAlias = str | Table
"""A line, or a table."""

Show: TypeAlias = Callable[[Sequence[Part]], None]


def top(argv: Sequence[str]) -> int:
    """Show the status again and again; returns the exit status.

    Raises ConfigError, and AdminError if the server does not answer at the start; later that is
    shown, since a server may be restarted meanwhile.
    """
    parser = _parser("top", "Show rates, latencies, workers and the oldest requests.")
    parser.add_argument(
        "--interval", metavar="TIME", default="1s", help="Time between updates: 1s."
    )
    parser.add_argument("-n", "--count", metavar="N", default="0", help="Number of updates; 0: on.")
    given = parser.parse_args(argv)
    interval, count = _read(Duration(), given, "interval"), _read(Integer(), given, "count")
    view = _View(_client(given))
    try:
        with _keys() as key, _screen() as show:
            number = 0
            while number < count or not count:
                pressed = key(interval)
                if pressed == "q":
                    break
                view.stacks ^= pressed == "s"
                show(view.parts())
                number += 1
    except KeyboardInterrupt:
        pass
    return 0


class _View:
    """What ``top`` shows: the last status, or the stacks."""

    def __init__(self, client: AdminClient) -> None:
        """Ask for the first time; raises AdminError."""
        self._client = client
        self._before = self._now = client.get("/status.json")
        self.stacks = False

    def parts(self) -> list[Part]:
        """Ask the server again; if it does not answer, that is shown with the last status."""
        trouble: list[Part] = []
        try:
            self._before, self._now = self._now, self._client.get("/status.json")
            body = self._stacks() if self.stacks else self._requests()
        except AdminError as error:
            trouble = [f"{error}; trying again", ""]
            body = self._requests()
        head, *rest = summary(self._now, self._before)
        keys = "q quits, s shows " + ("requests" if self.stacks else "stacks")
        return [f"aiowsgi at {self._client.address}, {head}", *trouble, *rest, keys, "", *body]

    def _requests(self) -> list[Part]:
        return [worker_grid(self._now), "", request_grid(self._now["requests"])]

    def _stacks(self) -> list[Part]:
        return [*stack_lines(self._client.get("/stacks.json"))]


def requests(argv: Sequence[str]) -> int:
    """Show the requests in flight, the oldest first; returns the exit status. Raises as `top`."""
    given = _parser("requests", "Show the requests in flight, the oldest first.").parse_args(argv)
    found = _client(given).get("/requests")
    _print([*_groups(found), request_grid(found)] if found else ["No request is in flight."])
    return 0


def _groups(requests: Sequence[Tree]) -> list[Part]:
    """A line for each place in the code at which there are several requests."""
    places = [request["where"] for request in requests if request["where"]]
    numbers = sorted(((places.count(place), place) for place in {*places}), reverse=True)
    lines: list[Part] = [f"{number} requests at {place}" for number, place in numbers if number > 1]
    return [*lines, ""] if lines else []


def stacks(argv: Sequence[str]) -> int:
    """Show the Python stacks of busy threads; returns the exit status. Raises as `top`."""
    parser = _parser("stacks", "Show the Python stack of each busy thread, equal ones once.")
    about = "Show all calls, not only those of the application's own code."
    parser.add_argument("--all", action="store_true", help=about)
    given = parser.parse_args(argv)
    _print(stack_lines(_client(given).get("/stacks.json"), whole=given.all))
    return 0


# The endpoint


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report as the server's own command line does."""
        raise ConfigError(message.removeprefix("argument "))


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"aiowsgi {name}", description=about, allow_abbrev=False)
    for option, (metavar, text) in _ENDPOINT.items():
        parser.add_argument(flag_name(option), metavar=metavar, help=text)
    parser.add_argument("-c", "--config", metavar="FILE", help="The server's TOML file of options.")
    return parser


_ENDPOINT: Final = {
    "admin": ("ADDRESS", "Address of the admin endpoint: host:port or unix:path."),
    "admin_token_file": ("FILE", "File with the endpoint's token."),
}
"""The options of the server that lead to its endpoint; they are read from its other sources too."""


def _client(given: argparse.Namespace) -> AdminClient:
    flags = {name: value for name in _ENDPOINT if (value := getattr(given, name)) is not None}
    config = Sources(flags, dict(os.environ), os.getcwd(), given.config).load().config
    if config.admin is None:
        raise ConfigError("admin: give the address that the server has as --admin")
    token = ""
    if config.admin_token_file is not None:
        from aiowsgi.admin.auth import read_token  # it imports the endpoint's server

        token = read_token(config.admin_token_file)
    return AdminClient(parse_bind(config.admin), token)


def _read(kind: Any, given: argparse.Namespace, name: str) -> Any:
    try:
        return kind.convert(getattr(given, name))
    except ValueError as error:
        raise ConfigError(f"--{name}: {error}") from None


# Keys


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Gives a function that waits for some seconds, or until a key is pressed, and returns it.

    Without a terminal on standard input and output it only waits, and returns nothing.
    """
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield _sleep
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        # Keys are read one by one and not echoed; Ctrl-C stays SIGINT.
        tty.setcbreak(descriptor)
        yield lambda seconds: _key(descriptor, seconds)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _key(descriptor: int, seconds: float) -> str:
    if not select.select([descriptor], [], [], seconds)[0]:
        return ""
    # At the end of the file nothing would ever be waited for.
    return os.read(descriptor, 1).decode("ascii", "replace") or "q"


# Showing


@contextmanager
def _screen() -> Iterator[Show]:
    """Gives a function that shows parts; on a terminal, in the place of those before."""
    if not sys.stdout.isatty():
        yield _print
        return
    try:
        from rich.live import Live  # the extra "top"
    except ImportError:
        yield _redraw
    else:
        with Live(screen=True, auto_refresh=False) as live:
            yield lambda parts: live.update(_rich(parts), refresh=True)


def _print(parts: Sequence[Part]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in _lines(parts, width):
        print(line)
    sys.stdout.flush()


def _redraw(parts: Sequence[Part]) -> None:
    """Without rich: from the top of the terminal, as much as fits."""
    columns, lines = shutil.get_terminal_size()
    shown = [line[:columns] for line in _lines(parts, columns)][: lines - 1]
    # ECMA-48: cursor to the upper left, erase to the end of the page.
    print("\x1b[H\x1b[J" + "\n".join(shown), flush=True)


def _lines(parts: Sequence[Part], width: int | None) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            # What does not fit goes on in the next line: it may be why the server is not ready.
            yield from wrap(part, width) if width and part else [part]
        else:
            yield from plain(part if width is None else fit(part, width))


_COLOURS: Final = {"NOT READY": "bold red", "SATURATED": "bold yellow", "trying again": "bold red"}
"""Colours of lines that contain these words."""


def _rich(parts: Sequence[Part]) -> Any:
    from rich.console import Group

    return Group(*map(_rich_part, parts))


def _rich_part(part: Part) -> Any:
    from rich.text import Text

    if isinstance(part, str):
        style = next((colour for words, colour in _COLOURS.items() if words in part), "")
        return Text(part, style=style)
    return _Fitted(part)


class _Fitted:
    """A table that is fitted to the width that it gets."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, _console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        table = fit(self._table, options.max_width)
        heading, *rows = plain(table)
        yield Text(heading, style="dim", no_wrap=True, overflow="ellipsis")
        for row, colour in zip(rows, table.colours, strict=True):
            yield Text(row, style=colour, no_wrap=True, overflow="ellipsis")
