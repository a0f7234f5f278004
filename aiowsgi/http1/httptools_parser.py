"""Parses request heads with httptools (llhttp in C), the faster, optional library.

A new parser is made for each head. That costs a third of a microsecond, and no state of llhttp
survives an error, an upgrade or a body. llhttp never sees a body. Three differences to h11 are
removed here:

- llhttp accepts only the methods it knows, and treats CONNECT as an upgrade. RFC 9110 section 9.1
  allows any token, so other methods are parsed as GET.
- llhttp keeps trailing spaces of values, and tabs around them.
- llhttp stops at an upgrade. The server may ignore Upgrade (RFC 9110 section 7.8), so the request
  is parsed like any other.
"""

from __future__ import annotations

import httptools

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.messages import RawHead

__all__ = ["parse_head"]

_KNOWN_METHODS = frozenset(
    {b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"}
)


_VERSIONS = {"1.0": b"1.0", "1.1": b"1.1"}


class _Recorder:
    """Receives the callbacks of httptools."""

    __slots__ = ("complete", "fields", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # ``syntax`` allows no whitespace except SP and HTAB, so rstrip() needs no argument.
        self.fields.append((name, value.rstrip()))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(head: bytes) -> RawHead:
    """Parse one complete request head; see ``messages.HeadParser``."""
    method = head[: head.find(b" ")]
    if method not in _KNOWN_METHODS:
        head = b"GET" + head[len(method) :]
    if b"\t" in head:
        # llhttp checks Content-Length and Transfer-Encoding itself, before the callback.
        head = b"\r\n".join([line.rstrip(b" \t") for line in head.split(b"\r\n")])
    recorder = _Recorder()
    parser = httptools.HttpRequestParser(recorder)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise RequestError(400, "The header section is malformed.") from error
    if not recorder.complete:
        raise RequestError(400, "The header section is incomplete.")
    version = _VERSIONS.get(parser.get_http_version(), b"")
    return tuple.__new__(RawHead, (method, recorder.target, version, recorder.fields))
