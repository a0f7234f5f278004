"""Recognises a request head that resembles an earlier one of the same connection.

Most requests of a connection have the same fields as an earlier one, or differ in the values of a
few fields that only the application uses, such as an identifier. The cache builds the `Request` for
such a head without parsing it. This is safe for the following reasons. Everything but the method,
the target and the field values follows from the lines that are equal. A line that differs must have
the same field name as the line it replaces; the server must not use that field itself
(`semantics.ACTED_UPON`); the value must match the syntax. Every other head is parsed. Heads of
different connections are never compared.

A browser requests pages, scripts and images with different fields. So a connection has a few cached
heads, found by their number of lines (`HeadCache`).

The cache saves nine tenths of the time to read a request of ten fields with h11, and two thirds
with httptools (``python -m bench.micro``).
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

__all__ = ["HeadCache"]

# Method and target; only origin-form without a fragment.
_LINE_BEGINNING = re.compile(rb"(" + TOKEN + rb") (/[!\"$-~]*+)")
_VALUE = re.compile(VALUE)
_AFTER_TARGET = len(" HTTP/1.1")

_MAX_HEAD_SIZE = 4096
"""Maximum size of a cached head in bytes; it bounds the memory of a connection."""


_MAX_HEADS = 4
"""Maximum number of cached heads of a connection: for a page, a script, an image, and data. A
guess; each occupies as much memory as its head, until the connection is idle."""


class HeadCache:
    """The cached request heads of a connection."""

    __slots__ = ("_heads", "_limits", "latest")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.latest = _CachedHead(limits)
        """The head that was used last."""
        # Cached heads by number of lines, the most recently stored last.
        self._heads: dict[int, _CachedHead] = {}

    def store(self, head: bytes, request: Request) -> None:
        """Store a parsed ``head`` and its ``request``."""
        # The same count as in lookup(), where the first line is the end of the request line.
        kind = head.count(b"\r\n") + 1
        like = self._heads.pop(kind, None)
        if like is None:
            if len(self._heads) >= _MAX_HEADS:
                del self._heads[next(iter(self._heads))]
            like = _CachedHead(self._limits)
        self.latest = self._heads[kind] = like
        like.store(head, request)

    def clear(self) -> None:
        """Keep nothing for the next request: it may be long in coming."""
        self.latest.clear()
        self._heads.clear()

    def lookup(self, head: bytes) -> Request | None:
        """Return the request of a complete ``head`` that differs from a cached one at most in
        method, target and field values; None if there is no such head."""
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


class _CachedHead:
    """One cached head of a connection."""

    __slots__ = (
        "_ending",
        "_lines",
        "_longest",
        "_longest_beginning",
        "_request",
        "_rest",
    )

    def __init__(self, limits: Limits) -> None:
        # The limits of `syntax.check_head`, and that of the cache.
        self._longest = min(limits.header_size or sys.maxsize, _MAX_HEAD_SIZE)
        self._longest_beginning = (limits.request_line or sys.maxsize) - _AFTER_TARGET
        # None: nothing is stored, or the head cannot be reused.
        self._request: Request | None = None
        # The elements of _request that do not depend on method and target.
        self._rest: tuple[object, ...] = ()
        # The head after the target; and its lines, computed when first needed.
        self._ending = b""
        self._lines: list[bytes] = []

    def store(self, head: bytes, request: Request) -> None:
        """Store a parsed ``head`` and its ``request``."""
        self.clear()
        # A target in absolute-form changes the meaning of Host.
        if request.keep_alive and request.target.startswith("/") and len(head) <= self._longest:
            self._request, self._rest = request, request[4:]
            self._ending = head[len(request.method) + 1 + len(request.target) :]

    def clear(self) -> None:
        """Keep nothing for the next request: it may be long in coming."""
        self._request, self._rest = None, ()
        self._ending, self._lines = b"", []

    def match_same(self, data: bytes) -> Request | None:
        """Return the request if ``data`` is one complete head with the same method and fields; else
        None."""
        like = self._request
        if like is None or not data.endswith(self._ending) or len(data) > self._longest:
            return None
        # Nearly every request takes this path; a regular expression takes twice as long.
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
        """Return the request if a head with as many lines differs only in target, method or values.

        ``beginning`` is the match of the request line's beginning, ``ending`` the rest of the head,
        and ``lines`` its lines.
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
        """Return the fields with the values from ``lines``; None if more than values differs.

        Returns the same list object if no line differs.
        """
        if not self._lines:
            self._lines = self._ending.split(b"\r\n")
        if lines == self._lines:
            return fields
        fields = fields.copy()
        # The first line is the end of the request line.
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
    """Return the value of a field line; None unless it has the same name as ``before``, a name that
    the server does not use."""
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
