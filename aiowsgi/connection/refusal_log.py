"""Logs why requests were refused: at most one line a second, and then how many more there were.

A client can send malformed requests faster than anybody can read about them, hence the limit.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from aiowsgi.exceptions import RequestError
    from aiowsgi.exchange.record import RequestRecord

__all__ = ["RefusalLog"]

logger = logging.getLogger("aiowsgi.server")

INTERVAL: Final = 1.0
"""Seconds between two lines."""

LONGEST: Final = 300
"""Characters that are logged of a request line, and of the bytes at fault."""


@final
class RefusalLog:
    """One process's log of refused requests; on the event loop only."""

    __slots__ = ("_loop", "_next", "_suppressed")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # When the next line may be logged, monotonic seconds.
        self._next = 0.0
        # Refusals since the last line.
        self._suppressed = 0

    def add(self, record: RequestRecord, error: RequestError) -> None:
        """Log that the request of ``record`` was answered with ``error``."""
        if not logger.isEnabledFor(logging.INFO):
            return
        now = monotonic()
        if now < self._next:
            self._suppressed += 1
            if self._suppressed == 1:
                self._loop.call_later(self._next - now, self._log_suppressed)
            return
        self._next = now + INTERVAL
        # If a filter or handler of the application's raises, the connection goes on all the same.
        with suppress(Exception):
            self._log(record, error)

    def _log(self, record: RequestRecord, error: RequestError) -> None:
        host, port = record.client
        logger.info(
            'refused "%s" of %s: %d, %s%s',
            _shortened(record.describe()),
            f"{host}:{port}" if port else host or "a unix socket",
            error.status,
            error.detail,
            f" [{_printable(error.at_fault)}]" if error.at_fault else "",
            extra={"request_id": record.request_id},
        )

    def _log_suppressed(self) -> None:
        count, self._suppressed = self._suppressed, 0
        with suppress(Exception):
            logger.info("refused %d more requests within a second", count)


def _printable(data: bytes) -> str:
    """Bytes of a client as ASCII without control characters."""
    return _shortened(ascii(data.rstrip(b"\r\n").decode("latin-1"))[1:-1])


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
