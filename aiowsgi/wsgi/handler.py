"""PEP 3333, the server's side: call the application, and turn what it does into a response.

`run_application` is the whole of it. It knows neither threads nor the event loop nor a parser:
what it sends goes to a `Sink`, which may block, and which raises `ClientDisconnected` once nobody
listens. A response is a small state machine::

    state       start_response      a block                        the end          an exception
    ---------   -----------------   ----------------------------   --------------   ----------------
    NEW         → STARTED           error                          error            500 → COMPLETE
    STARTED     with exc_info only  head and block → SENDING       head → COMPLETE  500 → COMPLETE
    SENDING     exc_info: reraised  block                          → COMPLETE       torn → ABORTED
    COMPLETE    error, logged       dropped, logged as too long    -                logged
    ABORTED     error, logged       dropped                        -                logged

The laws:

* The iterable's ``close()`` is called exactly once, in every outcome.
* A response that cannot be finished is torn, never ended as if it were whole.
* The last byte is marked as the last in the same call that sends it, so that the connection can go
  on while the application still cleans up.
* Nothing that the application raises leaves `run_application`: not SystemExit, not GeneratorExit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from enum import Enum
from types import TracebackType
from typing import Any, Final, Protocol, TypeAlias

from aiowsgi.exceptions import ApplicationError, ClientDisconnected, RequestBodyError
from aiowsgi.http1.response import (
    LAST_CHUNK,
    CheckedHead,
    Fields,
    Framing,
    ResponseContext,
    ResponseHead,
    check_head,
    encode_chunk,
    encode_head,
    error_response,
)
from aiowsgi.wsgi.file_wrapper import FileRange, FileWrapper, file_range

__all__ = ["Environ", "Response", "ResponseSink", "WSGIApplication", "run_application"]

Environ: TypeAlias = dict[str, Any]
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType]
Write: TypeAlias = Callable[[bytes], None]


class StartResponse(Protocol):
    """The second argument of a WSGI application."""

    def __call__(self, status: str, headers: Fields, exc_info: Any = None, /) -> Write: ...


WSGIApplication: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

logger = logging.getLogger("aiowsgi.application")

COPY_BELOW: Final = 32 * 1024
"""Bodies shorter than this are joined to their head: one copy of up to that many bytes costs less
than handing two buffers to the kernel. Measured, within a factor of two."""


class ResponseSink(Protocol):
    """Where a response's bytes go. Every method may raise `ClientDisconnected`."""

    def context(self) -> ResponseContext:
        """What the head needs to know; asked when the head is about to be sent."""

    def send(self, *buffers: bytes, last: bool) -> None:
        """Send the buffers in order; with ``last`` the response is complete."""

    def send_file(self, head: bytes, part: FileRange) -> None:
        """Send ``head`` and a part of a file, which completes the response.

        Never waits for a slow client; the descriptor may be closed once this returns.
        """

    def abort(self) -> None:
        """Tear the connection, so that nobody takes what was sent for a whole response."""

    def describe(self) -> str:
        """The request line, for the log."""


TOO_LONG: Final = "the body is longer than its Content-Length; the rest is cut"


def _too_short(missing: int) -> str:
    return f"the body is {missing} bytes shorter than its Content-Length"


class ResponseState(Enum):
    """Where a response stands; see the table in the module's docstring."""

    NEW = "new"
    STARTED = "started"
    SENDING = "sending"
    COMPLETE = "complete"
    ABORTED = "aborted"


# Looking a member up on its enum costs as much as a call in Python 3.11, hence names of our own.
_NEW, _STARTED, _SENDING, _COMPLETE, _ABORTED = ResponseState
_NONE, _LENGTH, _CHUNKED, _ = Framing


class Response:
    """One response in the making; the object behind ``start_response`` and ``write``."""

    __slots__ = (
        "_checked",
        "_remaining",
        "_sink",
        "body_bytes",
        "fields",
        "framing",
        "keep_alive",
        "state",
        "status",
    )

    def __init__(self, sink: ResponseSink) -> None:
        self._sink = sink
        # What start_response was given last, checked; None before.
        self._checked: CheckedHead | None = None
        # The application's fields as it gave them, for the access log.
        self.fields: Fields = ()
        # The status code of the head that was sent, 0 before; and what ends the body after it.
        self.status = 0
        self.framing = _NONE
        # Body bytes that Content-Length still promises; -1 where another framing tells the end.
        self._remaining = -1
        self.state = _NEW
        # The head that was made leaves the connection open.
        self.keep_alive = False
        # Body bytes handed to the sink, for the access log.
        self.body_bytes = 0

    @property
    def begun(self) -> bool:
        """The head has been sent."""
        return self.status != 0

    @property
    def body_forbidden(self) -> bool:
        """The head is sent and nothing may follow it: HEAD, 204, 304."""
        return self.status != 0 and self.framing is _NONE

    # PEP 3333: the start_response() callable

    def start_response(
        self, status: str, headers: Fields, exc_info: ExcInfo | None = None, /
    ) -> Write:
        """Take status and fields; nothing is sent before the first block of the body."""
        if exc_info is not None:
            try:
                if self.status:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # PEP 3333: avoid a circular reference
        elif self.state is not _NEW:
            raise ApplicationError("start_response was called again without exc_info")
        self._checked = check_head(status, headers)
        self.fields = headers
        self.state = _STARTED
        return self.write

    # PEP 3333: the write() callable, and iteration

    def write(self, block: bytes) -> None:
        """Send one block of the body now."""
        if type(block) is not bytes and not isinstance(block, bytes):
            raise ApplicationError(f"a block must be bytes, not {type(block).__name__}")
        if not block:
            return
        if not self.status:
            self._send_first(self._make_head(None), block)
        elif self.state is _SENDING:
            self._send_next(block)
        elif self.state is _COMPLETE and self.framing is _LENGTH:
            raise ApplicationError(TOO_LONG)

    def send_body(self, body: bytes) -> None:
        """Send a body of which nothing else will come; an empty one is allowed."""
        if not self.status:
            head = self._make_head(len(body))
            if head.length == len(body):
                self.status = head.status
                self.framing = _LENGTH
                self._complete(head.data, body)
                return
            self._send_first(head, body)
        else:
            self.write(body)
        self.finish()

    def finish(self) -> None:
        """End the body, or find that its Content-Length was not kept."""
        if not self.status:
            self._send_first(self._make_head(0), b"")
        if self.state is not _SENDING:
            return
        if self._remaining > 0:
            self.abort()
            raise ApplicationError(_too_short(self._remaining))
        self.state = _COMPLETE
        if self.framing is _CHUNKED:
            self._sink.send(LAST_CHUNK, last=True)
        else:
            self._sink.send(last=True)

    def send_file(self, part: FileRange) -> bool:
        """Send a part of a file as the body; False where the body has begun already."""
        if self.status:
            return False
        head = self._make_head(part.size)
        if head.framing is _NONE:
            part = part._replace(size=0)
        elif 0 <= head.length < part.size:
            part = part._replace(size=head.length)
        self.status, self.framing = head.status, head.framing
        self.state = _COMPLETE
        self.body_bytes += part.size
        self._sink.send_file(head.data, part)
        return True

    # Errors

    def fail(self, error: BaseException) -> None:
        """End the response after an exception: a plain 500, or a torn connection."""
        if self.status:
            if self.state is _SENDING:
                self.abort()
            return
        self.fields = ()
        status, detail = 500, "The application failed to answer this request."
        if isinstance(error, RequestBodyError):
            status, detail = error.status, str(error)
        head = error_response(status, detail, self._sink.context())
        self.status, self.framing = head.status, head.framing
        self.keep_alive = head.keep_alive
        self.state = _COMPLETE
        self.body_bytes = max(0, head.length)
        self._sink.send(head.data, last=True)

    def abort(self) -> None:
        """Tear the connection."""
        self.state = _ABORTED
        self._sink.abort()

    # Details

    def _make_head(self, body_length: int | None) -> ResponseHead:
        if self._checked is None:
            raise ApplicationError("the body began before start_response was called")
        head = encode_head(self._checked, body_length, self._sink.context())
        if body_length is not None and head.length > body_length:
            raise ApplicationError(_too_short(head.length - body_length))
        self.keep_alive = head.keep_alive
        return head

    def _send_first(self, head: ResponseHead, block: bytes) -> None:
        """Send the head and the first block, in one call."""
        framing, length = head.framing, head.length
        self.status, self.framing = head.status, framing
        if framing is _NONE:
            block = b""
        elif framing is _LENGTH and len(block) > length:
            self._complete(head.data, block[:length])
            raise ApplicationError(TOO_LONG)
        last = framing is _NONE or length == len(block)
        if last:
            self._complete(head.data, block)
            return
        self.state = _SENDING
        if length >= 0:
            self._remaining = length - len(block)
        self.body_bytes += len(block)
        if framing is _CHUNKED and block:
            self._send_joined(head.data, b"%x\r\n" % len(block), block, b"\r\n")
        else:
            self._send_joined(head.data, block)

    def _complete(self, head: bytes, block: bytes) -> None:
        """Send what is left of a response whose end is known from its length."""
        self.state = _COMPLETE
        self.body_bytes += len(block)
        if len(block) < COPY_BELOW:
            self._sink.send(head + block, last=True)
        elif head:
            self._sink.send(head, block, last=True)
        else:
            self._sink.send(block, last=True)

    def _send_next(self, block: bytes) -> None:
        size = len(block)
        if self._remaining < 0:
            self.body_bytes += size
            if self.framing is _CHUNKED:
                if size < COPY_BELOW:
                    self._sink.send(encode_chunk(block), last=False)
                else:
                    self._sink.send(b"%x\r\n" % size, block, b"\r\n", last=False)
            else:
                self._sink.send(block, last=False)
        elif size < self._remaining:
            self._remaining -= size
            self.body_bytes += size
            self._sink.send(block, last=False)
        else:
            excess = size - self._remaining
            self._complete(b"", block[: self._remaining] if excess else block)
            if excess:
                raise ApplicationError(TOO_LONG)

    def _send_joined(self, *buffers: bytes) -> None:
        if sum(map(len, buffers)) < COPY_BELOW:
            self._sink.send(b"".join(buffers), last=False)
        else:
            self._sink.send(*buffers, last=False)


def run_application(
    app: WSGIApplication, environ: Environ, response: Response, sink: ResponseSink
) -> None:
    """Call ``app``, send what it yields, and close its iterable; raises nothing."""
    iterable: Iterable[bytes] | None = None
    try:
        iterable = app(environ, response.start_response)
        if type(iterable) is list and len(iterable) == 1 and type(iterable[0]) is bytes:
            # The commonest of all. A list has no close().
            response.send_body(iterable[0])
            return
        _send_iterable(iterable, response)
    except BaseException as error:
        _handle_error(error, response, sink)
    _close_iterable(iterable, response, sink)


def _send_iterable(iterable: Iterable[bytes], response: Response) -> None:
    if isinstance(iterable, list | tuple):
        # All of the body is at hand, so that its length is known and it can leave in one write.
        for block in iterable:
            if not isinstance(block, bytes):
                raise ApplicationError(f"a block must be bytes, not {type(block).__name__}")
        response.send_body(b"".join(iterable))
        return
    if isinstance(iterable, FileWrapper):
        part = file_range(iterable.filelike)
        if part is not None and response.send_file(part):
            return
    try:
        blocks = iter(iterable)
    except TypeError as error:
        returned = "None" if iterable is None else type(iterable).__name__
        raise ApplicationError(f"the application returned {returned}, not an iterable") from error
    for block in blocks:
        response.write(block)
        if response.body_forbidden:
            break
    response.finish()


def _handle_error(error: BaseException, response: Response, sink: ResponseSink) -> None:
    """Log what the application did, and answer for it; raises nothing."""
    try:
        if isinstance(error, ClientDisconnected):
            logger.debug("client disconnected during %s", sink.describe())
            if response.state is not _COMPLETE:
                # One that closed only its sending side, in the middle of its body, still listens.
                response.abort()
            return
        if isinstance(error, RequestBodyError):
            logger.info("%s: %s", sink.describe(), error)
        else:
            logger.error("error in %s", sink.describe(), exc_info=error)
        response.fail(error)
    except ClientDisconnected:
        logger.debug("client disconnected before the error page of %s", sink.describe())


def _close_iterable(iterable: object, response: Response, sink: ResponseSink) -> None:
    """Close what the application returned, whatever that was (PEP 3333); raises nothing."""
    try:
        close = getattr(iterable, "close", None)
        if close is not None:
            close()
    except BaseException as error:
        _handle_error(error, response, sink)
