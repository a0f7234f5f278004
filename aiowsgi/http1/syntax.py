"""The grammar of a request's header section, checked on its raw bytes.

This gate stands before the parser libraries: what it lets through has CRLF line ends only, no
control bytes, no folded lines, no whitespace around names, a version that is spoken here, and is
within the limits. The libraries are each laxer than that in ways of their own; behind the gate
they have nothing left to disagree about.

The rules are written twice, for two purposes that must not drift apart: `_HEAD` says yes to a
whole section in one match, and `LineCheck` walks the same section line by line to say what is
wrong and with which status. A section that comes in pieces is walked as its lines come, so that a
fault is answered without waiting for the empty line. Both give the same verdict for the same
bytes, however these were split: the first line with a fault decides.

What the fields mean is none of this module's business; see ``semantics``.
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
"""``token`` of RFC 9110 section 5.6.2, as a pattern."""

VALUE: Final = rb"[\t -~\x80-\xff]*+"
"""RFC 9110 section 5.5: VCHAR, obs-text, SP and HTAB; other CTL characters are refused."""

# RFC 9112 section 3.2: no form of request-target has a byte outside VCHAR.
_TARGET = rb"[!-~]++"

FIELD_LINE: Final = re.compile(rb"(" + TOKEN + rb"):(" + VALUE + rb")\r\n")
"""``field-line CRLF`` (RFC 9112 section 5): no whitespace before the colon, no obs-fold."""

_REQUEST_LINE = rb"(" + TOKEN + rb") (" + _TARGET + rb") HTTP/(1\.[01])\r\n"
_HEAD = re.compile(_REQUEST_LINE + rb"(?:" + TOKEN + rb":" + VALUE + rb"\r\n)*+\r\n")
_FIRST_LINE = re.compile(_REQUEST_LINE)

_FIRST_LINE_OTHER_VERSION = re.compile(TOKEN + rb" " + _TARGET + rb" HTTP/[0-9]\.[0-9]\r\n")
_TOKEN_START = re.compile(TOKEN)


def check_head(head: bytes, limits: Limits) -> tuple[bytes, bytes, bytes, int]:
    """Check one complete header section, request line to empty line.

    Gives what the library's reading must agree with: method, target, version, number of fields.
    Raises RequestError: 400 for malformed, 414 and 431 for too large, 505 for another version.
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
    """The field lines of a header section that passed `check_head`, read without a library."""
    found = FIELD_LINE.findall(head, head.index(b"\n") + 1)
    return [(name, value.strip(b" \t")) for name, value in found]


class LineCheck:
    """Walks a header section line by line and raises at the first line that has a fault.

    Give it each line once, or a buffer whose front is an incomplete section as often as it grows.
    """

    __slots__ = ("_limits", "_lines", "_searched", "_size")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Lines found good so far, and their size in bytes with line ends.
        self._lines = 0
        self._size = 0
        # How much of an incomplete section is known to hold no further line end.
        self._searched = 0

    def check_incomplete(self, held: ReceiveBuffer) -> None:
        """Check what is held of a section whose end has not come."""
        while (end := held.find(b"\n", self._searched)) >= 0:
            self._searched = end + 1
            self.check_line(held.peek(self._size, end + 1))
        self._searched = len(held)
        if self._lines == 0:
            self._start_of_first_line(held)
        elif 0 < self._limits.header_size < len(held):
            raise _section_too_large()

    def check_line(self, line: bytes) -> None:
        """Check the next line, given with its line end."""
        if self._lines == 0:
            self._first_line(line)
        else:
            self._field_line(line)
        self._lines += 1
        self._size += len(line)

    def _start_of_first_line(self, held: ReceiveBuffer) -> None:
        # A TLS ClientHello is told from a request by its first byte, and a stream without any
        # line end must not be held for ever. The one byte more may be the CR of the line end.
        _check_first_byte(held.peek(0, 1))
        if 0 < self._longest_first_line() < len(held) - 1:
            raise _line_too_long()

    def _first_line(self, line: bytes) -> None:
        _check_first_byte(line)
        if 0 < self._longest_first_line() < len(line.removesuffix(b"\n").removesuffix(b"\r")):
            raise _line_too_long()
        if not _FIRST_LINE.fullmatch(line):
            if _FIRST_LINE_OTHER_VERSION.fullmatch(line):
                raise RequestError(505, "The HTTP version is not supported.")
            raise RequestError(400, "The request line is malformed.")

    def _field_line(self, line: bytes) -> None:
        if 0 < self._limits.header_size < self._size + len(line):
            raise _section_too_large()
        if line == b"\r\n":
            return
        if 0 < self._limits.fields < self._lines:
            raise RequestError(431, "There are too many header fields.")
        if not FIELD_LINE.fullmatch(line):
            raise RequestError(400, "A header field line is malformed.")

    def _longest_first_line(self) -> int:
        """The bound on the request line; the smaller of both that apply, 0 for none."""
        bounds = [b for b in (self._limits.request_line, self._limits.header_size) if b]
        return min(bounds, default=0)


def _refuse(head: bytes, limits: Limits) -> NoReturn:
    check = LineCheck(limits)
    start = 0
    while True:
        # Behind the last line the slice is empty, which is no line either: the walk ends.
        end = head.find(b"\n", start) + 1
        check.check_line(head[start:end])
        start = end


def _check_first_byte(data: bytes) -> None:
    if not _TOKEN_START.match(data):
        raise RequestError(400, "The request does not start with a method.")


def _line_too_long() -> RequestError:
    return RequestError(414, "The request line is too long.")


def _section_too_large() -> RequestError:
    return RequestError(431, "The header section is too large.")
