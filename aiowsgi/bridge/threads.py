"""Looking at the worker threads from outside: their names and their Python stacks.

``sys._current_frames`` is documented by CPython for just this, in spite of its name. With the
interpreter lock, no thread moves while its frames are read. Without it, CPython stops the other
threads while it collects the frames, and lets them go before anybody reads these: the stack of a
thread that runs may then show a line that it has left, or frames that were joined while they
changed. A thread that hangs, for which one looks, does not change.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable

__all__ = ["stacks", "thread_names"]


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
