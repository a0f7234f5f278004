"""Child processes of the supervisor: forked, waited for, and given a clean state to begin from.

Workers are forked, not executed. Measured with one worker (Python 3.11, 15 alternating starts,
medians, on a busy machine, so that only the ratios count): from the start to the first answer a
forked worker takes 0.81 of the time of an executed one, and supervisor and worker together have
22.4 MB of proportional memory instead of 30.2. The supervisor has imported the server's modules
before it forks, so parent and child share those pages, and ``gc.freeze()`` keeps the collector from
writing to them.

Forking is safe here because of what the supervisor does not do: it runs no thread (`Children.fork`
checks that), imports no application, and runs asyncio's own event loop, not uvloop. The price: a
reload brings the application's new code, but a new release of this package or of the Python
standard library takes a restart, as it does with gunicorn.

A child begins from what the supervisor was started with (`Origin`): the working directory, the
environment, the limits, and the signal dispositions. All signals are blocked from before the fork
until the child has replaced the supervisor's handlers, so no signal that is meant for the child can
reach the supervisor's loop. All descriptors but the standard ones and those that are passed on
explicitly become ``/dev/null``. They keep their numbers, so that an object of the supervisor's
that is still alive in the child can close its own number and not a descriptor of the application.

Only known children are waited for, so an embedding program keeps the exit statuses of its own. As
process 1 of a container the supervisor also reaps the orphans that the kernel gives it. SIGCHLD is
the only notice that is needed; neither pidfd_open(2) nor a thread is used.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple, NoReturn

__all__ = [
    "HARMLESS",
    "SIGNALS",
    "Children",
    "Origin",
    "die_with_parent",
    "fill_standard_descriptors",
    "fork",
    "has_terminal",
]

NULL: Final = "/dev/null"

HARMLESS: Final = (
    *(signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGTTIN, signal.SIGTTOU),
)
"""Signals that a child leaves to the supervisor. A terminal sends INT and HUP to all processes, and
an operator may send the others to all processes of that name."""

DEFAULT: Final = (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD)
"""Signals that have their default action in a child: they end it, or, for SIGCHLD, let the
application wait for programs that it runs, even if the supervisor's parent ignored SIGCHLD."""


SIGNALS: Final = (*HARMLESS, signal.SIGTERM, signal.SIGQUIT)
"""Signals that the supervisor handles."""

UNKNOWN: Final = 0xFF00
"""Exit status 255, as waitpid(2) encodes it: for a child that something else has waited for."""


class Origin(NamedTuple):
    """What this process was started with, as far as it changes that for itself."""

    directory: str
    """The working directory, by the name that the shell gave it (``$PWD``), so that a symbolic link
    that a deployment changes is followed again by each new worker."""
    ignored: frozenset[int]
    """Signals of `HARMLESS` that were ignored, as by nohup(1)."""
    terminal: bool
    """It was started at a terminal."""

    @classmethod
    def now(cls) -> Origin:
        """The state of this process at this moment."""
        ignored = {number for number in HARMLESS if signal.getsignal(number) is signal.SIG_IGN}
        return cls(_working_directory(), frozenset(ignored), has_terminal())


def _working_directory() -> str:
    actual, named = os.getcwd(), os.environ.get("PWD", "")
    with suppress(OSError):
        if os.path.isabs(named) and os.path.samefile(named, actual):
            return named
    return actual


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def fill_standard_descriptors() -> None:
    """Open /dev/null as each standard descriptor that is closed.

    Otherwise the next socket would become descriptor 2, and what the application prints there
    would be sent to a client.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # open(2) returns the lowest number that is free: this one.
            os.open(NULL, os.O_RDWR)
            os.set_inheritable(number, True)  # noqa: FBT003 - its own order
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = open(number, mode, closefd=False, errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


# Forking


def fork(
    run: Callable[[socket.socket], int],
    origin: Origin,
    inherited: Iterable[int] = (),
    *,
    standard_input: bool = False,
) -> tuple[int, socket.socket]:
    """Fork a child that calls ``run`` with its end of a socket pair, and exits with the result.

    ``inherited`` are the descriptors that the child keeps. With ``standard_input`` it keeps that
    too; otherwise it reads /dev/null. Returns the child's process id and our end. Raises OSError.
    """
    ours, theirs = socket.socketpair()
    try:
        _freeze()
        for stream in (sys.stdout, sys.stderr):
            # The child would write what is buffered a second time.
            stream.flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _become_child(run, theirs, origin, inherited, standard_input=standard_input)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return pid, ours


def _freeze() -> None:
    """Have the collector leave alone what there is now, so that it stays shared with children."""
    if gc.get_freeze_count():
        # Not the first fork, which is to be quick. What has become garbage since would stay.
        gc.unfreeze()
        gc.collect()
    gc.freeze()


def _become_child(
    run: Callable[[socket.socket], int],
    sock: socket.socket,
    origin: Origin,
    inherited: Iterable[int],
    *,
    standard_input: bool,
) -> NoReturn:
    """Never returns, so that the supervisor's frames below are left as they are."""
    status = 1
    try:
        _restore_signals(origin)
        _drop_descriptors({0, 1, 2, sock.fileno(), *inherited})
        if not standard_input:
            _put_null_at(0)
        with suppress(OSError):
            # The directory may be gone; then the one that was inherited has to do.
            os.chdir(origin.directory)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        status = run(sock)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(status)


def _restore_signals(origin: Origin) -> None:
    # The supervisor's loop must not learn of a signal that its child gets.
    signal.set_wakeup_fd(-1)
    for number in HARMLESS:
        # A handler that does nothing, not SIG_IGN: programs that the application executes begin
        # with the default action.
        ignored = number in origin.ignored
        signal.signal(number, signal.SIG_IGN if ignored else _do_nothing)
    for number in DEFAULT:
        signal.signal(number, signal.SIG_DFL)


def _do_nothing(*_: object) -> None:
    pass


def _drop_descriptors(kept: set[int]) -> None:
    null = os.open(NULL, os.O_RDWR)
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        with suppress(OSError):
            # The descriptor by which the directory was read is closed by now.
            os.fstat(descriptor)
            if descriptor not in kept and descriptor != null:
                os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def _put_null_at(descriptor: int) -> None:
    null = os.open(NULL, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)


def die_with_parent(sock: socket.socket, *, until_cancelled: bool) -> None:
    """Have the kernel end this process when the other end of ``sock`` is closed, or no longer.

    It is for the time in which nothing reads ``sock``, above all while the application is imported.
    The kernel sends SIGIO, whose default action ends the process, also while C code runs. The
    parent must send nothing meanwhile. On macOS the default action is to ignore SIGIO.
    """
    # Imported here: the supervisor itself has no use for it.
    import fcntl

    descriptor = sock.fileno()
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_ASYNC
    if until_cancelled:
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        flags |= os.O_ASYNC
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    if until_cancelled and _is_closed(sock):
        # The other end was closed before the kernel was asked.
        os._exit(1)


def _is_closed(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


# Waiting


class Children:
    """Forks children on the running event loop, and calls back when they have ended."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        # What to call with the exit status of each child, by process id.
        self._ended: dict[int, Callable[[int], object]] = {}
        self._loop = asyncio.get_running_loop()
        # In this order: from now on SIGCHLD has a handler, even if the parent ignored it, and so
        # the kernel keeps what it knows of a child until it was asked.
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def close(self) -> None:
        """Wait for no more children. Idempotent."""
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def fork(
        self,
        run: Callable[[socket.socket], int],
        ended: Callable[[int], object],
        inherited: Iterable[int] = (),
        **options: Any,
    ) -> tuple[int, socket.socket]:
        """See `fork`. ``ended`` gets the exit status, or minus the signal that ended the child."""
        pid, sock = fork(run, self._origin, inherited, **options)
        self._ended[pid] = ended
        return pid, sock

    def _reap(self) -> None:
        if os.getpid() == 1:
            # Among them are orphans, which the kernel gives to process 1.
            while self._wait_for(-1):
                pass
        else:
            for pid in tuple(self._ended):
                self._wait_for(pid)

    def _wait_for(self, pid: int) -> bool:
        """Note the end of child ``pid``, or of any child if it is -1; whether there was one."""
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            # Something else in this process has waited for it, so its status is unknown.
            found, status = max(0, pid), UNKNOWN
        ended = self._ended.pop(found, None)
        if ended is not None:
            ended(os.waitstatus_to_exitcode(status))
        return found > 0
