"""``environ["wsgi.errors"]`` (PEP 3333): a text stream that ends in a logger.

Output becomes records of level ERROR, which is what the stream is for, one for each write. No
handler is known here; `logging` and its set-up (``logs/setup.py``) decide where records go. The
part of a line that waits for its end is kept for each context, hence for each thread, without any
lock.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from io import TextIOBase
from typing import Any

__all__ = ["ErrorStream"]

logger = logging.getLogger("aiowsgi.errors")

_partial: ContextVar[str] = ContextVar("aiowsgi.errors.partial", default="")
_writing: ContextVar[bool] = ContextVar("aiowsgi.errors.writing", default=False)


class ErrorStream(TextIOBase):
    """Logs whole lines; what is written in one piece, such as a traceback, is one record.

    One stream serves a whole process. Whoever calls the application flushes it afterwards, lest an
    unfinished line is taken for the beginning of the next request's.
    """

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str, /) -> int:
        """Log what is complete; raises TypeError for anything but str."""
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
        """Write all lines as one piece."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Log a line that still waits for its end."""
        if partial := _partial.get():
            _partial.set("")
            self._log(partial)

    def close(self) -> None:
        """Flush; the stream is the server's and stays open (PEP 3333)."""
        self.flush()

    def _log(self, text: str) -> None:
        if not text.strip():
            return
        if _writing.get():
            # A handler of the application's writes what we log to wsgi.errors again.
            sys.stderr.write(text + "\n")
            return
        token = _writing.set(True)
        try:
            logger.error("%s", text)
        finally:
            _writing.reset(token)
