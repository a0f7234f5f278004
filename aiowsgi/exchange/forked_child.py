"""The end of a process that the application has forked and that comes back to the server's code.

``os.fork()`` in the application makes a second process in the middle of a request. The server's own
process answers the request; the child, when the application returns or raises in it, has nothing
more to do.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

__all__ = ["leave_child"]


def leave_child(error: BaseException | None = None) -> NoReturn:
    """End this process, with the status that Python gives to ``error``: 0 without one.

    A SystemExit has its own status. Any other exception is shown on standard error, and is 1.
    """
    status = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        status = error.code or 0
    elif error is not None:
        status = 1
        if isinstance(error, SystemExit):
            print(error.code, file=sys.stderr)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status & 0xFF)
