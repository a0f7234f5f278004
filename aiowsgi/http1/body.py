"""Reading a request's body off a buffer, by its length or by its chunks (RFC 9112 sections 6, 7).

Both readers are sans-I/O: `read` takes from a `Buffer` and answers with bytes of content, with
NEED_DATA, or with END_OF_BODY. One reader serves both parser libraries, because strictness in
chunk framing takes a reader that sees every byte of it; the libraries decode chunks laxly, each in
its own way. Content passes in slices as large as they come, copied once at most.

Of chunk framing only the bare grammar of section 7.1 is taken: hexadecimal digits, extensions
without whitespace around their parts ("bad whitespace" that no client is known to send), CRLF.
Extensions and trailers are checked, bounded, and dropped.
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
    """Reads a body of as many bytes as Content-Length said."""

    __slots__ = ("_remaining",)

    def __init__(self, content_length: int) -> None:
        self._remaining = content_length

    def read(self, buffer: ReceiveBuffer) -> BodyEvent:
        """Take what there is of the body; see ``events.BodyEvent``."""
        if self._remaining == 0:
            return END_OF_BODY
        content = buffer.take(self._remaining)
        self._remaining -= len(content)
        return content or NEED_DATA

    @property
    def remaining(self) -> int:
        """Bytes of the body that `read` has not given yet."""
        return self._remaining

    def skip(self, size: int) -> None:
        """The next ``size`` bytes go another way, and will not be in the buffer."""
        self._remaining -= size


# In chunks (RFC 9112 section 7.1)

# Of one chunk-size line, line end included. The longest known extensions are signatures of some
# hundred bytes; the bound is a guess with room above them.
MAX_CHUNK_LINE: Final = 4 * 1024

# How many bytes of extensions may come beyond one for each byte of content. A client that sends
# more has the server do work for nothing (as of CVE-2023-39326); the bound is a guess.
MAX_EXTENSION_EXCESS: Final = 16 * 1024

_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION = rb"(?:;" + TOKEN + rb"(?:=(?:" + TOKEN + rb"|" + _QUOTED + rb"))?)*+"

# Sixteen digits fill 64 bits, beyond which others overflow.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(" + _EXTENSION + rb")\r\n")

# The common case, which has no extensions and fits into what one read of a socket brings.
_PLAIN_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,5})\r\n")

# Of how many chunks the content is given as one. With chunks of a byte, it bounds the time that
# one call takes to a few milliseconds.
MAX_CHUNKS_AT_ONCE: Final = 4096

# RFC 9110 section 6.5.1: framing, routing, and how the content is processed cannot be said after
# the fact. Whoever sends them in a trailer section wants them to be merged by someone.
_NOT_IN_TRAILERS: Final = frozenset(
    {
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"content_length",
        b"expect",
        b"host",
        b"keep-alive",
        b"max-forwards",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"transfer_encoding",
        b"upgrade",
    }
)


class _Part(IntEnum):
    """What the next byte of a chunked body belongs to."""

    SIZE = 0
    DATA = 1
    DATA_END = 2
    TRAILERS = 3
    END = 4


# A member is looked up in its class at several times the cost of a global name.
_SIZE, _DATA, _DATA_END, _TRAILERS, _END = _Part


class ChunkedBody:
    """Reads a body in the chunked transfer coding, trailer section included."""

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
        # Bytes of the current chunk's data that have not been taken.
        self._remaining = 0
        # Bytes of content announced so far, and of extensions received beyond them.
        self._content = 0
        self._excess = 0
        # Lines and bytes of the trailer section so far.
        self._trailers = 0
        self._trailers_size = 0

    def read(self, buffer: ReceiveBuffer) -> BodyEvent:
        """Take what there is of the content; see ``events.BodyEvent``.

        Content of all chunks that are held comes as one, so that tiny chunks cost their sender
        more than the receiver. It is withheld where a fault is found behind it.
        """
        pieces: list[bytes] = []
        while self._part is not _END and len(pieces) < MAX_CHUNKS_AT_ONCE:
            if not _STEPS[self._part](self, buffer, pieces):
                break
        if pieces:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return END_OF_BODY if self._part is _END else NEED_DATA

    # One step for each part. It says whether it got what it needed; if not, the rest waits.

    def _read_size(self, buffer: ReceiveBuffer, pieces: list[bytes]) -> bool:
        self._read_whole_chunks(buffer, pieces)
        line = _take_line(buffer, MAX_CHUNK_LINE, 400)
        if line is None:
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RequestError(400, "A chunk's size line is malformed.")
        self._remaining = int(match[1], 16)
        self._content += self._remaining
        if 0 < self._limits.body_size < self._content:
            raise RequestError(413, "The content is too large.")
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
            raise RequestError(400, "A chunk's data is not followed by CRLF.")
        if len(buffer) < 2:
            return False
        buffer.take(2)
        self._part = _SIZE
        return True

    def _read_trailer(self, buffer: ReceiveBuffer, _pieces: list[bytes]) -> bool:
        # The bound on the header section is one on the trailer section too, empty line included.
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
        if match is None or match[1].lower() in _NOT_IN_TRAILERS:
            raise RequestError(400, "A trailer field is malformed or not allowed.")
        return True

    def _read_whole_chunks(self, buffer: ReceiveBuffer, pieces: list[bytes]) -> None:
        """Read chunks that are held whole, in a quarter of the time that the steps take.

        It stops before whatever is not plain: the steps judge that.
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
"""Which step reads which `_Part`, by its number; END has none."""


def _take_line(buffer: ReceiveBuffer, longest: int, status: int) -> bytes | None:
    """The next line with its end, or None; refused with ``status`` once it is too long."""
    line = buffer.take_through(b"\n")
    if longest < (len(buffer) if line is None else len(line)):
        raise RequestError(status, "A line in the chunked body is too long.")
    return line


BodyReader: TypeAlias = LengthBody | ChunkedBody


def body_reader(content_length: int, limits: Limits) -> BodyReader:
    """The reader for a body of ``Request.content_length``."""
    return ChunkedBody(limits) if content_length == CHUNKED else LengthBody(content_length)
