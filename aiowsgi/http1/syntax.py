"""Checks the bytes of a request head before a parser library parses it.

A head that passes has only CRLF line ends, no control characters, no folded lines, no whitespace
around names, a supported version, and a size within the limits. The libraries are less strict, each
in its own way; after this check they cannot disagree.

The rules are written twice: `_HEAD` accepts a complete head in one match; `LineCheck` examines it
line by line and finds the error and its status. A head that arrives in pieces is checked line by
line as it arrives, so that an error is answered before the empty line comes. Both reach the same
verdict for the same bytes, however these are split: the first line with an error decides.

The meaning of fields is the subject of ``semantics``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from aiowsgi.exceptions import RequestError

if TYPE_CHECKING:
    from aiowsgi.http1.messages import Limits
    from aiowsgi.http1.receive_buffer import ReceiveBuffer

__all__ = ["FIELD_LINE", "TOKEN", "VALUE", "LineCheck", "check_head", "split_fields"]

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
"""The rule ``token`` (RFC 9110 section 5.6.2), as a pattern."""

VALUE: Final = rb"[\t -~\x80-\xff]*+"
"""A field value: VCHAR, obs-text, SP and HTAB (RFC 9110 section 5.5); control characters are
refused."""

# RFC 9112 section 3.2: a request-target consists of VCHAR.
_TARGET = rb"[!-~]++"

FIELD_LINE: Final = re.compile(rb"(" + TOKEN + rb"):(" + VALUE + rb")\r\n")
"""``field-line CRLF`` (RFC 9112 section 5): no whitespace before the colon, no obs-fold."""

_REQUEST_LINE = rb"(" + TOKEN + rb") (" + _TARGET + rb") HTTP/(1\.[0-9])\r\n"
_HEAD = re.compile(_REQUEST_LINE + rb"(?:" + TOKEN + rb":" + VALUE + rb"\r\n)*+\r\n")
_FIRST_LINE = re.compile(_REQUEST_LINE)

_FIRST_LINE_OTHER_VERSION = re.compile(TOKEN + rb" " + _TARGET + rb" HTTP/[0-9]\.[0-9]\r\n")
_TOKEN_START = re.compile(TOKEN)


def check_head(head: bytes, limits: Limits) -> tuple[bytes, bytes, bytes, int]:
    """Check one complete request head, from the request line to the empty line.

    Returns method, target, version and number of fields, with which the library must agree. Raises
    RequestError: 400 for malformed, 414 and 431 for too large, 505 for another major version.
    """
    match = _HEAD.fullmatch(head)
    field_count = head.count(b"\n") - 2
    if (
        match is None
        or 0 < limits.header_size < len(head)
        or 0 < limits.fields < field_count
        or 0 < limits.request_line < match.end(3)
    ):
        _refuse(head, limits)
    method, target, version = match.groups()
    return method, target, version, field_count


def split_fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return the field lines of a head that passed `check_head`, without a library."""
    found = FIELD_LINE.findall(head, head.index(b"\n") + 1)
    return [(name, value.strip(b" \t")) for name, value in found]


class LineCheck:
    """Checks a request head line by line and raises RequestError at the first error.

    Pass each line once to `check_line`, or a buffer that begins with an incomplete head to
    `check_incomplete` whenever it grows.
    """

    __slots__ = ("_limits", "_lines", "_searched", "_size")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Number of lines that passed, and their size in bytes with line ends.
        self._lines = 0
        self._size = 0
        # Number of buffered bytes known to contain no further line end.
        self._searched = 0

    def check_incomplete(self, held: ReceiveBuffer) -> None:
        """Check the buffered part of an incomplete head."""
        while (end := held.find(b"\n", self._searched)) >= 0:
            self._searched = end + 1
            self.check_line(held.peek(self._size, end + 1))
        self._searched = len(held)
        if self._lines == 0:
            self._start_of_first_line(held)
        elif 0 < self._limits.header_size < len(held):
            raise _section_too_large()

    def check_line(self, line: bytes) -> None:
        """Check the next line; ``line`` includes the line end."""
        if self._lines == 0:
            self._first_line(line)
        else:
            self._field_line(line)
        self._lines += 1
        self._size += len(line)

    def _start_of_first_line(self, held: ReceiveBuffer) -> None:
        # The first byte distinguishes a TLS ClientHello from a request. A stream without line ends
        # must not be buffered without limit. The additional byte may be the CR of the line end.
        _check_first_byte(held.peek(0, 1))
        if 0 < self._longest_first_line() < len(held) - 1:
            raise _line_too_long()

    def _first_line(self, line: bytes) -> None:
        _check_first_byte(line)
        if 0 < self._longest_first_line() < len(line.removesuffix(b"\n").removesuffix(b"\r")):
            raise _line_too_long()
        if not _FIRST_LINE.fullmatch(line):
            if _FIRST_LINE_OTHER_VERSION.fullmatch(line):
                raise RequestError(505, "The HTTP version is not supported.", line)
            raise RequestError(400, "The request line is malformed.", line)

    def _field_line(self, line: bytes) -> None:
        if 0 < self._limits.header_size < self._size + len(line):
            raise _section_too_large()
        if line == b"\r\n":
            return
        if 0 < self._limits.fields < self._lines:
            raise RequestError(431, "There are too many header fields.", b"--limit-request-fields")
        if not FIELD_LINE.fullmatch(line):
            raise RequestError(400, "A header field line is malformed.", line)

    def _longest_first_line(self) -> int:
        """Return the smaller limit on the request line, 0 for none."""
        bounds = [b for b in (self._limits.request_line, self._limits.header_size) if b]
        return min(bounds, default=0)


def _refuse(head: bytes, limits: Limits) -> NoReturn:
    check = LineCheck(limits)
    start = 0
    while True:
        # After the last line the slice is empty; an empty line is malformed, so the loop ends.
        end = head.find(b"\n", start) + 1
        check.check_line(head[start:end])
        start = end


def _check_first_byte(data: bytes) -> None:
    if not _TOKEN_START.match(data):
        raise RequestError(400, "The request does not start with a method.", data[:1])


def _line_too_long() -> RequestError:
    return RequestError(414, "The request line is too long.", b"--limit-request-line")


def _section_too_large() -> RequestError:
    return RequestError(431, "The header section is too large.", b"--max-header-size")
