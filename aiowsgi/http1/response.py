"""Encodes responses: status, fields and framing become bytes (RFC 9112 sections 4 to 9).

Both parsers share this encoder. It takes 3 µs for a head, h11 takes 28 µs. The tests compare it
with the client sides of h11 and httptools.

Guarantees:

* `check_head` checks what the application passes at the time it passes it, so that the traceback
  shows the caller. A field that could split the message is never sent.
* `encode_head` decides the framing once, when the first byte is due.
* Nothing here performs I/O, reads the clock or knows the calling convention of WSGI.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from time import gmtime
from typing import Any, Final, NamedTuple

from aiowsgi.exceptions import ApplicationError

__all__ = [
    "LAST_CHUNK",
    "CheckedHead",
    "Fields",
    "Framing",
    "ResponseContext",
    "ResponseHead",
    "check_fields",
    "check_head",
    "encode_chunk",
    "encode_head",
    "error_response",
    "http_date",
    "reason_phrase",
    "response_context",
]

Fields = Sequence[tuple[str, str]]

LAST_CHUNK: Final = b"0\r\n\r\n"
"""The last chunk and an empty trailer section (RFC 9112 section 7.1)."""

MAX_CACHED_NAMES: Final = 1024
"""Maximum number of field names and of status lines that are cached as valid. Applications use a
few dozen. The limits keep an application that invents names from filling the memory."""

MAX_CACHED_LENGTH: Final = 128
"""Maximum length of a cached field name or status line."""

# PEP 3333: a status is "a code, a space, a reason", without control characters. RFC 9112 section 4
# allows an empty reason but requires the space. 1xx cannot be final (RFC 9110 section 15.2).
_STATUS = re.compile(r"([2-5]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?\Z", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_DIGITS = re.compile(r"[0-9]{1,19}\Z")

# PEP 3333, "Other HTTP Features": an application must not send hop-by-hop fields (RFC 9110 section
# 7.6.1). Real applications do; other servers send or drop them. These are left out. "Connection:
# close" closes the connection.
_DROPPED: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
    )
)
# Both would change how the client reads the connection from here on.
_FORBIDDEN: Final = frozenset(("transfer-encoding", "upgrade"))

_ACTED_UPON: Final = frozenset(("content-length", "date", "server")) | _DROPPED

_REASONS: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    507: "Insufficient Storage",
}


class Framing(Enum):
    """What marks the end of the body (RFC 9112 section 6.3)."""

    NONE = "none"
    """No body: HEAD, 204, 304."""
    LENGTH = "length"
    """The number of bytes in Content-Length."""
    CHUNKED = "chunked"
    """The last chunk."""
    CLOSE = "close"
    """The end of the connection; HTTP/1.0 has nothing else for an unknown length."""


# Looking up an enum member costs as much as a call in Python 3.11.
_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing


class ResponseContext(NamedTuple):
    """What a response's head depends on besides the application. See `response_context`."""

    head_only: bool
    """The request method is HEAD."""
    http_11: bool
    """The client supports HTTP/1.1, so that chunks may be sent."""
    keep_alive: bool
    """Neither the request nor the server demands closing the connection."""
    date: str
    """Value of Date; empty sends none."""
    server: str
    """Value of Server; empty sends none."""
    defaults: str
    """The field lines of Date and Server."""


def response_context(
    *, head_only: bool, http_11: bool, keep_alive: bool, date: str, server: str
) -> ResponseContext:
    """Create a context. It can be used for all similar responses until the date changes."""
    return ResponseContext(head_only, http_11, keep_alive, date, server, _defaults(date, server))


def _defaults(date: str, server: str) -> str:
    return (f"Date: {date}\r\n" if date else "") + (f"Server: {server}\r\n" if server else "")


class ResponseHead(NamedTuple):
    """An encoded head, and the framing of the body that must follow it."""

    data: bytes
    framing: Framing
    length: int
    """Number of body bytes that must follow if framing is LENGTH, else -1."""
    keep_alive: bool
    """The connection stays open after this response."""
    status: int


class CheckedHead(NamedTuple):
    """The application's status and fields after `check_head`."""

    lines: str
    """Status line and field lines, each with CRLF."""
    status: int
    content_length: int
    """The application's Content-Length, or -1."""
    has_date: bool
    has_server: bool
    close: bool
    """The application sent ``Connection: close``."""
    dropped: tuple[str, ...]
    """Names of the hop-by-hop fields that were left out, in lower case."""


_status_lines: dict[str, tuple[int, str]] = {}
_names: dict[str, str] = {}


def check_head(status: Any, fields: Any) -> CheckedHead:
    """Check the status and fields that the application passed to ``start_response``.

    Raises `ApplicationError` for anything that cannot be sent or that would split the message.
    """
    try:
        code, status_line = _status_lines.get(status) or _check_status(status)
        return _scan(fields, [status_line], code)
    except (AttributeError, TypeError, ValueError) as error:
        raise ApplicationError("start_response takes a str and a list of (str, str)") from error


def check_fields(fields: Any) -> str:
    """Return the field lines of an interim response (1xx); raises `ApplicationError` like
    `check_head`."""
    try:
        return _scan(fields, [], 103).lines
    except (AttributeError, TypeError, ValueError) as error:
        raise ApplicationError("early hints must be a list of (str, str)") from error


def encode_head(
    checked: CheckedHead, body_length: int | None, context: ResponseContext
) -> ResponseHead:
    """Decide the framing and encode the head.

    ``body_length`` is the length of the whole body if it is known, else None. The application's
    Content-Length has precedence.
    """
    lines, code, length, has_date, has_server, close, _ = checked
    head_only, http_11, keep_alive, date, server, defaults = context
    if has_date or has_server:
        defaults = _defaults("" if has_date else date, "" if has_server else server)
    if close:
        keep_alive = False
    framing = _LENGTH
    tail = ""
    if head_only or code == 204 or code == 304:
        framing = _NONE
        # RFC 9110 section 8.6: a response to HEAD may have the Content-Length of GET. An empty body
        # proves nothing: many applications return none for HEAD.
        if length < 0 and body_length and code != 204 and code != 304:
            tail = f"Content-Length: {body_length}\r\n"
        length = -1
    elif length >= 0:
        pass
    elif body_length is not None:
        length = body_length
        tail = f"Content-Length: {length}\r\n"
    elif http_11:
        framing = _CHUNKED
        tail = "Transfer-Encoding: chunked\r\n"
    else:
        # HTTP/1.0 has no chunks: the end of the connection ends the body.
        framing, keep_alive = _CLOSE, False

    if not keep_alive:
        tail += "Connection: close\r\n"
    elif not http_11:
        # RFC 9112 section 9.3: an HTTP/1.0 client must be told.
        tail += "Connection: keep-alive\r\n"
    data = f"{lines}{defaults}{tail}\r\n".encode("latin-1")
    return tuple.__new__(ResponseHead, (data, framing, length, keep_alive, code))


def _check_status(status: Any) -> tuple[int, str]:
    if not isinstance(status, str):
        raise ApplicationError(f"status must be a str, not {type(status).__name__}")
    match = _STATUS.match(status)
    if match is None:
        raise ApplicationError(f"malformed status {status!r}")
    result = int(match[1]), f"HTTP/1.1 {match[1]} {match[2] or ''}\r\n"
    if len(_status_lines) < MAX_CACHED_NAMES and len(status) <= MAX_CACHED_LENGTH:
        _status_lines[status] = result
    return result


def _scan(fields: Any, lines: list[str], code: int) -> CheckedHead:
    """Check every field, append its line to ``lines``, and record those that affect the framing."""
    length, has_date, has_server, close = -1, False, False, False
    dropped: tuple[str, ...] = ()
    for name, value in fields:
        lower = _names.get(name)
        if lower is None:
            lower = _check_name(name)
        # Nearly every value is printable ASCII; these two methods are the fastest check.
        if not (value.isascii() and value.isprintable()):
            _check_value(name, value)
        if not lower:
            pass
        elif lower == "content-length":
            length = _check_length(value, length)
            # RFC 9110 section 8.6: responses with 1xx and 204 must not have one.
            if code == 204 or code < 200:
                continue
        elif lower == "date":
            has_date = True
        elif lower == "server":
            has_server = True
        else:
            dropped += (lower,)
            close = close or (lower == "connection" and _has_close(value))
            continue
        lines.append(f"{name}: {value}\r\n")
    facts = ("".join(lines), code, length, has_date, has_server, close, dropped)
    # Creates a CheckedHead without the Python call of CheckedHead.__new__, which is slower.
    return tuple.__new__(CheckedHead, facts)


def _check_name(name: Any) -> str:
    """Check a field name and cache the result.

    Returns the name in lower case if the server uses the field or leaves it out, else an empty
    string.
    """
    if not isinstance(name, str) or _TOKEN.match(name) is None:
        raise ApplicationError(f"malformed field name {name!r}")
    lower = name.lower()
    if lower in _FORBIDDEN:
        raise ApplicationError(
            f"the application may not send {name}, a hop-by-hop field (PEP 3333)"
        )
    if lower not in _ACTED_UPON:
        lower = ""
    if len(_names) < MAX_CACHED_NAMES and len(name) <= MAX_CACHED_LENGTH:
        _names[name] = lower
    return lower


def _check_value(name: str, value: str) -> None:
    if _VALUE.match(value) is None:
        raise ApplicationError(
            f"the value of field {name} contains a forbidden character: {value!r}"
        )


def _has_close(value: str) -> bool:
    """Return whether a Connection field has the option ``close`` (RFC 9110 section 7.6.1)."""
    return "close" in [option.strip() for option in value.lower().split(",")]


def _check_length(value: str, before: int) -> int:
    if before >= 0:
        raise ApplicationError("Content-Length is given more than once")
    if _DIGITS.match(value) is None:
        raise ApplicationError(f"malformed Content-Length {value!r}")
    return int(value)


def encode_chunk(data: bytes) -> bytes:
    """Encode ``data``, which must not be empty, as one chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def http_date(seconds: int) -> str:
    """Format ``seconds`` since the epoch as IMF-fixdate (RFC 9110 section 5.6.7)."""
    year, month, day, hour, minute, second, weekday, *_ = gmtime(seconds)
    return (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04}"
        f" {hour:02}:{minute:02}:{second:02} GMT"
    )


def reason_phrase(status: int) -> str:
    """Return the reason phrase of a status that the server itself sends."""
    return _REASONS.get(status, "Unknown")


def error_response(
    status: int, detail: str, context: ResponseContext, fields: Fields = ()
) -> ResponseHead:
    """Encode a complete plain-text response of the server; ``data`` has head and body.

    ``detail`` is the body's text; the body is left out for HEAD. The connection is closed unless
    ``context.keep_alive``.
    """
    text = f"{status} {reason_phrase(status)}\n{detail}\n".encode()
    checked = check_head(
        f"{status} {reason_phrase(status)}",
        [("Content-Type", "text/plain; charset=utf-8"), *fields],
    )
    head = encode_head(checked, len(text), context)
    return head if context.head_only else head._replace(data=head.data + text)
