"""Decodes request bodies by length or by chunks (RFC 9112 sections 6 and 7).

Both decoders are sans-I/O: `read` takes bytes from a `ReceiveBuffer` and returns content, NEED_DATA
or END_OF_BODY. They serve both parser libraries, whose own chunk decoders are lax in different
ways. Content is returned in pieces as large as they arrive and is copied at most once.

Chunk framing must match section 7.1 exactly. The one tolerance is whitespace around the parts of an
extension, which section 7.1.1 demands. Extensions and trailer fields are checked, bounded and
dropped.
"""

from __future__ import annotations

import re
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.messages import CHUNKED, END_OF_BODY, NEED_DATA
from aiowsgi.http1.syntax import FIELD_LINE, TOKEN

if TYPE_CHECKING:
    from aiowsgi.http1.messages import BodyEvent, Limits
    from aiowsgi.http1.receive_buffer import ReceiveBuffer

__all__ = ["BodyReader", "ChunkedBody", "LengthBody", "body_reader"]


# By length (RFC 9112 section 6.2)


class LengthBody:
    """Decodes a body of Content-Length bytes."""

    __slots__ = ("_remaining",)

    def __init__(self, content_length: int) -> None:
        self._remaining = content_length

    def read(self, buffer: ReceiveBuffer) -> BodyEvent:
        """Return the next piece of the body; see ``messages.BodyEvent``."""
        if self._remaining == 0:
            return END_OF_BODY
        content = buffer.take(self._remaining)
        self._remaining -= len(content)
        return content or NEED_DATA

    @property
    def remaining(self) -> int:
        """Number of bytes that `read` has not returned yet."""
        return self._remaining

    def skip(self, size: int) -> None:
        """Count ``size`` bytes as read: the caller receives them without the buffer."""
        self._remaining -= size


# In chunks (RFC 9112 section 7.1)

# Bytes of one chunk-size line with its line end. The longest known extensions are signatures of
# some hundred bytes. A guess.
MAX_CHUNK_LINE: Final = 4 * 1024

# Bytes of extensions that may exceed the bytes of content. It bounds the work that a client can
# cause with extensions (CVE-2023-39326). A guess.
MAX_EXTENSION_EXCESS: Final = 16 * 1024

_BWS = rb"[ \t]*"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_PARAMETER = TOKEN + rb"(?:" + _BWS + rb"=" + _BWS + rb"(?:" + TOKEN + rb"|" + _QUOTED + rb"))?"
_EXTENSIONS = rb"(?:" + _BWS + rb";" + _BWS + _PARAMETER + rb")*+"

# Sixteen hexadecimal digits are 64 bits; more overflow in other implementations.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(" + _EXTENSIONS + rb")\r\n")

# The common case: no extension, and a size that fits into one read of a socket.
_PLAIN_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,5})\r\n")

# Chunks whose content one call returns. With chunks of one byte, a call takes a few milliseconds.
MAX_CHUNKS_AT_ONCE: Final = 4096

# RFC 9110 section 6.5.1 forbids many fields as trailers. They are all dropped; only those that
# could change the framing for another recipient are refused.
_FRAMING_FIELDS: Final = frozenset(
    (b"content-length", b"content_length", b"transfer-encoding", b"transfer_encoding")
)


class _Part(IntEnum):
    """The element of a chunked body to which the next byte belongs."""

    SIZE = 0
    DATA = 1
    DATA_END = 2
    TRAILERS = 3
    END = 4


# Looking up an enum member costs several times as much as a global name.
_SIZE, _DATA, _DATA_END, _TRAILERS, _END = _Part


class ChunkedBody:
    """Decodes a chunked body, including the trailer section."""

    __slots__ = (
        "_content",
        "_excess",
        "_limits",
        "_part",
        "_remaining",
        "_trailers",
        "_trailers_size",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._part = _SIZE
        # Bytes of the current chunk that have not been returned.
        self._remaining = 0
        # Bytes of content announced so far, and bytes of extensions that exceed them.
        self._content = 0
        self._excess = 0
        # Number of trailer lines so far, and their size in bytes.
        self._trailers = 0
        self._trailers_size = 0

    def read(self, buffer: ReceiveBuffer) -> BodyEvent:
        """Return the next piece of the content; see ``messages.BodyEvent``.

        The content of all chunks in the buffer is returned as one piece, so that tiny chunks cost
        the client more than the server. Content before an error in the same buffer is not returned.
        """
        pieces: list[bytes] = []
        while self._part is not _END and len(pieces) < MAX_CHUNKS_AT_ONCE:
            if not _STEPS[self._part](self, buffer, pieces):
                break
        if pieces:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return END_OF_BODY if self._part is _END else NEED_DATA

    # Each method reads one element and returns whether it was complete.

    def _read_size(self, buffer: ReceiveBuffer, pieces: list[bytes]) -> bool:
        self._read_whole_chunks(buffer, pieces)
        line = _take_line(buffer, MAX_CHUNK_LINE, 400)
        if line is None:
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RequestError(400, "A chunk-size line is malformed.", line)
        self._remaining = int(match[1], 16)
        self._content += self._remaining
        if 0 < self._limits.body_size < self._content:
            raise RequestError(413, "The request body is too large.", b"--max-body-size")
        self._excess += len(match[2])
        if self._excess > MAX_EXTENSION_EXCESS + self._content:
            raise RequestError(400, "There are too many chunk extensions.")
        self._part = _DATA if self._remaining else _TRAILERS
        return True

    def _read_data(self, buffer: ReceiveBuffer, pieces: list[bytes]) -> bool:
        content = buffer.take(self._remaining)
        if content:
            pieces.append(content)
            self._remaining -= len(content)
        if self._remaining:
            return False
        self._part = _DATA_END
        return True

    def _read_data_end(self, buffer: ReceiveBuffer, _pieces: list[bytes]) -> bool:
        if not b"\r\n".startswith(buffer.peek(0, 2)):
            raise RequestError(400, "A chunk's data is not followed by CRLF.", buffer.peek(0, 2))
        if len(buffer) < 2:
            return False
        buffer.take(2)
        self._part = _SIZE
        return True

    def _read_trailer(self, buffer: ReceiveBuffer, _pieces: list[bytes]) -> bool:
        # The limit on the request head also applies to the trailer section with its empty line.
        room = (self._limits.header_size or sys.maxsize) - self._trailers_size
        line = _take_line(buffer, room, 431)
        if line is None:
            return False
        if line == b"\r\n":
            self._part = _END
            return True
        self._trailers += 1
        self._trailers_size += len(line)
        if 0 < self._limits.fields < self._trailers:
            raise RequestError(431, "There are too many trailer fields.")
        match = FIELD_LINE.fullmatch(line)
        if match is None:
            raise RequestError(400, "A trailer field line is malformed.", line)
        if match[1].lower() in _FRAMING_FIELDS:
            raise RequestError(400, f"{match[1].decode()} is not allowed as a trailer field.")
        return True

    def _read_whole_chunks(self, buffer: ReceiveBuffer, pieces: list[bytes]) -> None:
        """Read complete chunks without extensions, four times as fast as the other methods.

        Stops before anything else, which the other methods then check.
        """
        data, begin = buffer.view()
        room = (self._limits.body_size or sys.maxsize) - self._content
        start = begin
        while len(pieces) < MAX_CHUNKS_AT_ONCE and (line := _PLAIN_CHUNK_LINE.match(data, start)):
            size = int(line[1], 16)
            stop = line.end() + size
            room -= size
            if size == 0 or room < 0 or data[stop : stop + 2] != b"\r\n":
                break
            pieces.append(bytes(data[line.end() : stop]))
            self._content += size
            start = stop + 2
        if start > begin:
            buffer.skip(start - begin)


_STEPS: Final = (
    ChunkedBody._read_size,  # noqa: SLF001 (the class's own table)
    ChunkedBody._read_data,  # noqa: SLF001
    ChunkedBody._read_data_end,  # noqa: SLF001
    ChunkedBody._read_trailer,  # noqa: SLF001
)
"""The method for each `_Part`, by its number; END has none."""


def _take_line(buffer: ReceiveBuffer, longest: int, status: int) -> bytes | None:
    """Return the next line with its end, or None. Raises RequestError(status) if it is too long."""
    line = buffer.take_through(b"\n")
    if longest < (len(buffer) if line is None else len(line)):
        raise RequestError(status, "A line of the chunked body is too long.")
    return line


BodyReader: TypeAlias = LengthBody | ChunkedBody


def body_reader(content_length: int, limits: Limits) -> BodyReader:
    """Return the decoder for a body with ``Request.content_length``."""
    return ChunkedBody(limits) if content_length == CHUNKED else LengthBody(content_length)
