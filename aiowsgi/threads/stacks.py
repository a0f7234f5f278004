"""The Python stacks of running threads.

``sys._current_frames`` is documented by CPython for this purpose, in spite of its name. On a
free-threaded build the frames of a running thread change while they are read. CPython stops the
other threads for the snapshot (from 3.13 on), so the stack is consistent at that moment, but the
line numbers may be a few lines off.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable

from aiowsgi.wsgi.handler import run_application

__all__ = ["stack_of", "stacks", "thread_names"]


def stack_of(ident: int) -> str:
    """The Python stack of a thread, outermost call first; empty if there is no such thread.

    The server's own frames above the application are left out.
    """
    import traceback  # not at start: it is needed only if something has gone wrong

    frame = sys._current_frames().get(ident)  # noqa: SLF001 (documented)
    if frame is None:
        return ""
    stack = traceback.extract_stack(frame)
    names = [call.name for call in stack]
    # This function calls the application.
    own = names.index(run_application.__name__) + 1 if run_application.__name__ in names else 0
    return "".join(traceback.format_list(stack[own:] or stack))


def thread_names() -> dict[int, str]:
    """The names of all living threads, by identity."""
    return {thread.ident: thread.name for thread in threading.enumerate() if thread.ident}


def stacks(idents: Iterable[int]) -> dict[int, str]:
    """The Python stacks of threads, by identity; without those that have ended."""
    import traceback  # not at start: it is needed only when an operator asks

    frames = sys._current_frames()  # noqa: SLF001 (documented)
    return {
        ident: "".join(traceback.format_stack(frames[ident])) for ident in idents if ident in frames
    }
