"""The access log as an observer of requests, and how several observers become one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiowsgi.logs.access_format import LineFormatter, compile_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiowsgi.exchange.app_context import AppContext
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.wsgi.handler import Environ, Response

__all__ = ["AccessLogger", "RequestObserver", "observe"]


class RequestObserver(Protocol):
    """Is told of every request: the access log, the metrics. See the hooks of `AppContext`."""

    def finished(self, record: RequestRecord, response: Response, environ: Environ) -> object:
        """An application's response is complete or was cut off. Called by the worker thread."""

    def refused(self, record: RequestRecord) -> object:
        """The server answered by itself. Called by the event loop."""


def observe(context: AppContext, observers: Sequence[RequestObserver]) -> None:
    """Have ``context`` call ``observers``, two at most; without one nothing is called."""
    if observers:
        one = observers[0] if len(observers) == 1 else _Both(*observers)
        context.finished, context.refused = one.finished, one.refused


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


class AccessLogger:
    """Makes the lines of the access log and puts them into its queue; from any thread."""

    def __init__(self, format_: str, put: Callable[[str], object], *, pid: int) -> None:
        """``put`` takes a line; ``format_`` and ``pid`` are `compile_format`'s."""
        # The compiled function is the hook itself, which saves a call for each line.
        self.finished: LineFormatter = compile_format(format_, put, pid=pid)

    def refused(self, record: RequestRecord) -> None:
        """The server answered by itself. Called by the event loop."""
        self.finished(record, None, {})
