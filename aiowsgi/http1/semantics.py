"""Interprets a parsed request head: framing, host, persistence, expectation.

The bytes have passed ``syntax``. Both libraries' results are interpreted by the same rules. A head
that a proxy could understand differently is refused, even where RFC 9112 allows a repair:

- Content-Length: one field line, digits only. A repetition or a list is refused, equal or not.
- Transfer-Encoding: ``chunked`` once, on HTTP/1.1, without Content-Length.
- ``Content_Length`` and ``Transfer_Encoding`` are refused: CGI variables do not distinguish ``-``
  and ``_``, so an application or gateway could take them for the real fields.
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

# List fields may be repeated (RFC 9110 section 5.3), the others may not.
_LISTS: Final = frozenset({b"connection", b"expect"})
ACTED_UPON: Final = _LISTS | {
    b"content-length",
    b"content_length",
    b"host",
    b"transfer-encoding",
    b"transfer_encoding",
}
"""Names of the fields that the server itself uses, in lower case."""

# A cache of field names, as sent, that are not in ACTED_UPON: nearly all names of a request. The
# limits keep a client that invents names from filling the memory.
_ignored_names: Final[set[bytes]] = set()
_MAX_CACHED_NAMES: Final = 512
_MAX_CACHED_NAME_LENGTH: Final = 64

# Eighteen digits are an exabyte, and fit into a 64-bit integer of any other recipient.
_MAX_LENGTH_DIGITS: Final = 18

_TOKEN = re.compile(TOKEN)


def interpret(raw: RawHead, limits: Limits) -> Request:
    """Interpret a parsed request head. Raises RequestError with the status to answer."""
    method, target, version, fields = raw
    acted_upon: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _ignored_names:
            continue
        lowered = name.lower()
        if lowered not in ACTED_UPON:
            if len(_ignored_names) < _MAX_CACHED_NAMES and len(name) <= _MAX_CACHED_NAME_LENGTH:
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
        raise RequestError(413, "The request body is too large.", b"--max-body-size")
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
    # Creates a Request without the Python call of Request.__new__, which is slower.
    return tuple.__new__(Request, facts)


def _joined(name: bytes, first: bytes, second: bytes) -> bytes:
    # RFC 9112 section 6.3 allows a server to join equal lengths or to refuse them (RFC 9110 section
    # 8.6).
    if name not in _LISTS:
        raise RequestError(400, f"{name.decode().title()} is given more than once.")
    return first + b"," + second


def _elements(value: bytes) -> list[bytes]:
    """Return the elements of a list in lower case (RFC 9110 section 5.6.1)."""
    return [element.strip() for element in value.lower().split(b",")]


# Host (RFC 9110 section 7.2, RFC 9112 section 3.2)


def _host(value: bytes | None, *, is_1_1: bool) -> str:
    if value is None and is_1_1:
        raise RequestError(400, "The Host field is missing.")
    # RFC 9112 section 3.3: an empty Host stands for the server's default.
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
        raise RequestError(400, "A framing field has an underscore in its name.")
    coding = acted_upon.get(b"transfer-encoding")
    length = acted_upon.get(b"content-length")
    if coding is None:
        return 0 if length is None else _content_length(length)
    if length is not None:
        raise RequestError(400, "Transfer-Encoding and Content-Length are both given.")
    if not is_1_1:
        raise RequestError(400, "Transfer-Encoding is given in an HTTP/1.0 request.", coding)
    if coding.lower() != b"chunked":
        raise _coding_fault(coding)
    return CHUNKED


def _content_length(value: bytes) -> int:
    if not value.isdigit():
        raise RequestError(400, "Content-Length is not a decimal number.", value)
    if len(value) > _MAX_LENGTH_DIGITS:
        if len(value.lstrip(b"0")) <= _MAX_LENGTH_DIGITS:
            raise RequestError(400, "Content-Length has too many leading zeros.", value)
        raise RequestError(413, "The request body is too large.", b"--max-body-size")
    return int(value)


def _coding_fault(value: bytes) -> RequestError:
    """Return the error for a Transfer-Encoding other than ``chunked``.

    400 if chunked is not the final coding (RFC 9112 section 6.3) or is applied twice (section 7.1),
    501 if a coding is merely unknown (section 6.1).
    """
    *inner, final = _elements(value)
    if final != b"chunked" or b"chunked" in inner or not all(map(_TOKEN.fullmatch, inner)):
        return RequestError(
            400, "Transfer-Encoding is malformed or does not end in chunked.", value
        )
    return RequestError(501, "The transfer coding is not implemented.", value)


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
        raise RequestError(417, "The expectation cannot be met.", value)
    # The caller ignores it for a request without a body.
    return True
