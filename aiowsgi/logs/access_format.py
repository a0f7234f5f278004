r"""The access log: a format, compiled once, makes one line of each finished exchange.

Nothing here reads a clock, opens a file or knows a thread; where lines go is the business of
``bridge/log_writer.py``. What the atoms say stands in ``logs/atoms.py``.

The laws:

* **A line is one line, and its fields stay apart**, whatever a client sends. Control characters,
  bytes from 0x7f on, quotes and backslashes are written as ``\xHH``, ``\"`` and ``\\``. Where an
  atom of the format stands outside double quotes, spaces in its value are written ``\x20`` too:
  who splits a line at the spaces outside quotes always gets the fields of the format.
* An absent or empty value is ``-``; in JSON it is ``null``.
* Strings are "native" in the sense of PEP 3333, one character per byte, in JSON too.
* Formatting never fails, whatever the application has left in the environ.

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

A format becomes the source of a Python function, as `collections.namedtuple` makes one: each atom
is an expression of ours, and of the operator's text nothing is in it but string literals. The line
is made by the thread that ends the exchange, while everything is in its cache. Queueing the facts,
and formatting them by the batch on the writer's thread, was measured at 1.5 times the cost: a
record for each request, memory gone cold, and the interpreter lock held for a batch at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

from aiowsgi.config.values import parse_field_atom, split_log_format
from aiowsgi.logs.atoms import (
    BARE_REQUEST_LINE,
    FAST_REQUEST_LINE,
    JSON_MEMBERS,
    NUMBERS,
    TEXTS,
    environ_name,
    namespace,
)

__all__ = [
    "DEFAULT_FORMAT",
    "NAMED_FORMATS",
    "LineFormatter",
    "LogLayout",
    "compile_for",
    "compile_format",
]


class LineFormatter(Protocol):
    """A compiled format."""

    def __call__(
        self,
        client_host: str,
        client_port: int,
        method: str,
        target: str,
        version: str,
        status: int,
        response_bytes: int,
        time: float,
        duration: float,
        queue_time: float,
        read_time: float,
        app_time: float,
        write_time: float,
        request_id: str | None,
        environ: Mapping[str, object],
        response_fields: Sequence[tuple[str, str]],
    ) -> str:
        """Give the line of one finished exchange, without line end.

        It is printable ASCII but for the format's own text. Any thread may call this.

        ``client_host`` and ``client_port`` are the effective client's, empty and 0 where there is
        none. ``method``, ``target`` (as it came) and ``version`` (``HTTP/1.1``) are empty where no
        request line could be read. ``status`` is 0 where nothing was answered. ``response_bytes``
        are those of the body, without transfer coding.

        ``time`` is when the exchange ended, in seconds since the epoch: the end, and not the start,
        keeps the lines of a file in the order of their times. ``duration`` and its phases are
        seconds; a phase that did not happen took 0.

        ``environ`` is empty where the application was not called, and so are
        ``response_fields``, the names and values of the response's header.
        """


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


def compile_format(text: str, *, pid: int = 0) -> LineFormatter:
    """Compile the name of a format, or a text with atoms, that `parse_log_format` has accepted.

    ``pid`` is the id of the process whose exchanges will be logged.
    """
    return cast(
        "LineFormatter",
        _written(text, pid).function([*LineFormatter.__call__.__annotations__][:-1], {}),
    )


class LogLayout(NamedTuple):
    """Where a caller that has objects, and not a `Line`'s arguments, finds these."""

    parameters: Sequence[str]
    """Of the function wanted."""
    values: Mapping[str, str]
    """The expressions of the arguments that are not among them."""
    names: Mapping[str, Any]
    """What the expressions call."""
    take: str = ""
    """Of these names, the function that takes the line; where empty, it is returned."""


def compile_for(facts: LogLayout, text: str, *, pid: int = 0) -> Callable[..., Any]:
    """As `compile_format`; but nothing is evaluated of which the format says nothing.

    The function gives the line, or what ``facts.take`` makes of it.
    """
    writer = _written(text, pid)
    writer.names.update(facts.names)
    return writer.function(facts.parameters, facts.values, facts.take)


def _written(text: str, pid: int) -> _Writer:
    writer = _Writer(pid)
    if text == "json":
        _write_json(writer, pid)
        return writer
    for own, atom in split_log_format(NAMED_FORMATS.get(text, text)):
        writer.literal(own)
        if atom is not None:
            writer.atom(atom)
    return writer


# What recurs, as most fields of requests do, is looked up; the rest is looked through.
_RECURRING: Final = frozenset({"h", "u", "m", "H", "f", "a"})


class _Writer:
    """Writes the source of a function, from left to right.

    Two f-strings of the same shape are written. The fast one looks texts up that were escaped
    before. Where that fails, since the application has put something in the place of a field that
    is no key, the careful one is the line, in which every text is escaped.
    """

    def __init__(self, pid: int) -> None:
        self.constants = {"l": "-", "p": f"<{pid}>"}
        self.names = namespace()
        self.fast: list[str] = []
        self.careful: list[str] = []
        # The place where the next atom stands is between double quotes.
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
        if name in self.constants:
            self.literal(self.constants[name])
        elif name in NUMBERS:
            self.expression(NUMBERS[name])
        elif name == "r":
            self._request_line()
        else:
            source, recurs = self._text(name)
            escape, memo = ("quoted", "quotes") if self.inside else ("bare", "bares")
            self.expression(f"{escape}({source})", f"{memo}[{source}]" if recurs else "")

    def _request_line(self) -> None:
        if self.inside:
            self.expression(f"quoted({TEXTS['r']})", FAST_REQUEST_LINE)
        else:
            self.expression(BARE_REQUEST_LINE)

    def _text(self, name: str) -> tuple[str, bool]:
        """The expression of an atom whose text may be the client's, and whether that recurs."""
        field = parse_field_atom(name)
        if field is None:
            return TEXTS[name], name in _RECURRING
        inner, kind = field
        key = f"key_{len(self.names)}"
        if kind == "o":
            self.names[key] = inner.lower()
            return f"response_field(response_fields, {key})", False
        self.names[key] = environ_name(inner) if kind == "i" else inner
        return f"environ.get({key})", kind == "i"

    def function(
        self, parameters: Sequence[str], values: Mapping[str, str], take: str = ""
    ) -> Callable[..., Any]:
        """The function; of ``values`` those are evaluated that it wants."""
        careful = " ".join(self.careful)
        wanted = {*re.findall(r"\w+", careful)} & {*values}
        source = f"""
def line({", ".join(parameters)}):
    {"; ".join(f"{name} = {values[name]}" for name in sorted(wanted))}
    try:
        text = {" ".join(self.fast)}
    except Exception:
        text = {careful}
    return {take}(text)
"""
        exec(source, self.names)  # noqa: S102 - the source is ours
        return cast("Callable[..., Any]", self.names["line"])


def _write_json(writer: _Writer, pid: int) -> None:
    """One object a line (RFC 8259), in ASCII; its logger tells it from the diagnostic log's."""
    before = f'{{"level": "info", "logger": "aiowsgi.access", "pid": {pid}, '
    for name, member in JSON_MEMBERS.items():
        writer.literal(f'{before}"{name}": ')
        writer.expression(member.source, member.fast)
        before = ", "
    writer.literal("}")
