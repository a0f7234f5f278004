"""What the expressions of access log atoms call: escaping, and values taken from a request.

The table of atoms is `aiowsgi.config.log_format.ATOMS`.

A value of a client's is cut at `LONGEST` characters, and `CUT` says so in the line: the access log
must not grow faster than the traffic, and escaping must not take time that others need.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quote_json
from typing import TYPE_CHECKING, Any, Final

from aiowsgi.http1.messages import Request

if TYPE_CHECKING:
    from aiowsgi.wsgi.handler import Response

__all__ = ["CUT", "LONGEST", "Memo", "environ_name", "namespace"]

LONGEST: Final = 2048
"""Characters of a value in a line. In text they are counted after escaping, in JSON before it, so
that a value in JSON takes 12 KiB at most. User agents and URLs that are longer are rare."""

CUT: Final = "[...]"
"""The end of a value that was cut."""


# Escaping

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_WHOLE_ESCAPES: Final = re.compile(r"(?:[^\\]+|\\x..|\\u.{4}|\\U.{8}|\\[\\\"])*")
"""Matches until the end or, if that is in the middle of an escape, until its beginning."""


def _text(value: object) -> str:
    """A value as plain str; empty for objects whose str() could do anything."""
    if isinstance(value, str):
        return str.__str__(value)  # the methods of a subclass are not trusted
    return str(value) if type(value) in {bool, int, float} else ""


def _is_safe(value: object) -> bool:
    """Whether a value is a short text that may stand between double quotes as it is."""
    # The JSON encoder, which is in C, leaves alone exactly what is safe here, and adds two quotes.
    return type(value) is str and len(value) <= LONGEST and len(quote_json(value)) == len(value) + 2


def _escape(text: str, *, spaces: bool) -> str:
    """Escape what could end a line or a field, and cut; every step is linear and in C."""
    escaped = text[:LONGEST].replace("\\", "\\\\").replace('"', '\\"')
    escaped = escaped.encode("ascii", "backslashreplace").decode("ascii")[: LONGEST + 1]
    if not escaped.isprintable():
        escaped = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", escaped)
    if spaces:
        escaped = escaped.replace(" ", "\\x20")
    if len(text) <= LONGEST and len(escaped) <= LONGEST:
        return escaped
    whole = _WHOLE_ESCAPES.match(escaped, 0, LONGEST)
    assert whole is not None
    return whole[0] + CUT


def _quoted(value: object) -> str:
    """Escape what could end a line, or a field between double quotes."""
    if _is_safe(value):
        return value or "-"  # type: ignore[return-value] # it is a str
    return _escape(_text(value), spaces=False) or "-"


def _bare(value: object) -> str:
    """Escape what could end a line, or a field without quotes."""
    if _is_safe(value) and " " not in value:  # type: ignore[operator]
        return value or "-"  # type: ignore[return-value]
    return _escape(_text(value), spaces=True) or "-"


def _json(value: object) -> str:
    """A JSON string, or null for an empty one."""
    if value is None:
        return "null"
    text = _text(value)
    if len(text) > LONGEST:
        text = text[:LONGEST] + CUT
    return quote_json(text) if text else "null"


# Values that are remembered

REMEMBERED: Final = 64 * 1024
"""Characters that one `Memo` keeps, keys and texts together: some 300 user agents. A guess."""

_OVERHEAD: Final = 100
"""What an entry takes beside its characters, roughly: two str objects and a place in a dict."""


class Memo(dict[object, str]):
    """``render`` of strings, of None and of whole seconds, remembered; threads may share it.

    Raises whatever an object that the application has left in its environ raises when it is hashed.
    """

    def __init__(self, render: Callable[[Any], str]) -> None:
        super().__init__()
        self._render = render
        # Characters kept. Two threads may each forget the other's addition: a guess is enough.
        self._size = 0

    def __missing__(self, value: object) -> str:
        """Render it, and keep that if whatever is equal to it has the same text."""
        text = self._render(value)
        if type(value) in {int, type(None)} or (type(value) is str and len(value) <= LONGEST):
            size = (len(value) if type(value) is str else 0) + len(text) + _OVERHEAD
            self._size += size
            if self._size > REMEMBERED:
                self.clear()
                self._size = size
            self[value] = text
        return text


# Values of a request

_UNREAD: Final = Request("", "", "", "", "", "", [], 0, keep_alive=False, expect_continue=False)
"""Stands for a request whose head was not read."""

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


def _response_field(response: Response | None, name: str) -> str:
    """The values of one field, joined as RFC 9110 section 5.3 joins them."""
    fields = () if response is None else response.fields
    return ", ".join([value for field, value in fields if field.lower() == name])


def _request_line(request: Request, escape: Callable[[object], str]) -> str:
    """The request line, each part of which is escaped, and cut if it is too long, by itself."""
    return f"{escape(request.method)} {escape(request.target)} {escape(request.version)}"


def environ_name(field: str) -> str:
    """The CGI variable of a request header field (RFC 3875 section 4.1.18)."""
    name = field.upper().replace("-", "_")
    return name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + name


def namespace() -> dict[str, Any]:
    """What expressions may use; a new one for each format, with a memory of its own."""
    return {
        "LONGEST": LONGEST,
        "UNREAD": _UNREAD,
        "bare": _bare,
        "bares": Memo(_bare),
        "common_time": Memo(_common_time),
        "json": _json,
        "jsons": Memo(_json),
        "path": _path,
        "quote_json": quote_json,
        "quoted": _quoted,
        "quotes": Memo(_quoted),
        "request_line": _request_line,
        "response_field": _response_field,
        "user": _user,
        "utc": Memo(_utc),
    }
