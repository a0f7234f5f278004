"""The end of a process whose application may have left threads and exit functions behind.

An interpreter that exits waits for all threads that are no daemons, without a limit, and then runs
the functions registered with ``atexit``, however long they take. `finish_threads` does the same for
a limited time, after which it ends the process with the status that was decided before.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from contextlib import suppress
from math import inf
from time import monotonic, sleep
from typing import Final

__all__ = ["finish_threads"]

logger = logging.getLogger("aiowsgi")

LEAST: Final = 0.5
"""Seconds that the functions registered with ``atexit`` have even if requests took all the time.
A guess."""


def finish_threads(deadline: float, status: int) -> None:
    """Wait for the threads that are no daemons, and run the functions registered with ``atexit``.

    At ``deadline`` (monotonic seconds; infinite for no limit), but not before `LEAST` seconds have
    passed, the process ends with ``status``, whatever still runs. Threads that are waited for are
    named in the log. To be called from the main thread, when nothing else is to be done in this
    process.
    """
    left = [thread.name for thread in threading.enumerate() if _is_waited_for(thread)]
    if deadline < inf:
        watch = threading.Thread(target=_end_at, args=(deadline, status), daemon=True)
        try:
            watch.start()
        except RuntimeError:
            # The system has no thread left: there would be no limit.
            return
    if left:
        logger.warning("waiting for threads of the application: %s", ", ".join(sorted(left)))
    # As ``multiprocessing`` does in a forked child: Python has no other names for these two.
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _is_waited_for(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()


def _end_at(deadline: float, status: int) -> None:
    sleep(max(LEAST, deadline - monotonic()))
    os._exit(status)
