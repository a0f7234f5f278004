r"""The access log's vocabulary: the facts of a finished exchange, and each atom's text of them.

An atom is a `Column`: it gives the texts of a whole batch of records in one list comprehension,
which takes a third of the time of a call for each atom of each record. What a line costs, every
request pays, since the thread that formats holds the interpreter lock meanwhile.

Escaping is here too, and only here. How a format is made of atoms, and the laws that a line obeys,
stand in ``access_log.py``. No clock is read, no file opened: times come in the record.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quote_json
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "TEXTS",
    "VARIABLES",
    "Column",
    "Escape",
    "Record",
    "Records",
    "Variables",
    "bare",
    "bare_request_lines",
    "braced_atom",
    "common_time",
    "each_once",
    "json_time",
    "number_atoms",
    "quote_json",
    "quoted",
]


class Record(NamedTuple):
    """One finished exchange. Times are seconds; a phase that did not happen took 0."""

    client_host: str
    """Effective address of the client; empty on a unix socket."""
    client_port: int
    """Its port; 0 where there is none, or where a proxy did not tell."""
    method: str
    """Empty, as are ``target`` and ``version``, where no request line could be read."""
    target: str
    """The request-target as it came."""
    version: str
    """``HTTP/1.0`` or ``HTTP/1.1``."""
    status: int
    """The status code sent; 0 where the client got none."""
    response_bytes: int
    """Bytes of the body sent, without head and transfer coding."""
    time: float
    """When the exchange ended, since the epoch: the end, and not the start, keeps the lines of a
    file in the order of their times."""
    duration: float
    """From the first byte of the request to the last byte of the response."""
    queue_time: float
    """Waiting for a thread."""
    read_time: float
    """Receiving head and body."""
    app_time: float
    """In the application."""
    write_time: float
    """Sending the response."""
    request_id: str | None = None
    variables: Sequence[object] = ()
    """Values of the format's ``variables``, in order, None for each that the environ lacks; empty
    where there was no environ."""
    response_fields: Sequence[tuple[str, str]] = ()
    """The response's header fields, where the format's ``response_fields`` asks for them."""


Records: TypeAlias = Sequence[Record]
Column: TypeAlias = Callable[[Records], Sequence[str]]
"""Gives one text for each record, in order."""

Escape: TypeAlias = Callable[[Sequence[str]], list[str]]
"""Makes the texts of a column safe."""


# Escaping

_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")
_UNSAFE_BARE: Final = re.compile(r"[^!#-\[\]-~]")


def _escape_char(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] in '"\\':
        return "\\" + match[0]
    if code < 0x100:
        return f"\\x{code:02x}"
    # Not a native string: a variable of the application's own.
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# The JSON encoder leaves alone exactly the characters that are safe here, and is in C: that no
# backslash comes out of it is the cheapest proof that there is nothing to escape.


def quoted(texts: Sequence[str]) -> list[str]:
    """Escape what could end a line or a field between double quotes; ``-`` for empty texts."""
    return [
        (text if "\\" not in quote_json(text) else _UNSAFE.sub(_escape_char, text)) or "-"
        for text in texts
    ]


def bare(texts: Sequence[str]) -> list[str]:
    """Escape what could end a line or a field without quotes; ``-`` for empty texts."""
    return [
        "-"
        if not text
        else text
        if " " not in text and "\\" not in quote_json(text)
        else _UNSAFE_BARE.sub(_escape_char, text)
        for text in texts
    ]


def each_once(escape: Escape) -> Escape:
    """The same for texts of which many are equal, as the user agents of one batch mostly are."""

    def escape_distinct(texts: Sequence[str]) -> list[str]:
        distinct = [*set(texts)]
        escaped = dict(zip(distinct, escape(distinct), strict=True))
        return [escaped[text] for text in texts]

    return escape_distinct


# Times


def _by_second(render: Callable[[int], str]) -> Callable[[Records], list[str]]:
    """The column of ``render(second)``, remembered for as long as that second lasts."""
    last = (-1, "")

    def column(records: Records) -> list[str]:
        nonlocal last
        # One tuple, taken and replaced as a whole, so that threads may share the column.
        known, text = last
        texts = []
        for record in records:
            if (second := int(record.time)) != known:
                known, text = last = second, render(second)
            texts.append(text)
        return texts

    return column


_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"


def _render_common(second: int) -> str:
    local = datetime.fromtimestamp(second, UTC).astimezone()
    month = _MONTHS[3 * local.month - 3 : 3 * local.month]
    return f"[{local:%d}/{month}/{local:%Y:%H:%M:%S %z}]"


def common_time() -> Column:
    """``[10/Oct/2000:13:55:36 -0700]``, in English, which strftime would not be in all locales."""
    return _by_second(_render_common)


def json_time() -> Column:
    """``"2000-10-10T20:55:36.250Z"``: RFC 3339 in UTC with milliseconds, between quotes."""
    seconds = _by_second(lambda second: f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}")
    return lambda records: [
        f'"{text}.{int(record.time % 1 * 1000):03d}Z"'
        for text, record in zip(seconds(records), records, strict=True)
    ]


def _milliseconds(name: str) -> Column:
    seconds: Callable[[Record], float] = attrgetter(name)
    text = "%.3f".__mod__  # half the time of format()
    return lambda records: [text(duration * 1e3) for duration in map(seconds, records)]


# Atoms whose text is ours, and safe


def number_atoms() -> dict[str, Column]:
    """The columns that need no escaping, new for each format."""
    return {
        "t": common_time(),
        "s": lambda records: [str(record.status) for record in records],
        "B": lambda records: [str(record.response_bytes) for record in records],
        "b": lambda records: [str(record.response_bytes or "-") for record in records],
        "T": lambda records: [str(int(record.duration)) for record in records],
        "M": lambda records: [str(int(record.duration * 1e3)) for record in records],
        "D": lambda records: [str(int(record.duration * 1e6)) for record in records],
        "L": lambda records: [f"{record.duration:.6f}" for record in records],
        "client_port": lambda records: [str(record.client_port or "-") for record in records],
        "duration_ms": _milliseconds("duration"),
        "queue_ms": _milliseconds("queue_time"),
        "read_ms": _milliseconds("read_time"),
        "app_ms": _milliseconds("app_time"),
        "write_ms": _milliseconds("write_time"),
    }


# Atoms whose text is, or may be, the client's; empty where there is none


def _request_lines(records: Records) -> list[str]:
    return [f"{r.method} {r.target} {r.version}" if r.method else "" for r in records]


def bare_request_lines(records: Records) -> list[str]:
    """``%(r)s`` outside quotes: only the two spaces between its parts stay as they are."""
    parts = zip(*[bare(TEXTS[name](records)) for name in ("m", "target", "H")], strict=True)
    return [*map(" ".join, parts)]


def _path(target: str) -> str:
    """The target without its query and, in absolute form (RFC 9112 section 3.2.2), authority."""
    path = target.partition("?")[0]
    if "://" not in path or path.startswith("/"):
        return path
    return "/" + path.partition("://")[2].partition("/")[2]


TEXTS: Final[dict[str, Column]] = {
    "h": lambda records: [record.client_host for record in records],
    "r": _request_lines,
    "m": lambda records: [record.method for record in records],
    "target": lambda records: [record.target for record in records],
    "U": lambda records: [_path(record.target) for record in records],
    "q": lambda records: [record.target.partition("?")[2] for record in records],
    "H": lambda records: [record.version for record in records],
    "request_id": lambda records: [record.request_id or "" for record in records],
}
"""What a record says by itself."""


class Variables:
    """Gives columns of environ variables, and remembers their names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def column(self, name: str, render: Callable[[str], str] = str) -> Column:
        """The values of the variable; ``render`` is applied to those that are strings."""
        if name not in self.names:
            self.names.append(name)
        index = self.names.index(name)

        def column(records: Records) -> list[str]:
            values = [record.variables[index] if record.variables else None for record in records]
            return [
                "" if value is None else render(value) if isinstance(value, str) else _plain(value)
                for value in values
            ]

        return column

    def user(self) -> Column:
        """The user names of Basic credentials; never the passwords."""
        return self.column("HTTP_AUTHORIZATION", _basic_user)


def _plain(value: object) -> str:
    """Text of a variable that is no string; not of any object, whose str() could do anything."""
    return str(value) if type(value) in {bool, int, float} else ""


def _basic_user(credentials: str) -> str:
    """The user-id of RFC 7617 credentials, one character per byte; empty for anything else."""
    scheme, _, token = credentials.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(token).partition(b":")[0].decode("latin-1")
    except ValueError:
        return ""


VARIABLES: Final[dict[str, Callable[[Variables], Column]]] = {
    "u": Variables.user,
    "f": lambda variables: variables.column("HTTP_REFERER"),
    "a": lambda variables: variables.column("HTTP_USER_AGENT"),
}
"""What only the environ says."""


def _request_field(name: str, variables: Variables) -> Column:
    """A request header field by its CGI variable (RFC 3875 section 4.1.18)."""
    name = name.upper().replace("-", "_")
    return variables.column(name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + name)


def _response_field(name: str, _: Variables) -> Column:
    """The values of one response header field, joined as RFC 9110 section 5.3 joins them."""
    name = name.lower()
    return lambda records: [
        ", ".join([value for field, value in record.response_fields if field.lower() == name])
        for record in records
    ]


def _environ_variable(name: str, variables: Variables) -> Column:
    return variables.column(name)


def braced_atom(atom: str, variables: Variables) -> Column | None:
    """The column of ``{name}i``, ``{name}o`` or ``{KEY}e``; None for anything else."""
    match = re.fullmatch(r"\{([^{}]+)\}([ioe])", atom)
    return match and _BRACED[match[2]](match[1], variables)


_BRACED: Final[dict[str, Callable[[str, Variables], Column]]] = {
    "i": _request_field,
    "o": _response_field,
    "e": _environ_variable,
}
