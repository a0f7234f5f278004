"""Reads the requests of one connection: bytes in, requests and bodies out.

The pipeline for a head is: cache, syntax check, parser library, semantics. Bodies are decoded here,
not by the library. The reader parses one request at a time; later bytes remain in its buffer until
they are asked for.

Guarantees: the result depends only on the bytes, not on how they were split (except for when an
error is reported). After an error the same error is reported forever, because the boundaries of the
next request are unknown.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NoReturn

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.body import LengthBody, body_reader
from aiowsgi.http1.head_cache import HeadCache
from aiowsgi.http1.messages import END_OF_BODY, RawHead, Request
from aiowsgi.http1.receive_buffer import ReceiveBuffer
from aiowsgi.http1.semantics import interpret
from aiowsgi.http1.syntax import LineCheck, check_head, split_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiowsgi.http1.body import BodyReader
    from aiowsgi.http1.messages import BodyEvent, HeadParser, Limits

__all__ = ["RequestReader"]


class _State(IntEnum):
    """The position of the next byte in the stream of requests."""

    START = 0  # before a request; one empty line is skipped (RFC 9112 section 2.2)
    HEAD = 1  # before a request, after that empty line
    BODY = 2  # after a request head that was returned
    CLOSED = 3  # after the last request of the connection
    FAILED = 4  # after an error


# Looking up an enum member takes a tenth of the time that parsing a request takes.
_START, _HEAD, _BODY, _CLOSED, _FAILED = _State
_CR = 0x0D
LONGEST_LINE: Final = 2048
"""Bytes that are remembered of the request line of a refused request, for the logs."""

_END = b"\r\n\r\n"


class RequestReader:
    """The requests of one connection.

    ``feed`` may be called at any time. Call ``next_request`` until it returns a request, then
    ``next_body`` until it returns END_OF_BODY, then ``next_request`` again. Both raise RequestError
    if the request is refused, and then at every later call.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_cache_miss",
        "_fault",
        "_head_cache",
        "_last",
        "_limits",
        "_line_check",
        "_parse_head",
        "_refused_line",
        "_state",
    )

    def __init__(self, parse_head: HeadParser, limits: Limits) -> None:
        self._parse_head = parse_head
        self._limits = limits
        self._buffer = ReceiveBuffer()
        self._state = _START
        self._head_cache = HeadCache(limits)
        # The head that lookup() did not find; next_request() need not look again.
        self._cache_miss = b""
        # Checks an incomplete head; None if none is buffered.
        self._line_check: LineCheck | None = None
        # Decodes the body of the current request; None if it has none.
        self._body: BodyReader | None = None
        # Whether the current request is the last one of the connection.
        self._last = False
        # Arguments of the RequestError that ended the reading. The exception itself would keep its
        # traceback's frames alive.
        self._fault = (0, "")
        # What was read of the request line of the request that ended the reading.
        self._refused_line = b""

    def feed(self, data: bytes) -> None:
        """Append ``data`` to the stream; it is dropped if no further request can be read."""
        if self._state < _CLOSED:
            self._buffer.append(data)

    @property
    def buffered(self) -> int:
        """Number of buffered bytes that no request has used yet."""
        return len(self._buffer)

    def take_rest(self) -> bytes:
        """All bytes that are held, for another protocol that goes on with the connection."""
        return self._buffer.take(len(self._buffer))

    @property
    def started(self) -> bool:
        """Whether a part of a request head is buffered.

        Valid after ``next_request`` returned None; an empty line is not part of a request.
        """
        return len(self._buffer) > 0

    def try_fast_path(self, data: bytes) -> Request | None:
        """Return the next request if nothing is buffered and ``data`` is one complete head, similar
        to an earlier one, without a body.

        Otherwise return None without using ``data``; the caller then calls `feed`. The reader is
        ready for the next request afterwards.
        """
        if self._state is not _START or len(self._buffer) > 0:
            return None
        request = self._head_cache.latest.match_same(data)
        if request is None and data.find(_END) == len(data) - len(_END):
            request = self._head_cache.lookup(data)
            self._cache_miss = data if request is None else b""
        return None if request is None or request.content_length else request

    def next_request(self) -> Request | None:
        """Return the next request's head, or None if more bytes are needed.

        Always returns None after a request that ends the connection (RFC 9112 section 9.6).
        """
        try:
            return _ON_NEXT_REQUEST[self._state](self)
        except RequestError as error:
            self._fail(error)
            raise

    def next_body(self) -> BodyEvent:
        """Return the next piece of the current body; see ``messages.BodyEvent``."""
        try:
            return _ON_NEXT_BODY[self._state](self)
        except RequestError as error:
            self._fail(error)
            raise

    @property
    def request_line(self) -> bytes:
        """As much as was read of the request line of a request that was not returned.

        Without line end; at most `LONGEST_LINE` bytes.
        """
        return self._refused_line or _first_line(self._buffer.peek(0, LONGEST_LINE))

    @property
    def body_remaining(self) -> int:
        """Number of body bytes that have not been fed, all of which may bypass the reader.

        0 if the number is unknown, or if body bytes are still buffered.
        """
        body = self._body
        return body.remaining if isinstance(body, LengthBody) and not len(self._buffer) else 0

    def skip_body(self, size: int) -> None:
        """Count ``size`` body bytes as read: they bypass the reader."""
        if isinstance(self._body, LengthBody):
            self._body.skip(size)

    # Header section

    def _read_request(self) -> Request | None:
        head = self._buffer.take_through(_END)
        if head is None:
            self._check_incomplete()
            return None
        if head[0] == _CR and self._state is _START:
            head = head.removeprefix(b"\r\n")
        request = None if head is self._cache_miss else self._head_cache.lookup(head)
        self._cache_miss = b""
        if request is None:
            try:
                request = _read_head(head, self._parse_head, self._limits)
            except RequestError:
                self._refused_line = _first_line(head)
                raise
            self._head_cache.store(head, request)
        self._line_check = None
        self._last = not request.keep_alive
        if request.content_length:
            self._body = body_reader(request.content_length, self._limits)
        self._state = _BODY
        return request

    def _check_incomplete(self) -> None:
        held = self._buffer
        if self._state is _START and held.startswith(b"\r\n"):
            held.take(2)
            self._state = _HEAD
        if len(held) == 0 or (self._state is _START and held.peek(0, 2) == b"\r"):
            return
        if self._line_check is None:
            self._line_check = LineCheck(self._limits)
        try:
            self._line_check.check_incomplete(held)
        except RequestError:
            self._refused_line = _first_line(held.peek(0, LONGEST_LINE))
            raise

    def clear_cache(self) -> None:
        """Free the cached heads; called when the connection becomes idle."""
        self._head_cache.clear()

    # Body

    def _read_body(self) -> BodyEvent:
        event = END_OF_BODY if self._body is None else self._body.read(self._buffer)
        if event is END_OF_BODY:
            self._body = None
            self._state = _CLOSED if self._last else _START
            if self._last:
                self._buffer.clear()
        return event

    # Ends

    def _closed(self) -> None:
        return None

    def _fail(self, error: RequestError) -> None:
        self._state = _FAILED
        self._fault = (error.status, error.detail)
        self._buffer.clear()

    def _failed(self) -> NoReturn:
        raise RequestError(*self._fault)

    def _out_of_turn(self) -> NoReturn:
        raise RuntimeError("next_request() and next_body() were called out of order")


_ON_NEXT_REQUEST: Final[dict[_State, Callable[[RequestReader], Request | None]]] = {
    _START: RequestReader._read_request,  # noqa: SLF001 (the class's own table)
    _HEAD: RequestReader._read_request,  # noqa: SLF001
    _BODY: RequestReader._out_of_turn,  # noqa: SLF001
    _CLOSED: RequestReader._closed,  # noqa: SLF001
    _FAILED: RequestReader._failed,  # noqa: SLF001
}
"""What `RequestReader.next_request` calls in each state."""

_ON_NEXT_BODY: Final[dict[_State, Callable[[RequestReader], BodyEvent]]] = {
    _START: RequestReader._out_of_turn,  # noqa: SLF001
    _HEAD: RequestReader._out_of_turn,  # noqa: SLF001
    _BODY: RequestReader._read_body,  # noqa: SLF001
    _CLOSED: RequestReader._out_of_turn,  # noqa: SLF001
    _FAILED: RequestReader._failed,  # noqa: SLF001
}
"""What `RequestReader.next_body` calls in each state."""


def _first_line(data: bytes) -> bytes:
    return data.partition(b"\n")[0].removesuffix(b"\r")[:LONGEST_LINE]


def _read_head(head: bytes, parse_head: HeadParser, limits: Limits) -> Request:
    outline = check_head(head, limits)
    if outline[2] not in _KNOWN_VERSIONS:
        head, outline = _as_1_1(head, outline)
    try:
        raw = parse_head(head)
    except RequestError:
        # The status must not depend on the library. Interpreting the fields that were split without
        # the library finds most errors; the library's error remains for the rest.
        interpret(RawHead(*outline[:3], split_fields(head)), limits)
        raise
    method, target, version, fields = raw
    if (method, target, version, len(fields)) != outline:
        raise RequestError(400, "The header section is ambiguous.")
    return interpret(raw, limits)


# RFC 9110 section 2.5: a request of a higher minor version is processed as HTTP/1.1.
_KNOWN_VERSIONS: Final = (b"1.1", b"1.0")


def _as_1_1(
    head: bytes, outline: tuple[bytes, bytes, bytes, int]
) -> tuple[bytes, tuple[bytes, bytes, bytes, int]]:
    """Rewrite a head of HTTP/1.2 to 1.9 as HTTP/1.1, which both libraries accept."""
    method, target, version, field_count = outline
    line, _, rest = head.partition(b"\r\n")
    return line.removesuffix(version) + b"1.1\r\n" + rest, (method, target, b"1.1", field_count)
