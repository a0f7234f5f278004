"""Bytes on a connection and what must come of them, as plain data.

Each module holds the rows of one section of RFC 9110 or 9112. The rows know nothing of the server:
they are run against the reader, against a server of this project, and by ``bench/conformance.py``
against whatever listens at a host and port. Sizes are those of the default limits (request line
8 KiB, header section 64 KiB, 100 fields, content 1 GiB).
"""

from wire import (
    rfc9110_7_2_host,
    rfc9112_2_message,
    rfc9112_3_request_line,
    rfc9112_5_fields,
    rfc9112_6_framing,
    rfc9112_7_chunked,
    rfc9112_9_connection,
)
from wire.row import SECOND, Row, Seen

__all__ = ["ROWS", "SECOND", "Row", "Seen"]

ROWS: tuple[Row, ...] = (
    *rfc9112_2_message.ROWS,
    *rfc9112_3_request_line.ROWS,
    *rfc9110_7_2_host.ROWS,
    *rfc9112_5_fields.ROWS,
    *rfc9112_6_framing.ROWS,
    *rfc9112_7_chunked.ROWS,
    *rfc9112_9_connection.ROWS,
)
