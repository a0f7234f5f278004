"""Formats of the access log: the table of atoms, the named formats, and the grammar.

The table is here and not in ``logs/`` because a format is checked when the options are read, before
anything is logged. ``logs/access_format.py`` compiles formats; ``logs/atoms.py`` has the functions
that the expressions of the table call.

The grammar is gunicorn's: ``%(h)s``, ``%({x-header}i)s``, ``%%``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from aiowsgi.suggest import did_you_mean

__all__ = [
    "ATOMS",
    "DEFAULT_FORMAT",
    "NAMED_FORMATS",
    "Atom",
    "AtomKind",
    "parse_field_atom",
    "parse_log_format",
    "split_log_format",
]


class AtomKind(Enum):
    """What an atom's expression gives, and therefore how it is written."""

    NUMBER = auto()
    """A number, or text that is a JSON number too: written as it is."""
    COUNT = auto()
    """An integer; 0 means absent, ``-`` in text and ``null`` in JSON."""
    SAFE = auto()
    """Text of the server's own, printable and without quotes; quoted in JSON."""
    TEXT = auto()
    """Text that a client may have chosen: escaped. Empty or None means absent."""
    RECURRING = auto()
    """As TEXT, but most requests have one of a few values, so escaped ones are remembered."""
    REQUEST_LINE = auto()
    """The request line, whose two spaces stay as they are where quotes are missing."""


class Atom(NamedTuple):
    """What stands between ``%(`` and ``)s``."""

    meaning: str
    kind: AtomKind
    source: str
    """A Python expression. It may use ``record`` (a `RequestRecord`), ``request`` (its request, or
    one of empty fields if the head was not read), ``environ`` (as the application left it, empty if
    it was not called), ``response`` (None if it was not called), ``now`` (seconds since the epoch,
    when the response ended), ``done`` (monotonic seconds, when the thread was done), and the
    functions of `logs.atoms.namespace`."""
    member: str = ""
    """Name of the value in the JSON format; empty if it is not part of that."""


_NUMBER, _COUNT, _SAFE, _TEXT, _RECURRING, _REQUEST_LINE = AtomKind

_DURATION: Final = "(record.finished_at - record.received_at)"
_READ: Final = "(record.queued_at - record.received_at)"
_QUEUE: Final = "(record.started_at - record.queued_at + record.waited_before)"

ATOMS: Final[dict[str, Atom]] = {
    # The order is that of the members in JSON. The % operator takes half the time of format().
    "time": Atom(
        "end of the response in UTC (RFC 3339)",
        _SAFE,
        "utc[int(now)] + '.%03dZ' % (now % 1 * 1e3)",
        "time",
    ),
    "t": Atom("end of the response, [local time with offset]", _SAFE, "common_time[int(now)]"),
    "h": Atom("client's address", _RECURRING, "record.client[0]", "client"),
    "client_port": Atom("client's port", _COUNT, "record.client[1]", "client_port"),
    "l": Atom("always -", _SAFE, "'-'"),
    "u": Atom(
        "user of Basic credentials",
        _RECURRING,
        "environ.get('HTTP_AUTHORIZATION') and user(environ.get('HTTP_AUTHORIZATION'))",
        "user",
    ),
    "r": Atom("request line", _REQUEST_LINE, ""),
    "m": Atom("method", _RECURRING, "request.method", "method"),
    "target": Atom("path and query as they were sent", _TEXT, "request.target", "target"),
    "U": Atom("path as it was sent", _TEXT, "path(request.target)"),
    "q": Atom("query", _TEXT, "request.target.partition('?')[2]"),
    "H": Atom("protocol", _RECURRING, "request.version", "protocol"),
    "s": Atom("status", _NUMBER, "record.status", "status"),
    "B": Atom("bytes of the response's body", _NUMBER, "record.response_bytes", "bytes"),
    "b": Atom("the same, - for 0", _COUNT, "record.response_bytes"),
    "f": Atom("Referer", _RECURRING, "environ.get('HTTP_REFERER')", "referer"),
    "a": Atom("User-Agent", _RECURRING, "environ.get('HTTP_USER_AGENT')", "user_agent"),
    "request_id": Atom("identifier of the request", _TEXT, "record.request_id", "request_id"),
    "T": Atom("duration, whole seconds", _NUMBER, f"int{_DURATION}"),
    "M": Atom("duration, whole milliseconds", _NUMBER, f"int({_DURATION} * 1e3)"),
    "D": Atom("duration, whole microseconds", _NUMBER, f"int({_DURATION} * 1e6)"),
    "L": Atom("duration, seconds with six decimals", _NUMBER, f"'%.6f' % {_DURATION}"),
    "duration_ms": Atom(
        "from the request's first byte to the response's last, milliseconds",
        _NUMBER,
        f"'%.3f' % ({_DURATION} * 1e3)",
        "duration_ms",
    ),
    "queue_ms": Atom(
        "wait for a thread, milliseconds", _NUMBER, f"'%.3f' % ({_QUEUE} * 1e3)", "queue_ms"
    ),
    "read_ms": Atom(
        "until the request was read, milliseconds", _NUMBER, f"'%.3f' % ({_READ} * 1e3)", "read_ms"
    ),
    "app_ms": Atom(
        "in the thread, close() included, milliseconds",
        _NUMBER,
        "'%.3f' % ((done - record.started_at) * 1e3)",
        "app_ms",
    ),
    "write_ms": Atom(
        "in the thread after the response's last byte, milliseconds",
        _NUMBER,
        "'%.3f' % ((done - record.finished_at) * 1e3)",
        "write_ms",
    ),
    "p": Atom("process id, as <1234>", _SAFE, "pid"),
}
"""All atoms but those that name a field; see `parse_field_atom`. A new one is a row and a test."""


DEFAULT_FORMAT: Final = "timed"
"""The combined format, so that its readers find everything in its place, and the duration."""

_COMMON: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
_COMBINED: Final = _COMMON + ' "%(f)s" "%(a)s"'

NAMED_FORMATS: Final[dict[str, str]] = {
    DEFAULT_FORMAT: _COMBINED + " %(duration_ms)sms",
    "combined": _COMBINED,
    "common": _COMMON,
    "json": "",
}
"""Formats that have a name, and their text. JSON has none: it is made of all `Atom.member`."""


def parse_log_format(text: str) -> str:
    """Check the name of an access log format, or a format of ``%(atom)s`` such as gunicorn's."""
    if text in NAMED_FORMATS:
        return text
    if "%" not in text:
        names = ", ".join(NAMED_FORMATS)
        hint = did_you_mean(text, NAMED_FORMATS)
        raise ValueError(f"{text!r} is none of {names}, and has no atom such as %(h)s{hint}")
    # Tabs are allowed as separators: the log escapes them in values.
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text):
        raise ValueError("a format may contain tabs, but no line end or other control character")
    for _, atom in split_log_format(text):
        if atom is not None and atom not in ATOMS and parse_field_atom(atom) is None:
            raise ValueError(f"there is no atom %({atom})s{_nearest_atom(atom)}")
    return text


def split_log_format(text: str) -> Iterator[tuple[str, str | None]]:
    """Split a format into pairs of literal text and the atom that follows it; the atom is None
    after a percent sign and at the end."""
    start = 0
    for match in re.finditer(r"%(?:(?P<percent>%)|\((?P<atom>[^()]*)\)s|)", text):
        before, start = text[start : match.start()], match.end()
        if match["percent"]:
            yield before + "%", None
        elif match["atom"] is not None:
            yield before, match["atom"]
        else:
            near = text[match.start() :][:12]
            raise ValueError(f"{near!r} does not begin with an atom; write %% for a percent sign")
    yield text[start:], None


def parse_field_atom(atom: str) -> tuple[str, str] | None:
    """Split an atom of a field or a variable: ``{name}i`` (request), ``{name}o`` (response) or
    ``{KEY}e`` (environ). Returns the name and the letter; None for another atom."""
    match = re.fullmatch(r"\{([^{}]+)\}([ioe])", atom)
    return None if match is None else (match[1], match[2])


def _nearest_atom(atom: str) -> str:
    if atom.startswith("{"):
        return "; write %({name}i)s, %({name}o)s or %({KEY}e)s"
    # For single letters, only the other case is a useful suggestion.
    near = did_you_mean(atom, ATOMS) or did_you_mean(atom.swapcase(), ATOMS)
    return near or f"; there are {', '.join(ATOMS)}, {{name}}i, {{name}}o and {{KEY}}e"
