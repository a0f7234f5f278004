"""The Python stacks of running threads, and the lines of code that they are at.

``sys._current_frames`` is documented by CPython for this purpose, in spite of its name. On a
free-threaded build the frames of a running thread change while they are read. CPython stops the
other threads for the snapshot (from 3.13 on), so the stack is consistent at that moment, but the
line numbers may be a few lines off.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.exchange import interrupts
from aiowsgi.wsgi.handler import run_application

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["CodeLine", "ThreadStack", "code_lines", "stack_of", "stacks", "thread_names"]


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
    # This function calls the application, in some requests through `make_interruptible`.
    own = names.index(run_application.__name__) + 1 if run_application.__name__ in names else 0
    while own and own < len(stack) and stack[own].filename == interrupts.__file__:
        own += 1
    return "".join(traceback.format_list(stack[own:] or stack))


def thread_names() -> dict[int, str]:
    """The names of all living threads, by identity."""
    return {thread.ident: thread.name for thread in threading.enumerate() if thread.ident}


class CodeLine(NamedTuple):
    """A line of code that a thread is at."""

    file: str
    """Path relative to the entry of ``sys.path`` that it was imported from."""
    number: int
    function: str
    source: str = ""
    """The line's text, without indentation; empty if it is not known."""

    def __str__(self) -> str:
        return f"{self.file}:{self.number} {self.function}"


class ThreadStack(NamedTuple):
    """The Python stack of a thread, as the text of a traceback; outermost call first."""

    text: str
    own: str
    """Of it the calls of the application's own code; empty if there is none."""
    where: str
    """The innermost of these calls, as ``shop.py:14 report``, or else the innermost call."""
    source: str
    """The text of that line."""


def stacks(idents: Iterable[int]) -> dict[int, ThreadStack]:
    """The stacks of threads; those that have ended are left out."""
    import traceback  # not at start: it is needed when an operator asks

    found = {}
    frames = sys._current_frames()  # noqa: SLF001 (documented)
    for ident in idents:
        if ident not in frames:
            continue
        stack = traceback.extract_stack(frames[ident])
        own = [call for call in stack if is_own_code(call.filename)]
        text, own_text = ("".join(traceback.format_list(calls)) for calls in (stack, own))
        inner = (own or stack)[-1]
        place = CodeLine(short_path(inner.filename), inner.lineno or 0, inner.name)
        found[ident] = ThreadStack(text, own_text, str(place), inner.line or "")
    return found


def code_lines(idents: Iterable[int], *, source: bool = False) -> dict[int, CodeLine]:
    """The innermost line of the application's own code in each thread's stack.

    If a stack has none, it is the innermost line. ``source`` reads the lines' texts from the files.
    """
    frames = sys._current_frames()  # noqa: SLF001 (documented)
    return {ident: _code_line(frames[ident], source=source) for ident in idents if ident in frames}


def _code_line(innermost: FrameType, *, source: bool) -> CodeLine:
    frame: FrameType | None = innermost
    while frame is not None and not is_own_code(frame.f_code.co_filename):
        frame = frame.f_back
    frame = frame or innermost
    code, number = frame.f_code, frame.f_lineno
    text = linecache.getline(code.co_filename, number).strip() if source else ""
    return CodeLine(short_path(code.co_filename), number, code.co_name, text)


@cache
def is_own_code(filename: str) -> bool:
    """Whether a file is the application's: not of Python, of an installed package or of ours."""
    if filename.startswith("<") or "site-packages" in filename or "dist-packages" in filename:
        return False
    return not filename.startswith(_FOREIGN)


_FOREIGN: Final = tuple(
    f"{folder}{os.sep}"
    for folder in {
        os.path.dirname(os.path.dirname(__file__)),
        os.path.dirname(os.__file__),
        os.path.realpath(os.path.dirname(os.__file__)),
    }
)
"""Folders of the server and of Python's library."""


@cache
def short_path(filename: str) -> str:
    """``filename`` relative to the longest entry of ``sys.path`` that contains it."""
    folders = [folder.rstrip(os.sep) + os.sep for folder in sys.path if folder]
    inside = [folder for folder in folders if filename.startswith(folder)]
    return filename[len(max(inside, key=len)) :] if inside else filename
