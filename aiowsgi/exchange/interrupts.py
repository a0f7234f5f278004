"""Raises `RequestTimedOut` in a worker thread, only while that runs the application's own code.

An asynchronous exception (``PyThreadState_SetAsyncExc``) is raised between any two bytecode
instructions. In the server's code it could leave a lock taken for ever, or end a worker thread. So
with ``--interrupt-detached`` each request has an `InterruptibleSection`, which says at every moment
whether the worker thread is in the application's code: when the application is called, while its
iterable is asked for a block, and in ``close()``; but not while the application has called back
into the server, by ``write()``, ``wsgi.input``, ``wsgi.errors``, ``wsgi.early_hints`` or
``aiowsgi.disconnected``.

Guarantees:

1. The exception is raised at most once in a request, and never in the server's code, except in the
   methods of this class that leave the application's code. They hold no lock, and what they raise
   is handled like an exception of the application's.
2. If the thread is in the server's code when it is to be interrupted, the exception is raised when
   it goes back to the application's code, except for ``close()``, which must be called.

How: a token, an entry of a list, is there while the thread may be interrupted. The thread adds it
on entering the application's code and takes it on leaving; the event loop takes it before it sets
the exception. Taking it is one atomic operation, so exactly one of them succeeds. If the event loop
was first, the thread waits, in the leaving method, until the exception is set, so that it is raised
there at the latest; if the application has already had it, there is nothing left to wait for.

The section does nothing in other threads: an application may call ``write()`` from any thread.

This module must not be compiled by mypyc: the interpreter raises the exception, compiled code does
not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from io import TextIOBase
from threading import get_ident
from time import sleep
from typing import Any, Final, TextIO, final

from aiowsgi.exceptions import RequestTimedOut
from aiowsgi.wsgi.file_wrapper import FileWrapper
from aiowsgi.wsgi.handler import Environ, StartResponse, Write, WSGIApplication

__all__ = ["InterruptibleSection", "interrupt", "make_interruptible", "outside_application"]

SET_EXCEPTION_WAIT: Final = 0.0001
"""Seconds between two looks at whether the event loop has set the exception: it does so in the next
statement, so that one look is nearly always enough."""

CALLS_THAT_RAISE: Final = 3
"""The interpreter raises a pending asynchronous exception after a call. One should be enough."""

_sections: Final[dict[int, InterruptibleSection]] = {}
"""The sections of the requests that run, by thread identity. Only with --interrupt-detached."""

_NO_SECTION: Final[AbstractContextManager[None]] = nullcontext()


@final
class InterruptibleSection:
    """Whether the thread that makes it may be interrupted; see the module's docstring.

    Used as a context manager, it marks the server's code inside the application's.
    """

    __slots__ = ("_asked", "_depth", "_given", "_ident", "_raised", "_set", "_token")

    def __init__(self) -> None:
        self._ident = get_ident()
        # How many calls of the server's code the thread is in: 0 in the application's code.
        self._depth = 1
        # Holds one entry while the thread may be interrupted; and whether the thread has added it
        # and not yet taken it, or found that the event loop has. Of the latter, the thread's only.
        self._token: list[None] = []
        self._given = False
        # The thread is to be interrupted. Set once, by the event loop.
        self._asked = False
        # The exception has been raised, or is set. Set by the thread that does either.
        self._raised = False
        # The event loop has set the exception.
        self._set = False

    # The worker thread

    def enter_application(self, *, raising: bool = True) -> None:
        """Enter the application's code, or return to it.

        Raises `RequestTimedOut` if the thread was to be interrupted while it was in the server's
        code; not without ``raising``.
        """
        self._depth -= 1
        if self._depth:
            return
        if not self._is_asked():
            self._given = True
            self._token.append(None)
            # Again: the event loop asks before it takes the token.
            if not self._is_asked() or not self._take_token():
                return
            self._given = False
        if raising and not self._raised:
            self._raised = True
            raise RequestTimedOut

    def leave_application(self) -> None:
        """Enter the server's code, or return to it; may raise `RequestTimedOut`."""
        if self._given and not self._depth:
            if not self._take_token():
                while not self._set:
                    sleep(SET_EXCEPTION_WAIT)
                # The exception is raised at one of these calls, if it was not raised before.
                # (Clearing it would be wrong: CPython 3.11 would look for one for ever.)
                for _ in range(CALLS_THAT_RAISE):
                    sleep(0)
            self._given = False
        self._depth += 1

    def _is_asked(self) -> bool:
        return self._asked

    def _take_token(self) -> bool:
        try:
            self._token.pop()
        except IndexError:
            return False
        return True

    def __enter__(self) -> None:
        self.leave_application()

    def __exit__(self, *exc_info: object) -> None:
        self.enter_application()

    # The event loop

    def interrupt(self) -> None:
        """Have `RequestTimedOut` raised in the application's code, now or when it goes on."""
        self._asked = True
        if self._take_token():
            self._raised = True
            _set_exception(self._ident)
            self._set = True


def _set_exception(ident: int) -> None:
    """Have `RequestTimedOut` raised in a thread, between two instructions."""
    import ctypes  # not at start: few servers ever need it

    exception = ctypes.py_object(RequestTimedOut)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), exception)


def interrupt(ident: int) -> bool:
    """Have `RequestTimedOut` raised in the application's code that a thread runs.

    Returns False if that thread runs no request that can be interrupted.
    """
    section = _sections.get(ident)
    if section is None:
        return False
    section.interrupt()
    return True


def outside_application() -> AbstractContextManager[None]:
    """A context manager for the server's code in functions that the application calls."""
    section = _sections.get(get_ident()) if _sections else None
    return _NO_SECTION if section is None else section


# Making a request interruptible


def make_interruptible(app: WSGIApplication) -> WSGIApplication:
    """An application that does as ``app`` and can be interrupted; for one request.

    The thread that calls it must call `forget` at the end of the request.
    """

    def interruptible(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        section = _sections[get_ident()] = InterruptibleSection()
        environ["wsgi.errors"] = _Errors(environ["wsgi.errors"])

        def start(status: str, headers: Any, exc_info: Any = None, /) -> Write:
            return _outside(start_response(status, headers, exc_info))

        iterable = _call(section, app, environ, start)
        # The blocks of a list are there already; a file is read by the kernel, or by the server.
        if isinstance(iterable, list | tuple | FileWrapper) or not isinstance(iterable, Iterable):
            return iterable
        return _Blocks(section, iterable)

    return interruptible


def forget() -> None:
    """End the section of this thread's request."""
    _sections.pop(get_ident(), None)


def _call(section: InterruptibleSection, function: Callable[..., Any], /, *args: object) -> Any:
    """Call a function of the application's."""
    section.enter_application()
    try:
        return function(*args)
    finally:
        section.leave_application()


def _outside(write: Write) -> Write:
    def write_outside(block: bytes) -> None:
        with outside_application():
            write(block)

    return write_outside


@final
class _Blocks:
    """The application's iterable, whose methods run in the section."""

    def __init__(self, section: InterruptibleSection, iterable: Iterable[bytes]) -> None:
        self._section = section
        self._iterable = iterable
        self._iterator: Iterator[bytes]

    def __iter__(self) -> _Blocks:
        self._iterator = _call(self._section, iter, self._iterable)
        return self

    def __next__(self) -> bytes:
        block: bytes = _call(self._section, next, self._iterator)
        return block

    def close(self) -> None:
        close = getattr(self._iterable, "close", None)
        if close is None:
            return
        self._section.enter_application(raising=False)
        try:
            close()
        finally:
            self._section.leave_application()


@final
class _Errors(TextIOBase):
    """``wsgi.errors``, whose methods are the server's code: logging takes locks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        with outside_application():
            return self._stream.write(text)

    def writelines(self, lines: Iterable[Any], /) -> None:
        # Joined in the application's code: the lines may be made by it.
        self.write("".join(lines))

    def flush(self) -> None:
        with outside_application():
            self._stream.flush()

    def close(self) -> None:
        """Flush; the stream is the server's and stays open (PEP 3333)."""
        self.flush()
