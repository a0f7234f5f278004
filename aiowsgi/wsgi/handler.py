"""Calls the application and turns its result into a response (PEP 3333).

`run_application` does all of it. It knows neither threads nor the event loop nor a parser: it sends
to a `ResponseSink`, which may block and which raises `ClientDisconnected` when the client has
disconnected. A response is a state machine::

    state       start_response      a block                        the end          an exception
    ---------   -----------------   ----------------------------   --------------   ----------------
    NEW         → STARTED           error                          error            500 → COMPLETE
    STARTED     with exc_info only  head and block → SENDING       head → COMPLETE  500 → COMPLETE
    SENDING     exc_info: reraised  block                          → COMPLETE       abort → ABORTED
    COMPLETE    error, logged       dropped, logged as too long    -                logged
    ABORTED     error, logged       dropped                        -                logged

Guarantees:

* ``close()`` of the iterable is called exactly once, whatever happens.
* A response that cannot be completed is aborted: its connection is closed without the framing that
  would mark the response as complete.
* The last byte is marked as the last in the call that sends it, so that the connection can go on
  while the application still cleans up.
* No exception of the application leaves `run_application`, not even SystemExit or GeneratorExit.
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
from aiowsgi.loggers import current_request_id
from aiowsgi.wsgi.file_wrapper import FileRange, FileWrapper, file_range

__all__ = ["Environ", "Response", "ResponseSink", "WSGIApplication", "run_application"]

Environ: TypeAlias = dict[str, Any]
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType]
Write: TypeAlias = Callable[[bytes], None]


class StartResponse(Protocol):
    """The ``start_response`` callable of PEP 3333."""

    def __call__(self, status: str, headers: Fields, exc_info: Any = None, /) -> Write: ...


WSGIApplication: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

logger = logging.getLogger("aiowsgi.application")

COPY_BELOW: Final = 32 * 1024
"""Bodies shorter than this are joined with their head: the copy costs less than passing two buffers
to the kernel. Measured, within a factor of two."""


class ResponseSink(Protocol):
    """Receives the bytes of a response. Every method may raise `ClientDisconnected`."""

    def context(self) -> ResponseContext:
        """Return what the head depends on; called just before the head is sent."""

    def send(self, *buffers: bytes, last: bool) -> None:
        """Send the buffers in order; ``last`` marks the end of the response."""

    def send_file(self, head: bytes, part: FileRange) -> None:
        """Send ``head`` and a range of a file, which complete the response.

        Never waits for a slow client; the file may be closed after the return.
        """

    def abort(self) -> None:
        """Close the connection so that the client can tell the response is incomplete."""

    def end_forked_child(self, error: BaseException) -> None:
        """End this process because of ``error``, if the application has forked it; else return."""

    def describe(self) -> str:
        """Return the request line for the log."""


TOO_LONG: Final = "the body is longer than its Content-Length; the rest is cut"


def _too_short(missing: int) -> str:
    return f"the body is {missing} bytes shorter than its Content-Length"


class ResponseState(Enum):
    """The state of a response; see the table in the module's docstring."""

    NEW = "new"
    STARTED = "started"
    SENDING = "sending"
    COMPLETE = "complete"
    ABORTED = "aborted"


# Looking a member up on its enum costs as much as a call in Python 3.11, hence names of our own.
_NEW, _STARTED, _SENDING, _COMPLETE, _ABORTED = ResponseState
_NONE, _LENGTH, _CHUNKED, _ = Framing


class Response:
    """The response to one request: the object behind ``start_response`` and ``write``."""

    __slots__ = (
        "_checked",
        "_remaining",
        "_sink",
        "_turn",
        "body_bytes",
        "fields",
        "framing",
        "keep_alive",
        "state",
        "status",
    )

    def __init__(self, sink: ResponseSink) -> None:
        self._sink = sink
        # Holds one entry while no thread sends. A thread takes it, in one atomic operation, before
        # it looks at the state: two threads of the application in write() cannot send two heads,
        # or more bytes than Content-Length says.
        self._turn: list[None] = [None]
        # Checked arguments of the last start_response call; None before the first.
        self._checked: CheckedHead | None = None
        # Fields as the application passed them, for the access log.
        self.fields: Fields = ()
        # Status code and framing of the head that was sent; 0 before.
        self.status = 0
        self.framing = _NONE
        # Number of body bytes that Content-Length still promises; -1 with another framing.
        self._remaining = -1
        self.state = _NEW
        # The connection stays open after this response.
        self.keep_alive = False
        # Number of body bytes sent to the sink, for the access log.
        self.body_bytes = 0

    @property
    def begun(self) -> bool:
        """Whether the head has been sent."""
        return self.status != 0

    @property
    def body_forbidden(self) -> bool:
        """Whether the head has been sent and allows no body: HEAD, 204, 304."""
        return self.status != 0 and self.framing is _NONE

    # The start_response() callable

    def start_response(
        self, status: Any, headers: Any, exc_info: ExcInfo | None = None, /
    ) -> Write:
        """Check status and fields; the head is sent with the first block of the body."""
        if exc_info is not None:
            try:
                if self.status:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # PEP 3333: avoid a circular reference
        elif self.state is not _NEW:
            raise ApplicationError("start_response was called again without exc_info")
        self._checked = check_head(status, headers)
        if self._checked.dropped:
            _warn_dropped(self._checked.dropped)
        self.fields = headers
        self.state = _STARTED
        return self.write

    # The write() callable, and iteration

    def write(self, block: bytes) -> None:
        """Send one block of the body.

        Raises ApplicationError if another thread is sending: their order would be undefined.
        """
        if type(block) is not bytes and not isinstance(block, bytes):
            raise ApplicationError(f"a block must be bytes, not {type(block).__name__}")
        if not block:
            return
        self._take_turn()
        try:
            self._write(block)
        finally:
            self._turn.append(None)

    def _write(self, block: bytes) -> None:
        if not self.status:
            self._send_first(self._make_head(None), block)
        elif self.state is _SENDING:
            self._send_next(block)
        elif self.state is _COMPLETE and self.framing is _LENGTH:
            raise ApplicationError(TOO_LONG)

    def send_body(self, body: bytes) -> None:
        """Send a complete body, which may be empty."""
        self._take_turn()
        try:
            self._send_body(body)
        finally:
            self._turn.append(None)

    def _send_body(self, body: bytes) -> None:
        if not self.status:
            head = self._make_head(len(body))
            if head.length == len(body):
                self.status = head.status
                self.framing = _LENGTH
                self._complete(head.data, body)
                return
            self._send_first(head, body)
        elif body:
            self._write(body)
        self._finish()

    def finish(self) -> None:
        """End the body; raises ApplicationError if it is shorter than its Content-Length."""
        self._take_turn()
        try:
            self._finish()
        finally:
            self._turn.append(None)

    def _finish(self) -> None:
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
        """Send a range of a file as the body; return False if the body has begun already."""
        self._take_turn()
        try:
            return self._send_file(part)
        finally:
            self._turn.append(None)

    def _send_file(self, part: FileRange) -> bool:
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
        """End the response after an exception: send a 500, or abort if the head has been sent."""
        try:
            self._turn.pop()
        except IndexError:
            # Another thread is sending, and may have sent a part of the head.
            self.abort()
            return
        try:
            self._fail(error)
        finally:
            self._turn.append(None)

    def _fail(self, error: BaseException) -> None:
        if self.status:
            if self.state is _SENDING:
                self.abort()
            return
        self.fields = ()
        status, detail = 500, "The application failed to answer this request."
        # The log has the traceback under the same identifier.
        if request_id := current_request_id.get():
            detail += f" Its identifier is {request_id}."
        if isinstance(error, RequestBodyError):
            status, detail = error.status, str(error)
        head = error_response(status, detail, self._sink.context())
        self.status, self.framing = head.status, head.framing
        self.keep_alive = head.keep_alive
        self.state = _COMPLETE
        self.body_bytes = max(0, head.length)
        self._sink.send(head.data, last=True)

    def abort(self) -> None:
        """Close the connection before the response is complete."""
        self.state = _ABORTED
        self._sink.abort()

    # Details

    def _take_turn(self) -> None:
        try:
            self._turn.pop()
        except IndexError:
            raise ApplicationError(
                "write() was called while another thread was sending the response"
            ) from None

    def _make_head(self, body_length: int | None) -> ResponseHead:
        if self._checked is None:
            raise ApplicationError("the body began before start_response was called")
        head = encode_head(self._checked, body_length, self._sink.context())
        if body_length is not None and head.length > body_length:
            raise ApplicationError(_too_short(head.length - body_length))
        self.keep_alive = head.keep_alive
        return head

    def _send_first(self, head: ResponseHead, block: bytes) -> None:
        """Send the head and the first block in one call."""
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
        """Send the last block of a response with a known length."""
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


_warned: Final[set[str]] = set()


def _warn_dropped(names: tuple[str, ...]) -> None:
    """Log each hop-by-hop field that was left out, once for each name."""
    for name in names:
        if name not in _warned:
            _warned.add(name)
            logger.warning(
                "the application sends %s, which only the server may send (PEP 3333); left out",
                name,
            )


def run_application(
    app: WSGIApplication, environ: Environ, response: Response, sink: ResponseSink
) -> None:
    """Call ``app``, send the blocks it returns, and close its iterable; raises nothing."""
    iterable: Iterable[bytes] | None = None
    try:
        iterable = app(environ, response.start_response)
        if type(iterable) is list and len(iterable) == 1 and type(iterable[0]) is bytes:
            # The most frequent case. A list has no close().
            response.send_body(iterable[0])
            return
        _send_iterable(iterable, response)
    except BaseException as error:
        _handle_error(error, response, sink)
    _close_iterable(iterable, response, sink)


def _send_iterable(iterable: Iterable[bytes], response: Response) -> None:
    if isinstance(iterable, list | tuple):
        # The whole body is available, so its length is known and one call can send it.
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
    """Log an exception and end the response; raises nothing."""
    sink.end_forked_child(error)
    try:
        if isinstance(error, ClientDisconnected):
            logger.debug("client disconnected during %s", sink.describe())
            if response.state is not _COMPLETE:
                # A client that closed only its sending side, in the middle of the body, still
                # reads.
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
    """Call ``close()`` of the application's result, if it has one (PEP 3333); raises nothing."""
    try:
        close = getattr(iterable, "close", None)
        if close is not None:
            close()
    except BaseException as error:
        _handle_error(error, response, sink)
