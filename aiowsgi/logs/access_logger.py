"""Who hears of exchanges that are over; and from such an exchange to its line in the access log."""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Final, Protocol

from aiowsgi.logs.access_format import LogLayout, compile_for, compile_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiowsgi.exchange.app_context import AppContext
    from aiowsgi.exchange.exchange import Exchange
    from aiowsgi.http1.messages import Request
    from aiowsgi.wsgi.environ import ConnectionInfo
    from aiowsgi.wsgi.handler import Environ, Response

__all__ = ["AccessLogger", "RequestObserver", "observe"]

UNREAD: Final = ("", "", "")
"""Method, target and version of a request whose head could not be read."""


class RequestObserver(Protocol):
    """Hears of every exchange: the access log, the metrics."""

    def finished(self, exchange: Exchange, response: Response, environ: Environ) -> None:
        """An application's response is done, for better or worse. Called by the worker."""

    def refused(
        self,
        peer: ConnectionInfo,
        request: Request | None,
        status: int,
        size: int,
        received_at: float,
    ) -> None:
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

    def finished(self, exchange: Exchange, response: Response, environ: Environ) -> None:
        self._first.finished(exchange, response, environ)
        self._second.finished(exchange, response, environ)

    def refused(
        self,
        peer: ConnectionInfo,
        request: Request | None,
        status: int,
        size: int,
        received_at: float,
    ) -> None:
        self._first.refused(peer, request, status, size, received_at)
        self._second.refused(peer, request, status, size, received_at)


# As the connection knows them, not as the application has left its environ.
_OF_EXCHANGE: Final = {
    "client_host": "exchange.origin.client[0]",
    "client_port": "exchange.origin.client[1]",
    "method": "exchange.request.method",
    "target": "exchange.request.target",
    "version": "exchange.request.version",
    "status": "response.status",
    "response_bytes": "response.body_bytes",
    "time": "clock()",
    "duration": "exchange.finished_at - exchange.received_at",
    "queue_time": "exchange.started_at - exchange.queued_at + exchange.waited_before",
    "read_time": "exchange.queued_at - exchange.received_at",
    "app_time": "monotonic() - exchange.started_at",
    "write_time": "monotonic() - exchange.finished_at",
    "request_id": "exchange.request_id",
    "response_fields": "response.fields",
}


class AccessLogger:
    """Writes the access log's lines and puts them where they go; from any thread."""

    def __init__(self, format_: str, put: Callable[[str], object], *, pid: int) -> None:
        """``format_`` and ``pid`` are `compile_format`'s."""
        facts = LogLayout(
            ("exchange", "response", "environ"),
            _OF_EXCHANGE,
            {"clock": time, "monotonic": monotonic, "put": put},
            "put",
        )
        self.finished: Callable[[Exchange, Response, Environ], None] = compile_for(
            facts, format_, pid=pid
        )
        """See `RequestObserver`. Compiled as a whole, which saves a call for each line."""
        self._line = compile_format(format_, pid=pid)
        self._put = put

    def refused(
        self,
        peer: ConnectionInfo,
        request: Request | None,
        status: int,
        size: int,
        received_at: float,
    ) -> None:
        """The server answered by itself. Called by the loop."""
        duration = monotonic() - received_at if received_at else 0.0
        method, target, version = (
            UNREAD if request is None else (request.method, request.target, request.version)
        )
        self._put(
            self._line(
                peer.remote_addr,
                int(peer.remote_port or 0),
                method,
                target,
                version,
                status,
                size,
                time(),
                duration,
                0.0,
                duration,
                0.0,
                0.0,
                None,
                {},
                (),
            )
        )
