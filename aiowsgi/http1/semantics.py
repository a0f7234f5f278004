"""What a request's header section means: how it is framed, whom it addresses, what it asks of us.

The second gate, behind the parser library: the grammar is known to be right, and the fields are
given their meaning once for both libraries. Everything that could make this server and a proxy in
front of it see different requests is refused here, even where RFC 9112 would allow a guess.

- Content-Length: one field line, digits only. Repeated or listed is refused, equal or not.
- Transfer-Encoding: ``chunked`` once, on HTTP/1.1, without Content-Length.
- ``Content_Length`` and ``Transfer_Encoding`` are refused: CGI's names for fields make no
  difference between ``-`` and ``_``, so that applications and gateways could take them for real.
- Host: exactly one on HTTP/1.1, at most one on HTTP/1.0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.messages import CHUNKED, Request
from aiowsgi.http1.syntax import TOKEN
from aiowsgi.http1.target import check_authority, parse_target

if TYPE_CHECKING:
    from aiowsgi.http1.messages import Limits, RawHead

__all__ = ["ACTED_UPON", "interpret"]

# Those that are a list may come on several lines (RFC 9110 section 5.3), the others may not.
_LISTS: Final = frozenset({b"connection", b"expect"})
ACTED_UPON: Final = _LISTS | {
    b"content-length",
    b"content_length",
    b"host",
    b"transfer-encoding",
    b"transfer_encoding",
}
"""Names of the fields that this server itself acts upon, in lower case."""

# Names as they were sent that are not among these: most of every request's. The bound keeps a
# client that invents names from filling memory.
_ignored_names: Final[set[bytes]] = set()
_MAX_CACHED_NAMES: Final = 512

# Eighteen digits say an exabyte and fit into the integers of whatever stands in front.
_LONGEST_CONTENT_LENGTH: Final = 18

_TOKEN = re.compile(TOKEN)


def interpret(raw: RawHead, limits: Limits) -> Request:
    """Give a parsed header section its meaning, or raise RequestError with the status due."""
    method, target, version, fields = raw
    acted_upon: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _ignored_names:
            continue
        lowered = name.lower()
        if lowered not in ACTED_UPON:
            if len(_ignored_names) < _MAX_CACHED_NAMES:
                _ignored_names.add(name)
        elif lowered in acted_upon:
            acted_upon[lowered] = _joined(lowered, acted_upon[lowered], value)
        else:
            acted_upon[lowered] = value
    is_1_1 = version == b"1.1"
    native_method, native_target = method.decode(), target.decode()
    path, query, authority = parse_target(native_method, native_target)
    host = _host(acted_upon.get(b"host"), is_1_1=is_1_1)
    content_length = _body_length(acted_upon, is_1_1=is_1_1)
    if 0 < limits.body_size < content_length:
        raise RequestError(413, "The content is too large.")
    if authority is not None:
        host, fields = authority, _with_host(fields, authority)
    facts = (
        native_method,
        native_target,
        path,
        query,
        host,
        "HTTP/1.1" if is_1_1 else "HTTP/1.0",
        fields,
        content_length,
        _keep_alive(acted_upon.get(b"connection"), is_1_1=is_1_1),
        _expects_continue(acted_upon.get(b"expect"), is_1_1=is_1_1) and content_length != 0,
    )
    # What calling Request does, without the call of Python's in between.
    return tuple.__new__(Request, facts)


def _joined(name: bytes, first: bytes, second: bytes) -> bytes:
    # RFC 9112 section 6.3 would have equal lengths taken as one; RFC 9110 section 8.6 leaves the
    # choice to refuse them.
    if name not in _LISTS:
        raise RequestError(400, "A field that may stand only once is repeated.")
    return first + b"," + second


def _elements(value: bytes) -> list[bytes]:
    """The elements of a list, in lower case (RFC 9110 section 5.6.1)."""
    return [element.strip() for element in value.lower().split(b",")]


# Host (RFC 9110 section 7.2, RFC 9112 section 3.2)


def _host(value: bytes | None, *, is_1_1: bool) -> str:
    if value is None and is_1_1:
        raise RequestError(400, "There is no Host field.")
    # RFC 9112 section 3.3: an empty Host is left to the configured default.
    if not value:
        return ""
    host = value.decode("latin-1")
    check_authority(host)
    return host


def _with_host(fields: list[tuple[bytes, bytes]], authority: str) -> list[tuple[bytes, bytes]]:
    # RFC 9112 section 3.2.2: the Host that was received MUST be ignored.
    others = [field for field in fields if field[0].lower() != b"host"]
    return [(b"Host", authority.encode("ascii")), *others]


# Framing (RFC 9112 section 6)


def _body_length(acted_upon: dict[bytes, bytes], *, is_1_1: bool) -> int:
    if b"transfer_encoding" in acted_upon or b"content_length" in acted_upon:
        raise RequestError(400, "A framing field's name is written with an underscore.")
    coding = acted_upon.get(b"transfer-encoding")
    length = acted_upon.get(b"content-length")
    if coding is None:
        return 0 if length is None else _content_length(length)
    if length is not None:
        raise RequestError(400, "Transfer-Encoding and Content-Length exclude each other.")
    if not is_1_1:
        raise RequestError(400, "HTTP/1.0 has no Transfer-Encoding.")
    if coding.lower() != b"chunked":
        raise _coding_fault(coding)
    return CHUNKED


def _content_length(value: bytes) -> int:
    if not value.isdigit():
        raise RequestError(400, "Content-Length is no decimal number.")
    if len(value) > _LONGEST_CONTENT_LENGTH:
        raise RequestError(413, "The content is too large.")
    return int(value)


def _coding_fault(value: bytes) -> RequestError:
    """Which refusal a Transfer-Encoding other than ``chunked`` deserves.

    RFC 9112 section 6.3 demands 400 where chunked is not the final coding, section 7.1 forbids to
    apply it twice, and section 6.1 asks for 501 where a coding is merely not understood.
    """
    *inner, final = _elements(value)
    if final != b"chunked" or b"chunked" in inner or not all(map(_TOKEN.fullmatch, inner)):
        return RequestError(400, "Transfer-Encoding is malformed or does not end in chunked.")
    return RequestError(501, "The transfer coding is not implemented.")


# The connection (RFC 9112 section 9.3) and expectations (RFC 9110 section 10.1.1)


def _keep_alive(value: bytes | None, *, is_1_1: bool) -> bool:
    if value is None:
        return is_1_1
    if value == b"keep-alive":
        return True
    options = _elements(value)
    return b"close" not in options and (is_1_1 or b"keep-alive" in options)


def _expects_continue(value: bytes | None, *, is_1_1: bool) -> bool:
    # An expectation in an HTTP/1.0 request MUST be ignored.
    if value is None or not is_1_1:
        return False
    if any(element != b"100-continue" for element in _elements(value)):
        raise RequestError(417, "The expectation cannot be met.")
    # Whether to answer it is another matter: not where the framing says that nothing is to come.
    return True
