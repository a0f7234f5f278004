"""The loggers of the server: an application's logging set-up can neither stop nor silence them.

They are the ordinary loggers of these names, with two differences:

* An exception in a handler or a filter does not reach the code that logs. The response that is
  being sent, or the event loop's callback, must not end because of it.
* ``disable_existing_loggers``, the default of ``dictConfig`` and ``fileConfig`` in
  ``logging.config``, does not apply to them. To silence one, set its level or give it a filter.

Records made while a worker thread runs a request get that request's identifier, as the attribute
``request_id``.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Any, Final

__all__ = ["NAMES", "ServerLogger", "current_request_id"]

NAMES: Final = (
    "aiowsgi",
    "aiowsgi.access",
    "aiowsgi.admin",
    "aiowsgi.application",
    "aiowsgi.errors",
    "aiowsgi.gate",
    "aiowsgi.notify",
    "aiowsgi.server",
)

current_request_id: Final[ContextVar[str]] = ContextVar("aiowsgi.request_id", default="")
"""Identifier of the request that the current thread, or a task that the application has started
from it, works for; empty for none. Set by the worker thread at the start of each request."""


class ServerLogger(logging.Logger):
    """See the module's docstring."""

    # The messages of exceptions in handlers and filters that were reported; for all loggers.
    _reported: Final[set[str]] = set()

    @property
    def disabled(self) -> bool:
        """False."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        """Do nothing; `logging.config` sets it to True for each logger that it does not name."""

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: N802
        """As `logging.Logger`, with the identifier of the request unless ``extra`` has one."""
        record = super().makeRecord(*args, **kwargs)
        if not hasattr(record, "request_id") and (request_id := current_request_id.get()):
            record.request_id = request_id
        return record

    def handle(self, record: logging.LogRecord) -> None:
        """As `logging.Logger`; a record whose handling fails goes to standard error."""
        try:
            super().handle(record)
        except Exception as error:
            _to_standard_error(record, self._first_time(error))

    def _first_time(self, error: Exception) -> Exception | None:
        message = f"{type(error).__name__}: {error}"
        if message in self._reported or len(self._reported) >= _REPORTS:
            return None
        self._reported.add(message)
        return error


_REPORTS: Final = 100
"""Different exceptions that are reported. A message may contain anything, such as a time."""


def _to_standard_error(record: logging.LogRecord, error: Exception | None) -> None:
    """Write what a handler or filter has failed to handle; and why, if ``error`` is given."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s [%(process)d] %(message)s")
    try:
        if error is not None:
            reason = logging.makeLogRecord(
                {
                    "name": record.name,
                    "levelname": "ERROR",
                    "msg": "an exception in a logging handler or filter; "
                    "the records that it fails for are written to standard error",
                    "exc_info": (type(error), error, error.__traceback__),
                }
            )
            sys.stderr.write(f"{formatter.format(reason)}\n")
        sys.stderr.write(f"{formatter.format(record)}\n")
    except Exception:  # noqa: S110 - standard error is closed, or an argument cannot be formatted
        pass


def _install() -> None:
    for name in NAMES:
        logger = logging.getLogger(name)
        base = type(logger)
        if base is logging.Logger:
            logger.__class__ = ServerLogger
        elif not issubclass(base, ServerLogger):
            # The program has called logging.setLoggerClass() before.
            logger.__class__ = type("ServerLogger", (ServerLogger, base), {})


_install()
