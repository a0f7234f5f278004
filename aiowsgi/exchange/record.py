"""The facts about one request: what the access log, the metrics, the admin endpoint and the
watchdog know of it.

An `Exchange` makes the record and writes into it; for a request that no application will see, the
connection makes one. Everybody else only reads. Most attributes are written by one thread and read
by another without a lock: each is a plain value that is replaced in one step, and a reader may see
it one step too late.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from aiowsgi.http1.messages import Request

__all__ = ["RequestRecord"]

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


@final
class RequestRecord:
    """One request and what became of it.

    Times are monotonic seconds, and 0.0 for what has not happened.
    """

    __slots__ = (
        "client",
        "client_left",
        "cut",
        "ended",
        "finished_at",
        "overruled",
        "queued_at",
        "received_at",
        "request",
        "request_id",
        "response_bytes",
        "started_at",
        "status",
        "thread_id",
        "upgraded",
        "waited_before",
    )

    def __init__(
        self,
        request: Request | None,
        client: tuple[str, int],
        request_id: str,
        received_at: float,
        queued_at: float,
    ) -> None:
        # None if the head could not be read.
        self.request = request
        # Address and port of the client, as the server knows them and not as the application may
        # have changed them in its environ; empty and 0 if unknown (a unix socket).
        self.client = client
        # Unique among all servers, or given by a trusted proxy.
        self.request_id = request_id
        # The first byte of the request arrived.
        self.received_at = received_at
        # The request was handed to the pool, with as much of the body as is buffered.
        self.queued_at = queued_at
        # Seconds that it waited in a trusted proxy's queue before it arrived here.
        self.waited_before = 0.0
        # A worker thread took it, and that thread's identity; 0 before. Set by the worker.
        self.started_at = 0.0
        self.thread_id = 0
        # The last byte of the response was sent or buffered, or the response was cut off. Set by
        # the worker.
        self.finished_at = 0.0
        # Status of the response and the size of its body without transfer coding; 0 before the end
        # and if there was no response.
        self.status = 0
        self.response_bytes = 0
        # The worker thread is done with it, after the application's close(). Set by the worker.
        self.ended = False
        # The connection was lost. Set by the event loop.
        self.client_left = False
        # The application has taken the connection over. Set by the worker.
        self.upgraded = False
        # The response was cut off: its end could not be sent (set by the worker), or the server
        # stopped before (set by the event loop, in the record that it reports).
        self.cut = False
        # The event loop has answered instead of the application, and has reported that in a record
        # of its own: whatever the application still returns is discarded and not reported.
        self.overruled = False

    @property
    def awaited(self) -> bool:
        """Whether a connection still waits for the response, or for the rest of it."""
        return not (self.finished_at or self.client_left or self.overruled)

    def describe(self) -> str:
        """The request line, with a question mark for each character that is not printable ASCII."""
        request = self.request
        if request is None:
            return "a request whose head was not read"
        return _UNPRINTABLE.sub("?", f"{request.method} {request.target} {request.version}")

    def refused(self, status: int, response_bytes: int) -> RequestRecord:
        """A record that says that the event loop has just answered with ``status`` by itself.

        It is a copy, since a worker thread may still write into this record. Phases that the
        request has not reached took no time.
        """
        now = monotonic()
        queued_at = self.queued_at or now
        record = RequestRecord(
            self.request, self.client, self.request_id, self.received_at, queued_at
        )
        record.waited_before = self.waited_before
        record.started_at = self.started_at or now
        record.status = status
        record.response_bytes = response_bytes
        record.finished_at = now
        record.ended = True
        return record
