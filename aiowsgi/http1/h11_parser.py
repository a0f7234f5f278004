"""Parses request heads with h11, which is pure Python and always installed.

A new h11 connection is made for each head. That costs a microsecond and leaves no state behind. h11
never sees a body. h11 rewrites the values of framing fields: it joins equal lengths and lowers the
case of codings. `parse_head` returns the values as they were sent, so that ``semantics`` can judge
them.
"""

from __future__ import annotations

import h11

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.messages import RawHead
from aiowsgi.http1.syntax import split_fields

__all__ = ["parse_head"]


def parse_head(head: bytes) -> RawHead:
    """Parse one complete request head; see ``messages.HeadParser``."""
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
    """Return the fields that h11 found, with the values that were sent."""
    sent = split_fields(head)
    if [name for name, _ in fields] != [name for name, _ in sent]:
        raise RequestError(400, "The header section is ambiguous.")
    return sent
