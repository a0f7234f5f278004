"""Feeds a stream to a RequestReader piece by piece, as a connection does."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from wire import Seen

from aiowsgi.exceptions import RequestError
from aiowsgi.http1 import head_parser
from aiowsgi.http1.messages import END_OF_BODY, NEED_DATA, HeadParser, Limits, Request
from aiowsgi.http1.reader import RequestReader

if TYPE_CHECKING:
    from collections.abc import Iterable

PARSERS = ("h11", "httptools")


class Reading(NamedTuple):
    """The result of reading a stream."""

    requests: tuple[tuple[Request, bytes], ...]
    """The complete requests, each with its body."""
    status: int | None
    """Status of the refusal that ended the reading, if there was one."""

    @property
    def seen(self) -> tuple[Seen, ...]:
        return tuple(Seen(r.method, r.target, r.host, body) for r, body in self.requests)

    @property
    def alike(self) -> object:
        """The part that must be the same with every parser: the case of field names may differ."""
        requests = [
            (request._replace(fields=[(n.lower(), v) for n, v in request.fields]), body)
            for request, body in self.requests
        ]
        return requests, self.status


def read(
    parser: str | HeadParser,
    pieces: Iterable[bytes],
    limits: Limits | None = None,
    *,
    forgetful: bool = False,
) -> Reading:
    """Feed the pieces one by one; after each, take the requests that have become complete.

    ``forgetful`` makes the reader read every request as if it were the connection's first.
    """
    parse_head = head_parser(parser) if isinstance(parser, str) else parser
    reader = RequestReader(parse_head, limits or Limits())
    requests: list[tuple[Request, bytes]] = []
    current: Request | None = None
    body = b""
    try:
        for piece in pieces:
            at_once = None if current or forgetful else reader.try_fast_path(piece)
            if at_once is not None:
                requests.append((at_once, b""))
                continue
            reader.feed(piece)
            while True:
                if current is None:
                    if forgetful:
                        reader.clear_cache()
                    current, body = reader.next_request(), b""
                    if current is None:
                        break
                event = reader.next_body()
                if event is NEED_DATA:
                    break
                if event is END_OF_BODY:
                    requests.append((current, body))
                    current = None
                else:
                    body += event
    except RequestError as error:
        return Reading(tuple(requests), error.status)
    return Reading(tuple(requests), None)


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """Return the data in pieces of ``size`` bytes."""
    return [data[i : i + size] for i in range(0, len(data), size)]


def by_heads(data: bytes) -> list[bytes]:
    """Return the data cut after every empty line, where most requests end."""
    *heads, rest = data.split(b"\r\n\r\n")
    return [head + b"\r\n\r\n" for head in heads] + [rest] * bool(rest)


def split_at(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return the data cut at each of the positions, modulo its length."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]
