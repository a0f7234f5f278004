"""Header sections parsed by h11: pure Python, always there.

A connection object of h11's is made per head; that costs a microsecond and leaves no state to be
carried over or to go wrong. h11 never sees a body. One of its ways is levelled here: it hands out
the values of framing fields rewritten, a list of equal lengths as one and codings in lower case.
Whoever judges them must see what was sent.
"""

from __future__ import annotations

import h11

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.messages import RawHead
from aiowsgi.http1.syntax import split_fields

__all__ = ["parse_head"]


def parse_head(head: bytes) -> RawHead:
    """Parse one complete header section; see ``events.HeadParser``."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise RequestError(400, "The header section is malformed.") from error
    if not isinstance(event, h11.Request):
        raise RequestError(400, "The header section is incomplete.")
    fields = event.headers.raw_items()
    lowered = head.lower()
    if b"\ncontent-length:" in lowered or b"\ntransfer-encoding:" in lowered:
        fields = _as_sent(head, fields)
    return RawHead(event.method, event.target, event.http_version, fields)


def _as_sent(head: bytes, fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields that h11 has read, with the values that were sent."""
    sent = split_fields(head)
    if [name for name, _ in fields] != [name for name, _ in sent]:
        raise RequestError(400, "The header section can be read in two ways.")
    return sent
