"""What all exchanges of a server share: the application, and what goes into every response.

The server makes it; the worker threads and the event loop read it. Whatever one thread changes
while another reads it is an attribute that is replaced in one step, or a set or dictionary whose
single operations are atomic.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, product
from os import urandom
from time import time
from typing import TYPE_CHECKING, final

from aiowsgi.exceptions import RequestError
from aiowsgi.exchange.upgrade import UpgradeSlots
from aiowsgi.http1.response import (
    Fields,
    ResponseContext,
    ResponseHead,
    error_response,
    http_date,
    response_context,
)
from aiowsgi.wsgi.handler import Environ, Response, WSGIApplication

if TYPE_CHECKING:
    from aiowsgi.exchange.record import RequestRecord

__all__ = ["AppContext"]


@final
class AppContext:
    """See the module's docstring."""

    def __init__(
        self, app: WSGIApplication, environ: Environ, *, server: str, send_date: bool
    ) -> None:
        """``environ`` is `base_environ`'s; ``server`` the Server field, empty for none."""
        self.app = app
        self.environ = environ
        self.server = server
        # The server stops: responses from now on end their connections. Set by the event loop once.
        self.draining = False
        # Called by the worker thread at the end of an exchange, for the access log and the metrics.
        self.finished: Callable[[RequestRecord, Response, Environ], object] | None = None
        # Called by the event loop when it has answered by itself.
        self.refused: Callable[[RequestRecord], object] | None = None
        # This process was forked by the application; see ``server/after_fork.py``.
        self.forked = False
        # Called by the worker thread when it is free again; None if nothing waits for that.
        self.released: Callable[[RequestRecord], object] | None = None
        # The requests that run, by the identity of their thread: added and removed by the worker
        # threads, read by the event loop.
        self.running: dict[int, RequestRecord] = {}
        # Tasks in the pool's queue that no thread needs to start: the `run` methods of cancelled
        # exchanges. Added by the event loop, removed by the worker thread that finds one.
        self.abandoned: set[Callable[[], None]] = set()
        # Whether `RequestTimedOut` may be raised in the application (--interrupt-detached).
        self.interruptible = False
        # The connections that the application may take over.
        self.upgrade_slots = UpgradeSlots(0)
        # Seconds that the application has for a request; 0 for no limit.
        self.request_timeout = 0.0
        # Whether responses show the request's identifier, and its times.
        self.send_id = self.send_timing = False
        self._id_prefix = f"{urandom(6).hex()}-"
        self._numbers = count(1)
        self._send_date = send_date
        # Responses leave connections open for further requests (RFC 9112 section 9.3). Set once,
        # before the first request.
        self.keep_connections = True
        # The contexts of responses, by the arguments of `context`, for the present second. Replaced
        # when that is over and never changed, so that threads may share it.
        self._contexts: dict[tuple[bool, bool, bool], ResponseContext] = {}
        # Whole responses of the server's own, of the present second too.
        self._answers: dict[tuple[object, ...], ResponseHead] = {}
        # The present second, as the clock showed it last.
        self._second = -1

    def context(self, *, head_only: bool, http_11: bool, keep_alive: bool) -> ResponseContext:
        """What a response's head needs to know, with the present date."""
        return self.contexts()[head_only, http_11, keep_alive and not self.draining]

    def contexts(self) -> dict[tuple[bool, bool, bool], ResponseContext]:
        """The contexts of the present second, by the arguments of `context`; do not change them."""
        second = int(time())
        if second != self._second:
            # Two threads that do this at once make the same contexts. `_second` is set last: a
            # thread that finds it up to date finds the contexts too.
            self._contexts = self._make_contexts(http_date(second) if self._send_date else "")
            self._answers = {}
            self._second = second
        return self._contexts

    def answer(self, error: RequestError, context: ResponseContext, fields: Fields) -> ResponseHead:
        """A response of the server's own, made once a second: an overload needs many."""
        key = (error.status, error.detail, context, tuple(fields))
        answers = self._answers
        if key not in answers:
            answers[key] = error_response(error.status, error.detail, context, fields)
        return answers[key]

    def next_id(self) -> str:
        """An identifier that no other request of any server has."""
        return f"{self._id_prefix}{next(self._numbers)}"

    def _make_contexts(self, date: str) -> dict[tuple[bool, bool, bool], ResponseContext]:
        return {
            (head_only, http_11, keep_alive): response_context(
                head_only=head_only,
                http_11=http_11,
                keep_alive=keep_alive and self.keep_connections,
                date=date,
                server=self.server,
            )
            for head_only, http_11, keep_alive in product((False, True), repeat=3)
        }
