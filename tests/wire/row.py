"""The type of a row, and functions that create rows."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["HIDDEN", "SECOND", "Row", "Seen", "bad", "good", "head", "post", "section"]

SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
"""Sent after every row: answered after a good row that does not close, never after a bad one."""

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
"""A request that a lax reader would find inside another one; no row lets it be seen."""


class Seen(NamedTuple):
    """One request as an application would see it."""

    method: str
    target: str
    host: str
    body: bytes


class Row(NamedTuple):
    """What is sent on a new connection, and the expected result."""

    id: str
    sent: bytes
    seen: tuple[Seen, ...]
    status: int | None
    """Status of the refusal after the requests seen; None if nothing is refused."""
    closes: bool
    """Whether the last request seen ends the connection."""
    cve: str
    """An advisory (CVE, or GitHub's number) on a server or parser that took it, if one is known."""
    section: str


def good(
    name: str,
    sent: bytes,
    *seen: tuple[str, str, str, bytes],
    closes: bool = False,
    cve: str = "",
) -> Row:
    """A row whose requests are all accepted; by default one ``GET /`` of host ``x``."""
    requests = tuple(Seen(*request) for request in seen) or (Seen("GET", "/", "x", b""),)
    return Row(name, sent, requests, None, closes, cve, "")


def bad(
    name: str,
    sent: bytes,
    status: int = 400,
    *seen: tuple[str, str, str, bytes],
    cve: str = "",
) -> Row:
    """A row that is refused with ``status`` after the requests seen, by default none."""
    return Row(name, sent, tuple(Seen(*request) for request in seen), status, True, cve, "")


def section(name: str, *rows: Row) -> list[Row]:
    """Add a section of an RFC to the rows; it becomes part of their ids."""
    prefix = name.lower().replace(" section ", "-").replace(" ", "")
    return [row._replace(id=f"{prefix}-{row.id}", section=name) for row in rows]


def head(
    *lines: bytes,
    method: bytes = b"GET",
    target: bytes = b"/",
    version: bytes = b"HTTP/1.1",
    host: bytes | None = b"x",
) -> bytes:
    """A request head: the request line, Host unless None, and further field lines."""
    hosts = [] if host is None else [b"Host: " + host]
    request_line = b" ".join([method, target, version])
    return b"\r\n".join([request_line, *hosts, *lines, b"", b""])


def post(
    *lines: bytes, body: bytes = b"", target: bytes = b"/", version: bytes = b"HTTP/1.1"
) -> bytes:
    """A POST of host ``x`` with further field lines and a body."""
    return head(*lines, method=b"POST", target=target, version=version) + body
