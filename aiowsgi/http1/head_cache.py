"""The requests before, on a kept connection, and what of them holds for the next.

Clients repeat themselves: most requests of a connection have the fields of the one before, or
differ in the values of a few that only the application reads, such as an identifier. A header
section of that kind is not taken apart again. Why that is safe: of a request, all but method,
target and field values follows from the lines that are equal, and equal bytes have equal meaning;
a line that differs must have the name of the line that stood in its place, a name that this server
does not act upon (`semantics.ACTED_UPON`), and a value that the grammar allows. Anything else is
read as if it were the first. No request is compared with one of another connection.

A browser asks for a page, its scripts and its pictures, each kind with fields of its own. So a few
kinds are remembered of each connection, by the number of their lines (`HeadCache`): requests of
one kind have as many, and a request can only be like one that has.

What it saves (`python -m bench.micro`): nine tenths of reading a request of ten fields with h11,
two thirds with httptools.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from aiowsgi.http1.messages import Request
from aiowsgi.http1.semantics import ACTED_UPON
from aiowsgi.http1.syntax import TOKEN, VALUE
from aiowsgi.http1.target import split_origin_form

if TYPE_CHECKING:
    from aiowsgi.http1.messages import Limits

__all__ = ["CachedHead", "HeadCache"]

# Method and target; of the latter's forms only the origin form, and without a fragment.
_LINE_BEGINNING = re.compile(rb"(" + TOKEN + rb") (/[!\"$-~]*+)")
_VALUE = re.compile(VALUE)
_AFTER_TARGET = len(" HTTP/1.1")

_MAX_HEAD_SIZE = 4096
"""Bytes of a head beyond which it is not remembered; a connection's memory is bounded with it."""


_MAX_HEADS = 4
"""Kinds of requests that are remembered of a connection: a page, a script, a picture, and data. A
guess; each takes as much memory as its head, while the connection is not idle."""


class HeadCache:
    """What a connection's reader remembers of the requests before."""

    __slots__ = ("_heads", "_limits", "latest")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.latest = CachedHead(limits)
        """Of the kind that came last."""
        # By number of lines, those that were remembered last behind the others.
        self._heads: dict[int, CachedHead] = {}

    def store(self, head: bytes, request: Request) -> None:
        """``head`` was found to be ``request``, which the next of its kind may be like."""
        # As many lines as `find` will see, whose first is the request line's rest.
        kind = head.count(b"\r\n") + 1
        like = self._heads.pop(kind, None)
        if like is None:
            if len(self._heads) >= _MAX_HEADS:
                del self._heads[next(iter(self._heads))]
            like = CachedHead(self._limits)
        self.latest = self._heads[kind] = like
        like.store(head, request)

    def clear(self) -> None:
        """Keep nothing for the next request: it may be long in coming."""
        self.latest.clear()
        self._heads.clear()

    def lookup(self, head: bytes) -> Request | None:
        """The request that the whole ``head`` is, where its fields differ from those of its kind in
        values at the most; or None."""
        match = _LINE_BEGINNING.match(head)
        if match is None:
            return None
        ending = head[match.end() :]
        lines = ending.split(b"\r\n")
        like = self._heads.get(len(lines))
        if like is None:
            return None
        self.latest = like
        return like.match_similar(match, ending, lines)


class CachedHead:
    """A request of a connection, which another may be like."""

    __slots__ = (
        "_ending",
        "_lines",
        "_longest",
        "_longest_beginning",
        "_request",
        "_rest",
    )

    def __init__(self, limits: Limits) -> None:
        # The bounds that `grammar.check_head` has, and our own.
        self._longest = min(limits.header_size or sys.maxsize, _MAX_HEAD_SIZE)
        self._longest_beginning = (limits.request_line or sys.maxsize) - _AFTER_TARGET
        # None where there is none that the next could be like.
        self._request: Request | None = None
        # All of it that does not follow from method and target.
        self._rest: tuple[object, ...] = ()
        # Its header section from behind the target on; and that line by line, once asked for.
        self._ending = b""
        self._lines: list[bytes] = []

    def store(self, head: bytes, request: Request) -> None:
        """``head`` was found to be ``request``, which the next may be like."""
        self.clear()
        # A target in absolute form has a part in what a request means.
        if request.keep_alive and request.target.startswith("/") and len(head) <= self._longest:
            self._request, self._rest = request, request[4:]
            self._ending = head[len(request.method) + 1 + len(request.target) :]

    def clear(self) -> None:
        """Keep nothing for the next request: it may be long in coming."""
        self._request, self._rest = None, ()
        self._ending, self._lines = b"", []

    def match_same(self, data: bytes) -> Request | None:
        """The request, where ``data`` is one whole head with the method and the very fields again,
        or None."""
        like = self._request
        if like is None or not data.endswith(self._ending) or len(data) > self._longest:
            return None
        # This is the way of nearly every request. What a pattern would do takes twice as long.
        line = data[: -len(self._ending)].decode("latin-1")
        method, _, target = line.partition(" ")
        if (
            method != like.method
            or not target.startswith("/")
            or " " in target
            or "#" in target
            or not (line.isascii() and line.isprintable())
            or len(line) > self._longest_beginning
        ):
            return None
        path, query = split_origin_form(target)
        # What calling Request does, without the call of Python's in between.
        facts = (method, target, path, query) + self._rest  # noqa: RUF005 (twice as fast)
        return tuple.__new__(Request, facts)

    def match_similar(
        self, beginning: re.Match[bytes], ending: bytes, lines: list[bytes]
    ) -> Request | None:
        """The request, where a whole head of as many lines is one with other values at the most.

        ``beginning`` is that of its request line, ``ending`` and its ``lines`` are the rest.
        """
        like, end = self._request, beginning.end()
        if like is None or end + len(ending) > self._longest or end > self._longest_beginning:
            return None
        fields = self._compare(lines, like.fields)
        if fields is None:
            return None
        method, target = beginning[1].decode(), beginning[2].decode()
        if method == "CONNECT":
            return None
        path, query = split_origin_form(target)
        facts = (method, target, path, query, *like[4:6], fields, *like[7:])
        request = tuple.__new__(Request, facts)
        self._request, self._rest = request, request[4:]
        self._ending, self._lines = ending, lines
        return request

    def _compare(
        self, lines: list[bytes], fields: list[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]] | None:
        """The fields with the values that ``lines`` give; None where more than values differs.

        The very same list where nothing does.
        """
        if not self._lines:
            self._lines = self._ending.split(b"\r\n")
        if lines == self._lines:
            return fields
        fields = fields.copy()
        # The first line is the request line's rest.
        number = -1
        for line, before in zip(lines, self._lines, strict=True):
            if line != before:
                value = _other_value(line, before)
                if value is None:
                    return None
                fields[number] = fields[number][0], value
            number += 1
        return fields


def _other_value(line: bytes, before: bytes) -> bytes | None:
    """The value of a field line; None where it could mean more than that of ``before``."""
    name, colon, _ = before.partition(b":")
    size = len(name) + 1
    if (
        not colon
        or name.lower() in ACTED_UPON
        or not line.startswith(name + colon)
        or not _VALUE.fullmatch(line, size)
    ):
        return None
    return line[size:].strip(b" \t")
