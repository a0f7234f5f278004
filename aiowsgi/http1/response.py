"""The one response writer: status, fields and framing become bytes (RFC 9112 sections 4 to 9).

Writing lives apart from reading because a parser library writes slowly (h11 takes 28 µs for one
response head, this takes three) and because two parsers need one behaviour. h11's and httptools'
client sides are the oracles that the tests hold it against.

The laws:

* What the application gives is checked when it gives it, in `check_head`, so that the traceback
  shows who did; a field that could split the message never leaves.
* Framing is decided once, in `encode_head`, when the first byte is due.
* Nothing here performs I/O, asks the time or knows WSGI's calling convention.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from time import gmtime
from typing import Final, NamedTuple

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
"""The end of a chunked body without trailers (RFC 9112 section 7.1)."""

MAX_CACHED_NAMES: Final = 1024
"""Field names and status lines kept as known to be good. Applications use a few dozen; the bound
keeps one that invents names from filling memory. The number is a guess."""

# PEP 3333: status is "a code, a space, a reason", without control characters. RFC 9112 section 4
# allows an empty reason but wants the space. A 1xx answer cannot be final (RFC 9110 section 15.2).
_STATUS = re.compile(r"([2-5]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?\Z", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_DIGITS = re.compile(r"[0-9]{1,19}\Z")

# PEP 3333, "Other HTTP Features": an application must not send these; they describe a connection
# that it does not own (RFC 9110 section 7.6.1). The list is that of ``wsgiref.util``.
_HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailers",
        "transfer-encoding",
        "upgrade",
    )
)

_ACTED_UPON: Final = frozenset(("content-length", "date", "server"))

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
    """How a recipient will know where the body ends (RFC 9112 section 6.3)."""

    NONE = "none"
    """There is no body: HEAD, 204, 304."""
    LENGTH = "length"
    """Content-Length tells."""
    CHUNKED = "chunked"
    """The last chunk tells."""
    CLOSE = "close"
    """The end of the connection tells; all that HTTP/1.0 has for an unknown length."""


# Looking a member up on its enum costs as much as a call in Python 3.11, hence names of our own.
_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing


class ResponseContext(NamedTuple):
    """What the request and the server bring to a response's head. See `response_context`."""

    head_only: bool
    """The method was HEAD."""
    http_11: bool
    """The client speaks HTTP/1.1, so that chunked may be used."""
    keep_alive: bool
    """Request and server would both keep the connection."""
    date: str
    """The value of Date, or empty to send none."""
    server: str
    """The value of Server, or empty to send none."""
    defaults: str
    """The lines of both."""


def response_context(
    *, head_only: bool, http_11: bool, keep_alive: bool, date: str, server: str
) -> ResponseContext:
    """A context; it can serve all responses of one kind for as long as the date is right."""
    return ResponseContext(head_only, http_11, keep_alive, date, server, _defaults(date, server))


def _defaults(date: str, server: str) -> str:
    return (f"Date: {date}\r\n" if date else "") + (f"Server: {server}\r\n" if server else "")


class ResponseHead(NamedTuple):
    """An encoded head and what it promises."""

    data: bytes
    framing: Framing
    length: int
    """Number of body bytes that are to follow where framing is LENGTH, else -1."""
    keep_alive: bool
    """The head leaves the connection open after this response."""
    status: int


class CheckedHead(NamedTuple):
    """The application's status and fields, found fit to be sent."""

    lines: str
    """Status line and field lines, each with its CRLF."""
    status: int
    content_length: int
    """The application's Content-Length, or -1."""
    has_date: bool
    has_server: bool


_status_lines: dict[str, tuple[int, str]] = {}
_names: dict[str, str] = {}


def check_head(status: str, fields: Fields) -> CheckedHead:
    """Check what the application gave to ``start_response``.

    Raises `ApplicationError` for whatever could not be sent, or would make another message of it.
    """
    try:
        code, status_line = _status_lines.get(status) or _check_status(status)
        return _scan(fields, [status_line], code)
    except (AttributeError, TypeError, ValueError) as error:
        raise ApplicationError("start_response wants a str and a list of (str, str)") from error


def check_fields(fields: Fields) -> str:
    """The lines of an interim response's fields; raises `ApplicationError` like `check_head`."""
    return check_head("200", fields).lines.partition("\r\n")[2]


def encode_head(
    checked: CheckedHead, body_length: int | None, context: ResponseContext
) -> ResponseHead:
    """Decide the framing and encode the head.

    ``body_length`` is the number of bytes that the whole body has, where that is known now; the
    application's Content-Length, if it sent one, goes before it.
    """
    lines, code, length, has_date, has_server = checked
    head_only, http_11, keep_alive, date, server, defaults = context
    if has_date or has_server:
        defaults = _defaults("" if has_date else date, "" if has_server else server)
    framing = _LENGTH
    tail = ""
    if head_only or code == 204 or code == 304:
        framing = _NONE
        # RFC 9110 section 8.6: an answer to HEAD may carry the length that GET would have had. An
        # empty body says nothing: the application may have left it out because of HEAD.
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
        # All that HTTP/1.0 has for a body of unknown length is the end of the connection.
        framing, keep_alive = _CLOSE, False

    if not keep_alive:
        tail += "Connection: close\r\n"
    elif not http_11:
        # RFC 9112 section 9.3: an HTTP/1.0 client has to be told.
        tail += "Connection: keep-alive\r\n"
    data = f"{lines}{defaults}{tail}\r\n".encode("latin-1")
    return tuple.__new__(ResponseHead, (data, framing, length, keep_alive, code))


def _check_status(status: str) -> tuple[int, str]:
    if not isinstance(status, str):
        raise ApplicationError(f"status must be a str, not {type(status).__name__}")
    match = _STATUS.match(status)
    if match is None:
        raise ApplicationError(f"malformed status {status!r}")
    result = int(match[1]), f"HTTP/1.1 {match[1]} {match[2] or ''}\r\n"
    if len(_status_lines) < MAX_CACHED_NAMES:
        _status_lines[status] = result
    return result


def _scan(fields: Fields, lines: list[str], code: int) -> CheckedHead:
    """Check every field, append its line to ``lines``, and note those that matter to framing."""
    length, has_date, has_server = -1, False, False
    for name, value in fields:
        lower = _names.get(name)
        if lower is None:
            lower = _check_name(name)
        # Nearly every value is printable ASCII, which C finds out fastest.
        if not (value.isascii() and value.isprintable()):
            _check_value(name, value)
        if not lower:
            pass
        elif lower == "content-length":
            length = _check_length(value, length)
            # RFC 9110 section 8.6: a 204 answer must not have one.
            if code == 204:
                continue
        elif lower == "date":
            has_date = True
        else:
            has_server = True
        lines.append(f"{name}: {value}\r\n")
    facts = ("".join(lines), code, length, has_date, has_server)
    # What calling CheckedHead does, without the call of Python's in between.
    return tuple.__new__(CheckedHead, facts)


def _check_name(name: str) -> str:
    """Check that a field may be sent, and remember it.

    Returns the lower-case form of the few names that matter here, and nothing for the others.
    """
    if not isinstance(name, str) or _TOKEN.match(name) is None:
        raise ApplicationError(f"malformed field name {name!r}")
    lower = name.lower()
    if lower in _HOP_BY_HOP:
        raise ApplicationError(f"hop-by-hop field {name} is the server's to send (PEP 3333)")
    if lower not in _ACTED_UPON:
        lower = ""
    if len(_names) < MAX_CACHED_NAMES:
        _names[name] = lower
    return lower


def _check_value(name: str, value: str) -> None:
    if _VALUE.match(value) is None:
        raise ApplicationError(f"the value of field {name} holds what a field cannot: {value!r}")


def _check_length(value: str, before: int) -> int:
    if before >= 0:
        raise ApplicationError("Content-Length is given more than once")
    if _DIGITS.match(value) is None:
        raise ApplicationError(f"malformed Content-Length {value!r}")
    return int(value)


def encode_chunk(data: bytes) -> bytes:
    """``data``, which must not be empty, as one chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def http_date(seconds: int) -> str:
    """IMF-fixdate of ``seconds`` since the epoch (RFC 9110 section 5.6.7)."""
    year, month, day, hour, minute, second, weekday, *_ = gmtime(seconds)
    return (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04}"
        f" {hour:02}:{minute:02}:{second:02} GMT"
    )


def reason_phrase(status: int) -> str:
    """The reason phrase of a status that the server itself answers with."""
    return _REASONS.get(status, "Unknown")


def error_response(
    status: int, detail: str, context: ResponseContext, fields: Fields = ()
) -> ResponseHead:
    """A whole plain-text answer of the server's own: ``data`` holds head and body.

    ``detail`` becomes the body; ``context.head_only`` leaves it out. The connection is closed
    unless ``context.keep_alive``.
    """
    text = f"{status} {reason_phrase(status)}\n{detail}\n".encode()
    checked = check_head(
        f"{status} {reason_phrase(status)}",
        [("Content-Type", "text/plain; charset=utf-8"), *fields],
    )
    head = encode_head(checked, len(text), context)
    return head if context.head_only else head._replace(data=head.data + text)
