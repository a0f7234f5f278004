"""What people read about the options: ``--help``, the README's table, ``--print-config``.

All of it is rendered from the fields of ``Config`` into text. Nothing is printed here, and nothing
is written here about any single option. The README has the table between two comments,
``<!-- options -->`` and ``<!-- /options -->``; this prints it anew::

    python -c "from aiowsgi import reference; print(reference.render_option_table())"
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Final, NamedTuple

from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.sources import Settings, flag_name, key_name
from aiowsgi.config.types import Auto, Plain

__all__ = ["Entry", "render_help", "render_option_table", "render_settings"]

_DEFAULTS: Final = Config()


def _sections() -> dict[str, list[str]]:
    """The options' names under the title of their section, in order."""
    sections: dict[str, list[str]] = {}
    title = ""
    for name, option in OPTIONS.items():
        title = option.section or title
        sections.setdefault(title, []).append(name)
    return sections


def _plain(name: str, value: object) -> Plain | None:
    """How a value is written; None where it is not set."""
    kind = OPTIONS[name].kind
    return None if value is None and not isinstance(kind, Auto) else kind.plain(value)


def _default(name: str) -> str:
    """The default in words; empty where nothing is set, or a flag is off."""
    plain = _plain(name, getattr(_DEFAULTS, name))
    if isinstance(plain, bool):
        return "on" if plain else ""
    if isinstance(plain, list):
        return ",".join(plain)
    return "" if plain is None else str(plain)


# The command line's help


class Entry(NamedTuple):
    """One line: how it is written, and what it does."""

    usage: str
    text: str


_COLUMN: Final = 32
"""Where the texts begin: right of most flags, with room for a sentence in 80 columns."""

_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
"""textwrap breaks lines at ASCII white space only."""


def render_help(width: int, before: str, commands: Iterable[Entry], after: str) -> str:
    """``--help`` for a terminal of ``width`` columns.

    ``before`` and ``after`` are put around it as they are; ``commands`` are the flags of the
    command line that are no options.
    """
    blocks = [before, _section("Commands", commands, width)]
    for title, names in _sections().items():
        blocks.append(_section(title, map(_entry, names), width))
    return "\n\n".join([*blocks, after])


def _section(title: str, entries: Iterable[Entry], width: int) -> str:
    return "\n".join([f"{title}:", *(line for entry in entries for line in _lines(entry, width))])


def _lines(entry: Entry, width: int) -> Iterator[str]:
    left = f"  {entry.usage}"
    if len(left) > _COLUMN - 2:
        yield left
        left = ""
    for text in textwrap.wrap(entry.text, max(width - _COLUMN, 20), break_on_hyphens=False):
        yield f"{left:{_COLUMN}}{text.replace(_NO_BREAK, ' ')}"
        left = ""


def _entry(name: str) -> Entry:
    default = f" [default:{_NO_BREAK}{_default(name)}]" if _default(name) else ""
    return Entry(_usage(name), OPTIONS[name].text + default)


def _usage(name: str) -> str:
    """How the option is written on a command line; the application is written by itself."""
    option = OPTIONS[name]
    if name == "app":
        return option.kind.metavar
    flag = flag_name(name) if option.kind.metavar else f"--[no-]{key_name(name)}"
    flags = sorted([flag, *option.flags], key=lambda flag: flag.startswith("--"))
    return f"{', '.join(flags)} {option.kind.metavar}".rstrip()


# The README's table


def render_option_table() -> str:
    """The options in Markdown: a table for each section, without a line's end at the end."""
    return "\n\n".join(_markdown(title, names) for title, names in _sections().items())


def _markdown(title: str, names: Iterable[str]) -> str:
    head = [f"| {title} | Default | Meaning |", "|---|---|---|"]
    return "\n".join(head + [_row(name) for name in names])


_BAR: Final = "\\|"
"""Within a table a bar by itself ends the cell, even in a code span (GFM section 4.10)."""


def _row(name: str) -> str:
    option = OPTIONS[name]
    variables = f" Also `{'`, `'.join(option.variables)}`." if option.variables else ""
    default = f"`{_default(name)}`" if _default(name) else ""
    cells = [f"`{_usage(name)}`", default, option.text + variables]
    return f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"


# The effective settings


def render_settings(settings: Settings) -> str:
    """Every option as TOML that ``--config`` reads back, with where it came from as a comment."""
    stored = {field.name for field in fields(Config)}
    blocks = []
    for title, names in _sections().items():
        lines = [_assignment(name, settings) for name in names if name in stored]
        blocks.append("\n".join([f"# {title}", *lines]))
    return "\n\n".join(blocks)


def _assignment(name: str, settings: Settings) -> str:
    plain = _plain(name, getattr(settings.config, name))
    if plain is None:
        # TOML has no null: what is not set is not written.
        return f"# {key_name(name)} is not set"
    return f"{key_name(name)} = {_toml(plain)}  # {settings.origins.get(name, 'default')}"


def _toml(value: Plain) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped.translate(_CONTROLS)}"'
    return str(value).lower()


_CONTROLS: Final = {code: f"\\u{code:04x}" for code in (*range(32), 127)}
