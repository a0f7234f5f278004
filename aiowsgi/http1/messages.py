"""The values that the request reader returns, the same for both parser libraries.

No parsing and no I/O. They are named tuples because creating one takes a third of the time of a
frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = [
    "CHUNKED",
    "END_OF_BODY",
    "NEED_DATA",
    "BodyEvent",
    "HeadParser",
    "Limits",
    "RawHead",
    "Request",
    "Sentinel",
    "partial_request",
]


class Sentinel(Enum):
    """Results of the reader that carry no data."""

    NEED_DATA = "NEED_DATA"
    END_OF_BODY = "END_OF_BODY"


NEED_DATA: Final = Sentinel.NEED_DATA
"""More bytes must be fed before the reader can continue."""

END_OF_BODY: Final = Sentinel.END_OF_BODY
"""The body is complete, trailers included; the next bytes belong to the next request."""

CHUNKED: Final = -1
"""``Request.content_length`` of a chunked body."""

BodyEvent: TypeAlias = bytes | Literal[Sentinel.NEED_DATA, Sentinel.END_OF_BODY]


class RawHead(NamedTuple):
    """The parts of a request head as the parser library returns them, before they are
    interpreted."""

    method: bytes
    target: bytes
    version: bytes
    """``b"1.0"`` or ``b"1.1"``."""
    fields: list[tuple[bytes, bytes]]
    """Names in the case that the library returns; values without surrounding whitespace."""


HeadParser: TypeAlias = Callable[[bytes], RawHead]
"""Parses one complete request head, request line to empty line; raises RequestError."""


class Limits(NamedTuple):
    """Limits on requests; 0 means no limit. Sizes are in bytes."""

    request_line: int = 8 * 1024
    """Request line without CRLF; a longer one is answered 414 (RFC 9112 section 3)."""
    header_size: int = 64 * 1024
    """Request head, from the request line to the empty line; a larger one is answered 431."""
    fields: int = 100
    """Number of field lines; more are answered 431. Also the limit for trailer fields."""
    body_size: int = 1024 * 1024 * 1024
    """Content after decoding of chunks; more is answered 413."""


class Request(NamedTuple):
    """A checked and interpreted request head.

    Strings are "native" as defined by PEP 3333: each character stands for one byte (latin-1).
    """

    method: str
    target: str
    """The request-target as sent, for ``REQUEST_URI`` and the access log."""
    path: str
    """Path of the target, percent-encoded; ``*`` for the asterisk form."""
    query: str
    """Text after the first ``?``; empty if there is none."""
    host: str
    """Effective ``uri-host [":" port]``: the authority of an absolute-form target, else the Host
    field (RFC 9112 section 3.2.2). Empty if an HTTP/1.0 request has neither."""
    version: str
    """``HTTP/1.0`` or ``HTTP/1.1``."""
    fields: list[tuple[bytes, bytes]]
    """All field lines in order; names in the client's or in lower case, values stripped. For an
    absolute-form target, Host has the target's authority."""
    content_length: int
    """Length of the body in bytes; 0 for none, CHUNKED for a chunked one."""
    keep_alive: bool
    """The client wants to reuse the connection (RFC 9112 section 9.3)."""
    expect_continue: bool
    """The client waits for 100 (Continue) before it sends the body (RFC 9110 section 10.1.1)."""


def partial_request(line: bytes) -> Request:
    """What can be said of a request of which only ``line`` was read, the beginning of a head.

    For the logs: nothing is checked, and what was not read is empty.
    """
    method, _, rest = line.decode("latin-1").partition(" ")
    target, _, version = rest.partition(" ")
    path, _, query = target.partition("?")
    return Request(
        method, target, path, query, "", version, [], 0, keep_alive=False, expect_continue=False
    )
