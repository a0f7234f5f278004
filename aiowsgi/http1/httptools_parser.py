"""Header sections parsed by httptools, which is llhttp in C: the fast one, an optional extra.

A parser is made per head. It costs a third of a microsecond, and llhttp's state after an error, an
upgrade, a body or a close never matters; nothing is shared between connections or threads either.
llhttp never sees a body. Three of its ways are levelled here:

- Its list of methods is closed. Others are as good by RFC 9110 section 9.1, so it is shown GET in
  their place; and CONNECT, which it would take for an upgrade, is among the others.
- It keeps whitespace behind values, and does not know a tab there for such.
- An upgrade ends its work. Here it is a request like any other (RFC 9110 section 7.8: a server
  MAY ignore Upgrade).
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
    """Takes what httptools calls back with."""

    __slots__ = ("complete", "fields", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Of whitespace the gate lets only SP and HTAB through, so that no set need be given.
        self.fields.append((name, value.rstrip()))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(head: bytes) -> RawHead:
    """Parse one complete header section; see ``events.HeadParser``."""
    method = head[: head.find(b" ")]
    if method not in _KNOWN_METHODS:
        head = b"GET" + head[len(method) :]
    if b"\t" in head:
        # Content-Length and Transfer-Encoding are judged before they are handed out.
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
