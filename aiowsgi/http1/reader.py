"""Bytes in, requests out: one connection's stream of requests, read one at a time.

The reader joins the rooms around it: the raw grammar stands before the parser library, the
meaning of the fields behind it, and the body is read by our own hand. It holds what it is fed
until it is asked, so that bytes of a later request stay unparsed while one is being served.

Its laws: what comes out depends on the bytes only, never on how they were split (but for when a
fault is reported); and once a fault was found the same is reported for ever, for behind it no
byte's place in the stream is known.
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
    """Where in the stream of requests the next byte stands."""

    START = 0  # before a request, where one empty line is skipped (RFC 9112 section 2.2)
    HEAD = 1  # before a request, behind that empty line
    BODY = 2  # behind a header section that was given out
    CLOSED = 3  # behind the last request of the connection
    FAILED = 4  # behind a fault


# A member is looked up in its class in a tenth of the time that a request takes to parse.
_START, _HEAD, _BODY, _CLOSED, _FAILED = _State
_CR = 0x0D
_END = b"\r\n\r\n"


class RequestReader:
    """Reads the requests of one connection.

    ``feed`` may be called at any time. Call ``next_request`` until it gives a request, then
    ``next_body`` until it gives END_OF_BODY, then ``next_request`` again. Both raise RequestError
    where the client is refused, and from then on at every call.
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
        "_state",
    )

    def __init__(self, parse_head: HeadParser, limits: Limits) -> None:
        self._parse_head = parse_head
        self._limits = limits
        self._buffer = ReceiveBuffer()
        self._state = _START
        self._head_cache = HeadCache(limits)
        # A head that was found to be like none of them, and will be asked for next.
        self._cache_miss = b""
        # Checks a header section that is incomplete; None unless one is held.
        self._line_check: LineCheck | None = None
        # Reads the body of the request that was given out; None where it has none.
        self._body: BodyReader | None = None
        # Whether the request that was given out is the connection's last.
        self._last = False
        # Arguments of the RequestError that ended the reading, once one did. The error itself
        # would keep alive the frames through which it was raised.
        self._fault = (0, "")

    def feed(self, data: bytes) -> None:
        """Hold ``data`` as the next bytes of the stream; dropped where none can be read."""
        if self._state < _CLOSED:
            self._buffer.append(data)

    @property
    def buffered(self) -> int:
        """Number of bytes that are held and not yet taken by a request."""
        return len(self._buffer)

    @property
    def started(self) -> bool:
        """Whether a request has begun to come whose header section is incomplete.

        Meaningful after ``next_request`` gave None; an empty line begins no request.
        """
        return len(self._buffer) > 0

    def try_fast_path(self, data: bytes) -> Request | None:
        """The next request, where it is simple: ``data``, with nothing held, is one whole head,
        like one before, and no body follows.

        Else None, and nothing was taken: feed ``data``. Behind a simple one comes a request.
        """
        if self._state is not _START or len(self._buffer) > 0:
            return None
        request = self._head_cache.latest.match_same(data)
        if request is None and data.find(_END) == len(data) - len(_END):
            request = self._head_cache.lookup(data)
            self._cache_miss = data if request is None else b""
        return None if request is None or request.content_length else request

    def next_request(self) -> Request | None:
        """The next request's head, or None until more of it is fed.

        None for ever behind a request that ended the connection (RFC 9112 section 9.6).
        """
        try:
            return _ON_NEXT_REQUEST[self._state](self)
        except RequestError as error:
            self._fail(error)
            raise

    def next_body(self) -> BodyEvent:
        """What has come of the body of the request last given; see ``events.BodyEvent``."""
        try:
            return _ON_NEXT_BODY[self._state](self)
        except RequestError as error:
            self._fail(error)
            raise

    @property
    def body_remaining(self) -> int:
        """Bytes of the present body that were not fed yet, all of which may go another way.

        0 where their number is not known, or where something is held that comes before them.
        """
        body = self._body
        return body.remaining if isinstance(body, LengthBody) and not len(self._buffer) else 0

    def skip_body(self, size: int) -> None:
        """``size`` bytes of those ahead have gone another way."""
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
            request = _read_head(head, self._parse_head, self._limits)
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
        self._line_check.check_incomplete(held)

    def clear_cache(self) -> None:
        """Keep nothing for the next request: it may be long in coming."""
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
        raise RuntimeError("the reader was asked out of turn")


_ON_NEXT_REQUEST: Final[dict[_State, Callable[[RequestReader], Request | None]]] = {
    _START: RequestReader._read_request,  # noqa: SLF001 (the class's own table)
    _HEAD: RequestReader._read_request,  # noqa: SLF001
    _BODY: RequestReader._out_of_turn,  # noqa: SLF001
    _CLOSED: RequestReader._closed,  # noqa: SLF001
    _FAILED: RequestReader._failed,  # noqa: SLF001
}
"""How `RequestReader.next_request` answers in each state."""

_ON_NEXT_BODY: Final[dict[_State, Callable[[RequestReader], BodyEvent]]] = {
    _START: RequestReader._out_of_turn,  # noqa: SLF001
    _HEAD: RequestReader._out_of_turn,  # noqa: SLF001
    _BODY: RequestReader._read_body,  # noqa: SLF001
    _CLOSED: RequestReader._out_of_turn,  # noqa: SLF001
    _FAILED: RequestReader._failed,  # noqa: SLF001
}
"""How `RequestReader.next_body` answers in each state."""


def _read_head(head: bytes, parse_head: HeadParser, limits: Limits) -> Request:
    outline = check_head(head, limits)
    try:
        raw = parse_head(head)
    except RequestError:
        # The status must not depend on the library: our own reading of the fields knows what is
        # wrong, and only what it finds no fault with gets the library's answer.
        interpret(RawHead(*outline[:3], split_fields(head)), limits)
        raise
    method, target, version, fields = raw
    if (method, target, version, len(fields)) != outline:
        raise RequestError(400, "The header section can be read in two ways.")
    return interpret(raw, limits)
