"""``aiowsgi top``, ``requests`` and ``stacks``: what a server does, in a terminal.

Each asks the admin endpoint of a server that runs, found where the server itself finds its address:
``--admin``, the variable, the configuration file. ``top`` goes on until Ctrl-C, which is its proper
end; the others ask once. With rich (the extra ``top``) there are colours and a screen of its own,
without it plain text; not on a terminal, plain text in any case, one overview after the other.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from aiowsgi.admin.client import AdminClient
from aiowsgi.admin.tables import Table, plain, request_grid, stack_lines, summary, worker_grid
from aiowsgi.config.sources import Sources, flag_name
from aiowsgi.config.types import Duration, Integer
from aiowsgi.exceptions import ConfigError
from aiowsgi.net.address import parse_bind

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = ["requests", "stacks", "top"]

Part: TypeAlias = str | Table
"""A line, or a table."""

UNCUT: Final = 12
"""Characters of cells that are shown whole on any terminal."""

Show: TypeAlias = Callable[[Sequence[Part]], None]


def top(argv: Sequence[str]) -> int:
    """Show the whole once a second, until interrupted; the exit status.

    Raises ConfigError, and AdminError where there is nobody to ask at the start; later that is
    shown, for a server may be restarted while one watches.
    """
    parser = _parser("top", "Show rates, latencies, workers and the oldest requests.")
    parser.add_argument("--interval", metavar="TIME", default="1s", help="Between two looks: 1s.")
    parser.add_argument("-n", "--count", metavar="N", default="0", help="End after so many looks.")
    given = parser.parse_args(argv)
    interval, count = _read(Duration(), given, "interval"), _read(Integer(), given, "count")
    client = _client(given)
    before = client.get("/status.json")
    try:
        with _screen() as show:
            number = 0
            while number < count or not count:
                time.sleep(interval)
                now = client.get("/status.json")
                show(_parts(client, now, before))
                before, number = now, number + 1
    except KeyboardInterrupt:
        pass
    return 0


def requests(argv: Sequence[str]) -> int:
    """Show the requests in flight, the oldest first; the exit status. Raises as `top` does."""
    given = _parser("requests", "Show the requests in flight, the oldest first.").parse_args(argv)
    grid = request_grid(_client(given).get("/requests"))
    _print([grid] if grid.rows else ["No request is in flight."])
    return 0


def stacks(argv: Sequence[str]) -> int:
    """Show the Python stacks of busy threads; the exit status. Raises as `top` does."""
    given = _parser("stacks", "Show the Python stack of each busy thread.").parse_args(argv)
    _print(stack_lines(_client(given).get("/stacks.json")))
    return 0


def _parts(client: AdminClient, now: Tree, before: Tree) -> list[Part]:
    head, *rest = summary(now, before)
    return [
        f"aiowsgi at {client.address}, {head}",
        *rest,
        "",
        worker_grid(now),
        "",
        request_grid(now["requests"]),
    ]


# Whom to ask


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report as the server's own command line does."""
        raise ConfigError(message.removeprefix("argument "))


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"aiowsgi {name}", description=about, allow_abbrev=False)
    for option, (metavar, text) in _WHOM.items():
        parser.add_argument(flag_name(option), metavar=metavar, help=text)
    parser.add_argument("-c", "--config", metavar="FILE", help="The server's TOML file of options.")
    return parser


_WHOM: Final = {
    "admin": ("ADDRESS", "The admin endpoint, as the server has it: host:port or unix:path."),
    "admin_token_file": ("FILE", "The file with the endpoint's token."),
}
"""The options of the server that lead to its endpoint; found in its other sources too."""


def _client(given: argparse.Namespace) -> AdminClient:
    flags = {name: value for name in _WHOM if (value := getattr(given, name)) is not None}
    config = Sources(flags, dict(os.environ), os.getcwd(), given.config).load().config
    if config.admin is None:
        raise ConfigError("admin: whom to ask is not known; give --admin as the server has it")
    token = ""
    if config.admin_token_file is not None:
        from aiowsgi.admin.auth import read_token  # with it comes the endpoint itself

        token = read_token(config.admin_token_file)
    return AdminClient(parse_bind(config.admin), token)


def _read(kind: Any, given: argparse.Namespace, name: str) -> Any:
    try:
        return kind.convert(getattr(given, name))
    except ValueError as error:
        raise ConfigError(f"--{name}: {error}") from None


# Showing


@contextmanager
def _screen() -> Iterator[Show]:
    """Where overviews are shown, one in the place of the other where that can be done."""
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
    for line in _lines(parts):
        print(line)
    sys.stdout.flush()


def _redraw(parts: Sequence[Part]) -> None:
    """Without rich: from the top of the terminal, as much as it has room for."""
    columns, lines = shutil.get_terminal_size()
    shown = [line[:columns] for line in _lines(parts)][: lines - 1]
    # ECMA-48: cursor to the upper left, erase to the end of the page.
    print("\x1b[H\x1b[J" + "\n".join(shown), flush=True)


def _lines(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        yield from [part] if isinstance(part, str) else plain(part)


def _rich(parts: Sequence[Part]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown: list[Any] = []
    for part in parts:
        if isinstance(part, str):
            shown.append(Text(part, style="bold red" if "NOT READY" in part else ""))
            continue
        table = Table(box=None, pad_edge=False, header_style="dim")
        for number, heading in enumerate(part.headings):
            longest = max((len(row[number]) for row in part.rows), default=0)
            # A request is a line: names and paths are cut for that, figures are not.
            table.add_column(
                heading.removeprefix(">"),
                justify="right" if heading.startswith(">") else "left",
                no_wrap=True,
                min_width=longest if longest <= UNCUT else None,
            )
        for row, colour in zip(part.rows, part.colours, strict=True):
            table.add_row(*map(Text, row), style=colour or None)
        shown.append(table)
    return Group(*shown)
