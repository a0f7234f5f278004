"""The access log's vocabulary: each atom as an expression, and the functions that it calls.

An expression may use the parameters of `access_log.Line` and the names of a `namespace`; the source
of a compiled format has nothing else in it but literals. Escaping is here too. How formats are made
of atoms, and the laws that a line obeys, stand in ``logs/access_format.py``.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quote_json
from typing import Any, Final, NamedTuple

__all__ = [
    "BARE_REQUEST_LINE",
    "FAST_REQUEST_LINE",
    "JSON_MEMBERS",
    "NUMBERS",
    "TEXTS",
    "environ_name",
    "namespace",
    "quote_json",
]


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


def _text(value: object) -> str:
    """A value as plain str; none for objects whose str() could do anything."""
    if isinstance(value, str):
        return str.__str__(value)  # of a subclass's own methods nothing is known
    return str(value) if type(value) in {bool, int, float} else ""


def _quoted(value: object) -> str:
    """Escape what could end a line, or a field between double quotes."""
    # The JSON encoder, which is in C, leaves alone exactly what is safe here, and adds two quotes.
    if type(value) is str and len(quote_json(value)) == len(value) + 2:
        return value or "-"
    return _UNSAFE.sub(_escape_char, _text(value)) or "-"


def _bare(value: object) -> str:
    """Escape what could end a line, or a field without quotes."""
    if type(value) is str and " " not in value and len(quote_json(value)) == len(value) + 2:
        return value or "-"
    return _UNSAFE_BARE.sub(_escape_char, _text(value)) or "-"


def _json(value: object) -> str:
    """A JSON string, or null for an empty one."""
    if value is None:
        return "null"
    text = _text(value)
    return quote_json(text) if text else "null"


# Values


REMEMBERED: Final = 512
"""Texts of one kind that are kept ready: most clients of an application are alike. A guess."""

LONGEST: Final = 512
"""Characters of a text that is kept. Few user agents are longer; bounds the memory. A guess."""


class Memo(dict[object, str]):
    """``render`` of strings, of None and of whole seconds, remembered; threads may share it.

    Raises whatever an object does, that an application has left in its environ, when it is hashed.
    """

    def __init__(self, render: Callable[[Any], str]) -> None:
        super().__init__()
        self._render = render

    def __missing__(self, value: object) -> str:
        """Render it, and keep that if what it is equal to is sure to look the same."""
        text = self._render(value)
        if type(value) in {int, type(None)} or (type(value) is str and len(value) <= LONGEST):
            if len(self) >= REMEMBERED:
                self.clear()
            self[value] = text
        return text


_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"


def _common_time(second: int) -> str:
    """``[10/Oct/2000:13:55:36 -0700]``, in English, which strftime is not in every locale."""
    local = datetime.fromtimestamp(second, UTC).astimezone()
    month = _MONTHS[3 * local.month - 3 : 3 * local.month]
    return f"[{local:%d}/{month}/{local:%Y:%H:%M:%S %z}]"


def _utc(second: int) -> str:
    """``2000-10-10T20:55:36``"""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def _path(target: str) -> str:
    """The target without its query and, in absolute form (RFC 9112 section 3.2.2), authority."""
    path = target.partition("?")[0]
    if "://" not in path or path.startswith("/"):
        return path
    return "/" + path.partition("://")[2].partition("/")[2]


def _user(credentials: object) -> str:
    """The user-id of RFC 7617 credentials, one character per byte; empty for anything else."""
    scheme, _, token = _text(credentials).partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(token).partition(b":")[0].decode("latin-1")
    except ValueError:
        return ""


def _response_field(fields: Sequence[tuple[str, str]], name: str) -> str:
    """The values of one field, joined as RFC 9110 section 5.3 joins them."""
    return ", ".join([value for field, value in fields if field.lower() == name])


def namespace() -> dict[str, Any]:
    """What the expressions call; a new one for each format, with a memory of its own."""
    return {
        "bare": _bare,
        "bares": Memo(_bare),
        "common_time": Memo(_common_time),
        "json": _json,
        "jsons": Memo(_json),
        "path": _path,
        "quote_json": quote_json,
        "quoted": _quoted,
        "quotes": Memo(_quoted),
        "response_field": _response_field,
        "user": _user,
        "utc": Memo(_utc),
    }


# Atoms

NUMBERS: Final = {
    "t": "common_time[int(time)]",
    "s": "status",
    "B": "response_bytes",
    "b": "response_bytes or '-'",
    "T": "int(duration)",
    "M": "int(duration * 1e3)",
    "D": "int(duration * 1e6)",
    "L": "'%.6f' % duration",
    "client_port": "client_port or '-'",
    "duration_ms": "'%.3f' % (duration * 1e3)",
    "queue_ms": "'%.3f' % (queue_time * 1e3)",
    "read_ms": "'%.3f' % (read_time * 1e3)",
    "app_ms": "'%.3f' % (app_time * 1e3)",
    "write_ms": "'%.3f' % (write_time * 1e3)",
}
"""What is ours, and safe. The % operator takes half the time of format()."""

_REQUEST_LINE: Final = "f'{method} {target} {version}'"

TEXTS: Final = {
    "h": "client_host",
    "u": "environ.get('HTTP_AUTHORIZATION') and user(environ.get('HTTP_AUTHORIZATION'))",
    "r": f"method and {_REQUEST_LINE}",
    "m": "method",
    "target": "target",
    "U": "path(target)",
    "q": "target.partition('?')[2]",
    "H": "version",
    "f": "environ.get('HTTP_REFERER')",
    "a": "environ.get('HTTP_USER_AGENT')",
    "request_id": "request_id",
}
"""What is, or may be, the client's; empty or None where there is none."""

FAST_REQUEST_LINE: Final = (
    f"(asked if method and len(quote_json(asked := {_REQUEST_LINE}))"
    f" == len(asked) + 2 else quoted({TEXTS['r']}))"
)
"""``%(r)s`` between quotes: what `_quoted` makes of it, without that call for nearly all."""

BARE_REQUEST_LINE: Final = "f'{bare(method)} {bare(target)} {bare(version)}'"
"""``%(r)s`` outside quotes, where the two spaces between its parts stay as they are."""


def environ_name(field: str) -> str:
    """The CGI variable of a request header field (RFC 3875 section 4.1.18)."""
    name = field.upper().replace("-", "_")
    return name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + name


# JSON


class JSONMember(NamedTuple):
    """How a member's value is written."""

    source: str
    fast: str
    """The same; may raise."""


def _plain(source: str) -> JSONMember:
    return JSONMember(source, source)


def _text_member(source: str) -> JSONMember:
    return _plain(f"json({source})")


def _recurring(source: str) -> JSONMember:
    return JSONMember(f"json({source})", f"jsons[{source}]")


JSON_MEMBERS: Final = {
    "time": _plain("quote_json(utc[int(time)] + '.%03dZ' % (time % 1 * 1e3))"),
    "client": _recurring("client_host"),
    "client_port": _plain("client_port or 'null'"),
    "user": _recurring(TEXTS["u"]),
    "method": _recurring("method"),
    "target": _text_member("target"),
    "protocol": _recurring("version"),
    "status": _plain("status"),
    "bytes": _plain("response_bytes"),
    "referer": _recurring(TEXTS["f"]),
    "user_agent": _recurring(TEXTS["a"]),
    "request_id": _text_member("request_id"),
    **{name: _plain(source) for name, source in NUMBERS.items() if name.endswith("_ms")},
}
