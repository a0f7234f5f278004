"""Who hears of exchanges that are over; and from such an exchange to its line in the access log."""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Final, Protocol

from aiowsgi.logs.access_format import LogLayout, compile_for, compile_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiowsgi.exchange.app_context import AppContext
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.wsgi.handler import Environ, Response

__all__ = ["AccessLogger", "RequestObserver", "observe"]

UNREAD: Final = ("", "", "")
"""Method, target and version of a request whose head could not be read."""


class RequestObserver(Protocol):
    """Hears of every exchange: the access log, the metrics."""

    def finished(self, record: RequestRecord, response: Response, environ: Environ) -> None:
        """An application's response is done, for better or worse. Called by the worker."""

    def refused(self, record: RequestRecord) -> None:
        """The server answered by itself. Called by the loop."""


def observe(service: AppContext, observers: Sequence[RequestObserver]) -> None:
    """Have ``service`` tell ``observers``, two at most. Those that are not there cost nothing."""
    if observers:
        one = observers[0] if len(observers) == 1 else _Both(*observers)
        service.finished, service.refused = one.finished, one.refused


class _Both:
    """Two observers as one."""

    def __init__(self, first: RequestObserver, second: RequestObserver) -> None:
        self._first = first
        self._second = second

    def finished(self, record: RequestRecord, response: Response, environ: Environ) -> None:
        self._first.finished(record, response, environ)
        self._second.finished(record, response, environ)

    def refused(self, record: RequestRecord) -> None:
        self._first.refused(record)
        self._second.refused(record)


# As the connection knows them, not as the application has left its environ.
_OF_EXCHANGE: Final = {
    "client_host": "record.client[0]",
    "client_port": "record.client[1]",
    "method": "record.request.method",
    "target": "record.request.target",
    "version": "record.request.version",
    "status": "record.status",
    "response_bytes": "record.response_bytes",
    "time": "clock()",
    "duration": "record.finished_at - record.received_at",
    "queue_time": "record.started_at - record.queued_at + record.waited_before",
    "read_time": "record.queued_at - record.received_at",
    "app_time": "monotonic() - record.started_at",
    "write_time": "monotonic() - record.finished_at",
    "request_id": "record.request_id",
    "response_fields": "response.fields",
}


class AccessLogger:
    """Writes the access log's lines and puts them where they go; from any thread."""

    def __init__(self, format_: str, put: Callable[[str], object], *, pid: int) -> None:
        """``format_`` and ``pid`` are `compile_format`'s."""
        facts = LogLayout(
            ("record", "response", "environ"),
            _OF_EXCHANGE,
            {"clock": time, "monotonic": monotonic, "put": put},
            "put",
        )
        self.finished: Callable[[RequestRecord, Response, Environ], None] = compile_for(
            facts, format_, pid=pid
        )
        """See `RequestObserver`. Compiled as a whole, which saves a call for each line."""
        self._line = compile_format(format_, pid=pid)
        self._put = put

    def refused(self, record: RequestRecord) -> None:
        """The server answered by itself. Called by the loop."""
        request = record.request
        method, target, version = (
            UNREAD if request is None else (request.method, request.target, request.version)
        )
        # Each phase ended when the next began, and the last one with the answer.
        end = record.finished_at
        started_at = record.started_at or end
        queued_at = record.queued_at or started_at
        self._put(
            self._line(
                *record.client,
                method,
                target,
                version,
                record.status,
                record.response_bytes,
                time(),
                end - record.received_at,
                started_at - queued_at + record.waited_before,
                queued_at - record.received_at,
                end - started_at,
                0.0,
                record.request_id,
                {},
                (),
            )
        )
