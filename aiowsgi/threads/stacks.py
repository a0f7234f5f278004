"""Looking into a thread that hangs, and raising an exception in it.

``sys._current_frames`` is documented by CPython for just this, in spite of its name. On a
free-threaded build the frames of a running thread change while they are read; CPython 3.13 stops
the other threads for the snapshot, so that the stack is consistent at that moment, and the line
numbers may be a little off afterwards.

`interrupt` uses ``PyThreadState_SetAsyncExc``. Its limits: the exception is raised between two
bytecode instructions, so that a thread that waits in C (a socket, a lock, a query) sees it only
when that returns; it may strike anywhere, in a ``finally`` too, and leave the application's data
half changed. That is why it is off unless ``--interrupt-detached`` is given.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable

from aiowsgi.exceptions import RequestTimedOut
from aiowsgi.wsgi.handler import run_application

__all__ = ["interrupt", "stack_of"]


def stack_of(ident: int) -> str:
    """The Python stack of a thread, outermost call first; empty where there is no such thread.

    What the server itself has on the stack above the application is left out.
    """
    import traceback  # not at start: it is wanted when something has gone wrong

    frame = sys._current_frames().get(ident)  # noqa: SLF001 (documented)
    if frame is None:
        return ""
    stack = traceback.extract_stack(frame)
    names = [call.name for call in stack]
    # Below this function it is the application's code.
    own = names.index(run_application.__name__) + 1 if run_application.__name__ in names else 0
    return "".join(traceback.format_list(stack[own:] or stack))


def interrupt(ident: int) -> bool:
    """Have `RequestTimedOut` raised in a thread; False where there is no such thread."""
    import ctypes  # not at start: few servers ever need it

    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    return bool(set_exception(ctypes.c_ulong(ident), ctypes.py_object(RequestTimedOut)))


def thread_names() -> dict[int, str]:
    """The names of all threads that live, by their identities."""
    return {thread.ident: thread.name for thread in threading.enumerate() if thread.ident}


def stacks(idents: Iterable[int]) -> dict[int, str]:
    """The Python stacks of threads, outermost call first; without those that have ended."""
    import traceback  # not at start: it is wanted when somebody looks

    frames = sys._current_frames()  # noqa: SLF001 - see above
    return {
        ident: "".join(traceback.format_stack(frames[ident])) for ident in idents if ident in frames
    }
