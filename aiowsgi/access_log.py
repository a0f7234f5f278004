r"""The access log: a format, compiled once, makes one line of each finished exchange.

Nothing here reads a clock, opens a file or knows a thread; where the lines go is the business of
``bridge/log_writer.py``. What the atoms say stands in ``access_atoms.py``.

The laws:

* **A line is one line, and its fields stay apart**, whatever a client sends. Control characters,
  bytes from 0x7f on, quotes and backslashes are written as ``\xHH``, ``\"`` and ``\\``. Where an
  atom of the format stands outside double quotes, spaces in its value are written ``\x20`` too:
  who splits a line at the spaces outside quotes always gets the fields of the format.
* An absent or empty value is ``-``; in JSON it is ``null``.
* Strings are "native" in the sense of PEP 3333, one character per byte, in JSON too.
* A format says what it needs of the environ and of the response; nothing else is kept for it.

The grammar is gunicorn's (``%(h)s``, ``%({x-header}i)s``, ``%%``), so that formats can be carried
over, with a few atoms more that have whole words for names::

    h  client's address             s  status                        T  duration, whole seconds
    l  "-"                          B  bytes of the body sent        M  whole milliseconds
    u  user of Basic credentials    b  the same, "-" for 0           D  whole microseconds
    t  [time], local, with offset   f  Referer                       L  seconds, six decimals
    r  m, target and H              a  User-Agent                    p  <process id>
    m  method                       {name}i  request header field    client_port  request_id
    U  path, still encoded          {name}o  response header field   target  duration_ms
    q  query                        {KEY}e   environ variable        queue_ms  read_ms
    H  protocol                                                      app_ms  write_ms

Request header fields are taken from the environ, joined and filtered as the application saw them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from .access_atoms import (
    TEXTS,
    VARIABLES,
    Column,
    Escape,
    Record,
    Records,
    Variables,
    bare,
    bare_request_lines,
    braced_atom,
    each_once,
    json_time,
    number_atoms,
    quote_json,
    quoted,
)
from .exceptions import ConfigError
from .kinds import did_you_mean

__all__ = ["DEFAULT_FORMAT", "NAMED_FORMATS", "Format", "Record", "compile_format"]


class Format(NamedTuple):
    """A compiled format, and what a record must hold for it beyond its plain facts."""

    lines: Callable[[Records], list[str]]
    """Gives the lines of some records, without line ends, in printable ASCII but for the format's
    own text. It never fails on records of the right types; any thread may call it."""
    variables: tuple[str, ...]
    """Names of environ variables: ``record.variables`` is ``[*map(environ.get, variables)]``,
    taken when the exchange ends. The environ itself is not kept alive for the log."""
    response_fields: bool
    """``record.response_fields`` is read."""


DEFAULT_FORMAT: Final = "timed"
"""The combined format and the duration: what a reader of the combined format knows stays in place,
and how long it took stands where the eye looks for it, at the end."""

_COMMON: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
_COMBINED: Final = _COMMON + ' "%(f)s" "%(a)s"'

NAMED_FORMATS: Final[dict[str, str]] = {
    DEFAULT_FORMAT: _COMBINED + " %(duration_ms)sms",
    "combined": _COMBINED,
    "common": _COMMON,
    "json": "",
}
"""Formats that have a name, and how they are spelt out; JSON has no such spelling."""


def compile_format(text: str, *, pid: int = 0) -> Format:
    """Compile the name of a format, or a text with atoms.

    ``pid`` is the id of the process whose exchanges will be logged. Raises ConfigError, with the
    nearest name or atom where one is unknown; its message completes "access-logformat: ...".
    """
    if text == "json":
        return _compile_json(pid)
    spelt = NAMED_FORMATS.get(text, text)
    if "%" not in spelt:
        names = ", ".join(NAMED_FORMATS)
        hint = did_you_mean(text, NAMED_FORMATS)
        raise ConfigError(f"{text!r} is none of {names}, and has no atom such as %(h)s{hint}")
    # A tab may part the fields: no value can hold one.
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", spelt):
        raise ConfigError("a format may hold tabs, but no line end and no other control character")
    return _compile_atoms(spelt, pid)


class _Compiler:
    """Gathers the columns of a line from left to right, and what they need."""

    def __init__(self, pid: int) -> None:
        # Atoms whose text is known already.
        self.constants = {"l": "-", "p": f"<{pid}>"}
        # Columns of the line, and the literal text before each of them.
        self.columns: list[tuple[str, Column]] = []
        # Literal text after the last column.
        self.rest = ""
        self.numbers = number_atoms()
        self.variables = Variables()
        # Some column reads the response's fields.
        self.response_fields = False
        # The text so far ends between double quotes.
        self.in_quotes = False

    def literal(self, text: str) -> None:
        """The same text in every line; its quotes open and close fields."""
        self.rest += text
        self.in_quotes ^= text.count('"') % 2 == 1

    def column(self, column: Column) -> None:
        """Texts that are safe already."""
        self.columns.append((self.rest, column))
        self.rest = ""

    def atom(self, name: str) -> None:
        """What stands between ``%(`` and ``)s``; raises ConfigError."""
        if name in self.constants:
            self.literal(self.constants[name])
        elif name in self.numbers:
            self.column(self.numbers[name])
        elif name == "r" and not self.in_quotes:
            self.column(bare_request_lines)
        else:
            texts = self._texts(name)
            escape: Escape = quoted if self.in_quotes else bare
            if name not in TEXTS:
                escape = each_once(escape)
            self.column(lambda records: escape(texts(records)))
            self.response_fields |= name.endswith("}o")

    def _texts(self, name: str) -> Column:
        if name in TEXTS:
            return TEXTS[name]
        if name in VARIABLES:
            return VARIABLES[name](self.variables)
        column = braced_atom(name, self.variables)
        if column is None:
            raise ConfigError(f"there is no atom %({name})s{self._nearest(name)}")
        return column

    def _nearest(self, name: str) -> str:
        if name.startswith("{"):
            return "; write %({name}i)s, %({name}o)s or %({KEY}e)s"
        atoms = [*self.constants, *self.numbers, *TEXTS, *VARIABLES]
        # Of single letters only the case can be near.
        near = did_you_mean(name, atoms) or did_you_mean(name.swapcase(), atoms)
        return near or f"; there are {', '.join(atoms)}, {{name}}i, {{name}}o and {{KEY}}e"

    def format(self) -> Format:
        """What has been gathered, as one function."""
        columns, rest = self.columns, self.rest

        def lines(records: Records) -> list[str]:
            count = len(records)
            texts = [
                text for literal, column in columns for text in ([literal] * count, column(records))
            ]
            # Joining ready strings takes a quarter of the time of the % operator on the same.
            return [*map("".join, zip(*texts, [rest] * count, strict=True))]

        return Format(lines, tuple(self.variables.names), self.response_fields)


_ATOM: Final = re.compile(r"%(?:(?P<percent>%)|\((?P<name>[^()]*)\)s|)")


def _compile_atoms(spelt: str, pid: int) -> Format:
    compiler = _Compiler(pid)
    start = 0
    for match in _ATOM.finditer(spelt):
        compiler.literal(spelt[start : match.start()])
        start = match.end()
        if match["name"] is not None:
            compiler.atom(match["name"])
        elif match["percent"]:
            compiler.literal("%")
        else:
            near = spelt[match.start() :][:12]
            raise ConfigError(f"{near!r} does not begin with an atom; write %% for a percent sign")
    compiler.literal(spelt[start:])
    return compiler.format()


# JSON


def _compile_json(pid: int) -> Format:
    """One object a line (RFC 8259), in ASCII; its logger tells it from the diagnostic log's."""
    compiler = _Compiler(pid)
    compiler.literal(f'{{"level": "info", "logger": "aiowsgi.access", "pid": {pid}')
    for name, column in _json_members(compiler).items():
        compiler.literal(f', "{name}": ')
        compiler.column(column)
    compiler.literal("}")
    return compiler.format()


def _json_members(compiler: _Compiler) -> dict[str, Column]:
    numbers, variables = compiler.numbers, compiler.variables
    return {
        "time": json_time(),
        "client": _string_or_null(TEXTS["h"]),
        "client_port": lambda records: [str(record.client_port or "null") for record in records],
        "user": _string_or_null(variables.user()),
        "method": _string_or_null(TEXTS["m"]),
        "target": _string_or_null(TEXTS["target"]),
        "protocol": _string_or_null(TEXTS["H"]),
        "status": numbers["s"],
        "bytes": numbers["B"],
        "referer": _string_or_null(variables.column("HTTP_REFERER")),
        "user_agent": _string_or_null(variables.column("HTTP_USER_AGENT")),
        "request_id": _string_or_null(TEXTS["request_id"]),
        **{name: column for name, column in numbers.items() if name.endswith("_ms")},
    }


def _string_or_null(column: Column) -> Column:
    return lambda records: [quote_json(text) if text else "null" for text in column(records)]
