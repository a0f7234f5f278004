"""Reports the requests that are cut off because their process stops: in the log, the access log and
the metrics."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from aiowsgi.threads.stacks import code_lines

if TYPE_CHECKING:
    from aiowsgi.connection.state import ServerState
    from aiowsgi.exchange.record import RequestRecord

__all__ = ["CUT_STATUS", "report_cut_requests"]

logger = logging.getLogger("aiowsgi.server")

CUT_STATUS: Final = 504
"""Status in the access log of a request that the server cut off. The client got no status, or a
response that ended early."""

MOST: Final = 10
"""Requests that have a log line of their own."""

LONGEST: Final = 200
"""Characters of a request line in the log."""


def report_cut_requests(state: ServerState) -> None:
    """Report every request whose response is not complete; called before the connections are cut.

    What their threads still do is not reported again.
    """
    records = sorted(_incomplete(state), key=lambda record: record.received_at)
    now = monotonic()
    lines = code_lines(record.thread_id for record in records if record.thread_id)
    for record in records[:MOST]:
        place = lines.get(record.thread_id)
        logger.warning(
            "cut off after %.1f s, since the server stops: %s%s",
            now - record.received_at,
            record.describe()[:LONGEST],
            f", at {place}" if place else ", which waited for a thread",
            extra={"request_id": record.request_id},
        )
    if len(records) > MOST:
        logger.warning("cut off %d more requests, since the server stops", len(records) - MOST)
    for record in records:
        record.overruled = True
        if state.context.refused is not None:
            answer = record.refused(CUT_STATUS, 0)
            answer.cut = True
            state.context.refused(answer)


def _incomplete(state: ServerState) -> set[RequestRecord]:
    """Requests that a connection still waits for; with those whose threads run without one."""
    records = set(state.context.running.copy().values())
    for connection in tuple(state.connections):
        if (exchange := connection.exchange) is not None:
            records.add(exchange.record)
    return {record for record in records if not (record.finished_at or record.overruled)}
