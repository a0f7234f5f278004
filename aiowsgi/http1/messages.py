"""The values that reading HTTP/1.1 yields; what the two parsers agree upon.

Only facts live here: no parsing, no I/O. They are named tuples: immutable, slotted, and built in
a third of the time of a frozen dataclass, which matters for the one that is made per request.
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
]


class Sentinel(Enum):
    """Answers of the reader that carry no data."""

    NEED_DATA = "NEED_DATA"
    END_OF_BODY = "END_OF_BODY"


NEED_DATA: Final = Sentinel.NEED_DATA
"""The reader can say no more before further bytes are fed to it."""

END_OF_BODY: Final = Sentinel.END_OF_BODY
"""The request is complete, trailers included; bytes behind it belong to the next one."""

CHUNKED: Final = -1
"""``Request.content_length`` of a body in the chunked transfer coding."""

BodyEvent: TypeAlias = bytes | Literal[Sentinel.NEED_DATA, Sentinel.END_OF_BODY]


class RawHead(NamedTuple):
    """What a parser library makes of a header section, before any rule of ours is applied."""

    method: bytes
    target: bytes
    version: bytes
    """``b"1.0"`` or ``b"1.1"``."""
    fields: list[tuple[bytes, bytes]]
    """Names in the case that the library gives; values without surrounding whitespace."""


HeadParser: TypeAlias = Callable[[bytes], RawHead]
"""Parses one complete header section (request line to empty line); raises RequestError."""


class Limits(NamedTuple):
    """Bounds on what a client may send; ``0`` means unlimited. Sizes are bytes."""

    request_line: int = 8 * 1024
    """Of the request line without its CRLF; beyond it 414 (RFC 9112 section 3)."""
    header_size: int = 64 * 1024
    """Of the whole header section, request line and empty line included; beyond it 431."""
    fields: int = 100
    """Number of field lines; beyond it 431. Applies to a trailer section too."""
    body_size: int = 1024 * 1024 * 1024
    """Of the content after the transfer coding is removed; beyond it 413."""


class Request(NamedTuple):
    """One request's head, checked, with everything that framing needs decided.

    Strings are "native" in the sense of PEP 3333: each character stands for one byte (latin-1).
    """

    method: str
    target: str
    """The request-target as it came, for ``REQUEST_URI`` and the access log."""
    path: str
    """Path of the target, still percent-encoded; ``*`` for the asterisk form."""
    query: str
    """What follows the first ``?``, without it; empty where there is none."""
    host: str
    """Effective ``uri-host [":" port]`` (RFC 9112 section 3.2.2: an absolute-form target's
    authority over the Host field); empty where HTTP/1.0 named none."""
    version: str
    """``HTTP/1.0`` or ``HTTP/1.1``."""
    fields: list[tuple[bytes, bytes]]
    """All field lines in order, names in the client's or lower case, values stripped. In an
    absolute-form request the Host line's value is replaced by the target's authority."""
    content_length: int
    """Length of the body in bytes; 0 for none; CHUNKED where only its end will tell."""
    keep_alive: bool
    """The client wants the connection kept after this exchange (RFC 9112 section 9.3)."""
    expect_continue: bool
    """The client waits for 100 (Continue) before its body (RFC 9110 section 10.1.1)."""
