"""From a finished exchange to the access log's record of it."""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Final

from aiowsgi.access_log import Format, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiowsgi.bridge.exchange import Exchange
    from aiowsgi.environ import Peer
    from aiowsgi.http1.events import Request
    from aiowsgi.wsgi import Environ, Response

__all__ = ["AccessReport"]

UNREAD: Final = ("", "", "")
"""Method, target and version of a request whose head could not be read."""


class AccessReport:
    """Makes records of what the format needs, and puts them; from any thread."""

    def __init__(self, format_: Format, put: Callable[[Record], None]) -> None:
        self._put = put
        self._variables = format_.variables
        self._wants_fields = format_.response_fields

    def finished(self, exchange: Exchange, response: Response, environ: Environ) -> None:
        """An application's response is done, for better or worse. Called by the worker."""
        request = exchange.request
        now = monotonic()
        sent = exchange.finished_at or now
        started = exchange.started_at
        port = environ["REMOTE_PORT"]
        self._put(
            Record(
                environ["REMOTE_ADDR"],
                int(port) if port else 0,
                request.method,
                request.target,
                request.version,
                response.status,
                response.body_bytes,
                time(),
                sent - exchange.received_at,
                started - exchange.queued_at,
                exchange.queued_at - exchange.received_at,
                now - started,
                now - sent,
                None,
                tuple(map(environ.get, self._variables)),
                response.fields if self._wants_fields else (),
            )
        )

    def refused(
        self, peer: Peer, request: Request | None, status: int, size: int, received_at: float
    ) -> None:
        """The server answered by itself. Called by the loop."""
        duration = monotonic() - received_at if received_at else 0.0
        method, target, version = (
            UNREAD if request is None else (request.method, request.target, request.version)
        )
        self._put(
            Record(
                client_host=peer.remote_addr,
                client_port=int(peer.remote_port) if peer.remote_port else 0,
                method=method,
                target=target,
                version=version,
                status=status,
                response_bytes=size,
                time=time(),
                duration=duration,
                queue_time=0.0,
                read_time=duration,
                app_time=0.0,
                write_time=0.0,
            )
        )
