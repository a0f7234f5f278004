r"""The access log: compiles a format into a function that makes one line of each finished request.

The atoms are rows of `aiowsgi.config.log_format.ATOMS`. Nothing here opens a file or knows a
thread; ``logs/writer.py`` takes the lines.

Guarantees:

* **A line is one line, and its fields stay apart**, whatever a client sends. Control characters,
  bytes from 0x7f on, quotes and backslashes are written as ``\xHH``, ``\"`` and ``\\``. If an atom
  of the format stands outside double quotes, spaces in its value are written ``\x20`` too: a reader
  that splits a line at the spaces outside quotes always gets the fields of the format.
* A value that takes more than 2 KiB is cut, and ends with ``[...]``.
* An absent or empty value is ``-``; in JSON it is ``null``.
* Strings are "native" in the sense of PEP 3333, one character per byte, in JSON too.
* Formatting never fails, whatever the application has left in the environ.

Request header fields are taken from the environ, joined and filtered as the application saw them.

A format becomes the source of a Python function, as `collections.namedtuple` makes one: each atom
is an expression of the table, and the operator's text becomes string literals and nothing else. The
thread that ends the request makes the line, while everything is in its cache. Queueing the facts,
and formatting them by the batch on the writer's thread, was measured at 1.5 times the cost: memory
has gone cold by then, and the interpreter's lock is held for a batch at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from aiowsgi.config.log_format import (
    ATOMS,
    NAMED_FORMATS,
    Atom,
    AtomKind,
    parse_field_atom,
    split_log_format,
)
from aiowsgi.logs.atoms import environ_name, namespace

if TYPE_CHECKING:
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.wsgi.handler import Environ, Response

__all__ = ["LineFormatter", "compile_format"]

LineFormatter: TypeAlias = "Callable[[RequestRecord, Response | None, Environ], object]"
"""A compiled format; any thread may call it. It makes the line of a request, without line end, and
passes it on. Response and environ are None and empty if the application was not called. The line is
printable ASCII but for the format's own text."""

_PRELUDE: Final = {
    "request": "record.request or UNREAD",
    # The end of the response, not its start, keeps the lines of a file in the order of their times.
    "now": "clock()",
    "done": "monotonic()",
}
"""Names that expressions may use, and what they are; evaluated only if one does."""


def compile_format(text: str, put: Callable[[str], object], *, pid: int = 0) -> LineFormatter:
    """Compile the name of a format, or a text that `parse_log_format` has accepted.

    Each line is given to ``put``, whose result is returned. ``pid`` is the id of the process whose
    requests will be logged.
    """
    writer = _Writer(text)
    writer.names |= {"put": put, "pid": f"<{pid}>", "clock": time, "monotonic": monotonic}
    if text == "json":
        _write_json(writer, pid)
    else:
        for literal, atom in split_log_format(NAMED_FORMATS.get(text, text)):
            writer.literal(literal)
            if atom is not None:
                writer.atom(atom)
    return writer.function()


class _Writer:
    """Writes the source of a function, from left to right.

    Two f-strings of the same shape are written. The fast one looks up texts that were escaped
    before. If that fails, since the application has put an object that is no key into the environ,
    the careful one makes the line; it escapes every text.
    """

    def __init__(self, text: str) -> None:
        self.json = text == "json"
        self.names = namespace()
        self.fast: list[str] = []
        self.careful: list[str] = []
        # Whether the next atom stands between double quotes.
        self.inside = False

    def literal(self, text: str) -> None:
        """Text of the format: a Python literal, and nothing else, of the source."""
        self.inside ^= text.count('"') % 2 == 1
        self.fast.append(repr(text))
        self.careful.append(repr(text))

    def expression(self, source: str, fast: str = "") -> None:
        """A value that is safe as it is; ``fast`` is the same, and may raise."""
        self.fast.append(f'f"{{{fast or source}}}"')
        self.careful.append(f'f"{{{source}}}"')

    def atom(self, name: str) -> None:
        """What stands between ``%(`` and ``)s``."""
        field = parse_field_atom(name)
        self.value(ATOMS[name] if field is None else self._field(*field))

    def value(self, atom: Atom) -> None:
        """The value of an atom, as its kind is written here."""
        source = atom.source
        if atom.kind is AtomKind.NUMBER:
            self.expression(source)
        elif atom.kind is AtomKind.COUNT:
            self.expression(f"{source} or {'null' if self.json else '-'!r}")
        elif atom.kind is AtomKind.SAFE:
            quote = '"' if self.json else ""
            self.literal(quote)
            self.expression(source)
            self.literal(quote)
        elif atom.kind is AtomKind.REQUEST_LINE:
            self._request_line()
        else:
            self._text(source, recurs=atom.kind is AtomKind.RECURRING)

    def _text(self, source: str, *, recurs: bool) -> None:
        escape = "json" if self.json else "quoted" if self.inside else "bare"
        memo = {"json": "jsons", "quoted": "quotes", "bare": "bares"}[escape]
        self.expression(f"{escape}({source})", f"{memo}[{source}]" if recurs else "")

    def _request_line(self) -> None:
        if not self.inside:
            # Three fields, whether the request line was read or not.
            self.expression("request_line(request, bare)")
            return
        careful = "(request_line(request, quoted) if request.method else '-')"
        # Nearly all are short and need no escape, which is found without a call of ours.
        self.expression(
            careful,
            "(line if request.method and"
            " len(line := f'{request.method} {request.target} {request.version}') <= LONGEST"
            f" and len(quote_json(line)) == len(line) + 2 else {careful})",
        )

    def _field(self, name: str, kind: str) -> Atom:
        key = f"key_{len(self.names)}"
        if kind == "o":
            self.names[key] = name.lower()
            return Atom("", AtomKind.TEXT, f"response_field(response, {key})")
        self.names[key] = environ_name(name) if kind == "i" else name
        # The application's own variables may be different for each request.
        recurs = AtomKind.RECURRING if kind == "i" else AtomKind.TEXT
        return Atom("", recurs, f"environ.get({key})")

    def function(self) -> LineFormatter:
        """The function. Of the prelude only what it uses is evaluated."""
        fast, careful = " ".join(self.fast), " ".join(self.careful)
        wanted = {*re.findall(r"\w+", careful)} & {*_PRELUDE}
        source = f"""
def write_line(record, response, environ):
    {"; ".join(f"{name} = {_PRELUDE[name]}" for name in sorted(wanted))}
    try:
        text = {fast}
    except Exception:
        text = {careful}
    return put(text)
"""
        exec(source, self.names)  # noqa: S102 - the source is ours
        return cast("LineFormatter", self.names["write_line"])


def _write_json(writer: _Writer, pid: int) -> None:
    """One object a line (RFC 8259), in ASCII; its logger tells it from the diagnostic log's."""
    before = f'{{"level": "info", "logger": "aiowsgi.access", "pid": {pid}, '
    for atom in ATOMS.values():
        if atom.member:
            writer.literal(f'{before}"{atom.member}": ')
            writer.value(atom)
            before = ", "
    writer.literal("}")
