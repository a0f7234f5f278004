"""``environ["wsgi.errors"]`` (PEP 3333): a text stream whose lines become log records.

Each write that completes a line is one record of level ERROR, the level that the stream is for. The
server's own handler writes the lines as they are (``logs/setup.py``); handlers of the operator see
ordinary records. An incomplete line is kept for each context, hence for each thread, without a
lock.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from io import TextIOBase
from typing import Any, Final

__all__ = ["ErrorStream"]

logger = logging.getLogger("aiowsgi.errors")

STREAM: Final = "wsgi.errors"
"""The attribute ``stream`` of the records, by which a formatter can tell them from the server's."""

_partial: ContextVar[str] = ContextVar("aiowsgi.errors.partial", default="")
_writing: ContextVar[bool] = ContextVar("aiowsgi.errors.writing", default=False)


class ErrorStream(TextIOBase):
    """A stream that logs whole lines; a text written in one call, such as a traceback, is one
    record.

    One stream serves the whole process. The server flushes it after each request, so that an
    incomplete line is not continued by the next request.
    """

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str, /) -> int:
        """Log the complete lines; raises TypeError for anything but str."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes str, not {type(text).__name__}")
        waiting = _partial.get()
        lines, end, partial = (waiting + text).rpartition("\n")
        if partial != waiting:
            _partial.set(partial)
        if end:
            self._log(lines)
        return len(text)

    def writelines(self, lines: Iterable[Any], /) -> None:
        """Write all lines in one call."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Log the incomplete line, if there is one."""
        if partial := _partial.get():
            _partial.set("")
            self._log(partial)

    def close(self) -> None:
        """Flush; the stream belongs to the server and stays open (PEP 3333)."""
        self.flush()

    def _log(self, text: str) -> None:
        if not text.strip():
            return
        if _writing.get():
            # A handler of the application writes the server's records to wsgi.errors.
            sys.stderr.write(text + "\n")
            return
        token = _writing.set(True)
        try:
            logger.error("%s", text, extra={"stream": STREAM})
        finally:
            _writing.reset(token)
