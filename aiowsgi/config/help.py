"""Renders the options as text: ``--help``, the README's table, ``--print-config``.

Everything comes from the fields of ``Config``; this module prints nothing and has no text about any
single option. The README's table stands between the comments ``<!-- options -->`` and ``<!--
/options -->``. This command prints the table::

    python -c "from aiowsgi.config import help; print(help.render_option_table())"
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Final, NamedTuple

from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.sources import Settings, flag_name, key_name
from aiowsgi.config.types import Auto, TomlValue

__all__ = ["Entry", "render_help", "render_option_table", "render_settings", "toml_text"]

_DEFAULTS: Final = Config()


def _sections() -> dict[str, list[str]]:
    """Return the options' names, in order, by the title of their section."""
    sections: dict[str, list[str]] = {}
    title = ""
    for name, option in OPTIONS.items():
        title = option.section or title
        sections.setdefault(title, []).append(name)
    return sections


def _plain(name: str, value: object) -> TomlValue | None:
    """Return the TOML value of an option; None if it is not set."""
    option_type = OPTIONS[name].type
    return (
        None if value is None and not isinstance(option_type, Auto) else option_type.to_toml(value)
    )


def _default(name: str) -> str:
    """Return the default as text; empty if there is none, or for a flag that is off."""
    plain = _plain(name, getattr(_DEFAULTS, name))
    if isinstance(plain, bool):
        return "on" if plain else ""
    if isinstance(plain, list):
        return ",".join(plain)
    return "" if plain is None else str(plain)


# The command line's help


class Entry(NamedTuple):
    """One entry of ``--help``."""

    usage: str
    text: str


_COLUMN: Final = 32
"""Column at which the descriptions begin. It is right of most flags and leaves 48 columns on an
80-column terminal."""

_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
"""``textwrap`` breaks lines only at ASCII whitespace."""


def render_help(width: int, before: str, commands: Iterable[Entry], after: str) -> str:
    """Render ``--help`` for a terminal of ``width`` columns.

    ``before`` and ``after`` are printed unchanged around the options. ``commands`` are the flags
    that are not options, such as ``--version``.
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
    return Entry(_usage(name), OPTIONS[name].help + default)


def _usage(name: str) -> str:
    """Return the option's spellings on the command line; for the application, its placeholder."""
    option = OPTIONS[name]
    if name == "app":
        return option.type.metavar
    flag = flag_name(name) if option.type.metavar else f"--[no-]{key_name(name)}"
    flags = sorted([flag, *option.flags], key=lambda flag: flag.startswith("--"))
    return f"{', '.join(flags)} {option.type.metavar}".rstrip()


# The README's table


def render_option_table() -> str:
    """Render the options as Markdown, one table for each section, without a final line end."""
    return "\n\n".join(_markdown(title, names) for title, names in _sections().items())


def _markdown(title: str, names: Iterable[str]) -> str:
    head = [f"| {title} | Default | Meaning |", "|---|---|---|"]
    return "\n".join(head + [_row(name) for name in names])


_BAR: Final = "\\|"
"""A ``|`` ends a table cell, even in a code span (GFM section 4.10)."""


def _row(name: str) -> str:
    option = OPTIONS[name]
    variables = f" Also `{'`, `'.join(option.variables)}`." if option.variables else ""
    default = f"`{_default(name)}`" if _default(name) else ""
    cells = [f"`{_usage(name)}`", default, option.help + variables]
    return f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"


# The effective settings


def render_settings(settings: Settings) -> str:
    """Render every option as TOML that ``--config`` can read; a comment on each line names the
    source of the value."""
    stored = {field.name for field in fields(Config)}
    blocks = []
    for title, names in _sections().items():
        lines = [_assignment(name, settings) for name in names if name in stored]
        blocks.append("\n".join([f"# {title}", *lines]))
    return "\n\n".join(blocks)


def _assignment(name: str, settings: Settings) -> str:
    plain = _plain(name, getattr(settings.config, name))
    if plain is None:
        # TOML has no null value.
        return f"# {key_name(name)} is not set"
    return f"{key_name(name)} = {toml_text(plain)}  # {settings.origins.get(name, 'default')}"


def toml_text(value: TomlValue) -> str:
    """``value`` as it is written in a TOML file."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml_text, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped.translate(_CONTROLS)}"'
    return str(value).lower()


_CONTROLS: Final = {code: f"\\u{code:04x}" for code in (*range(32), 127)}
