"""Processes that are forked, and what they begin with."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import PATIENCE

from aiowsgi.supervisor.children import HARMLESS, Children, Origin, die_with_parent, fork

pytestmark = pytest.mark.slow("processes")

ORIGIN = Origin.now()


@pytest.fixture(autouse=True)
def forking_is_meant(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    """From Python 3.12 on a fork beside threads is warned of: pytest's own may be there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
    # What the parent had at the moment of the fork is the collector's business again.
    gc.unfreeze()


def told_by(run: Callable[[], str], origin: Origin = ORIGIN, **options: bool) -> str:
    """What ``run`` returns in a forked process."""

    def child(sock: socket.socket) -> int:
        sock.sendall(run().encode())
        return 0

    pid, sock = fork(child, origin, **options)
    with sock, sock.makefile() as file:
        sock.settimeout(PATIENCE)
        text = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


def test_signals() -> None:
    """A child has no wake-up descriptor, ignores what is the supervisor's, and ends by TERM."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    before = signal.set_wakeup_fd(theirs.fileno())
    old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        text = told_by(
            lambda: repr(
                (
                    signal.set_wakeup_fd(-1),
                    [os.kill(os.getpid(), number) for number in HARMLESS],
                    signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
                    signal.pthread_sigmask(signal.SIG_BLOCK, ()),
                )
            )
        )
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGTERM, old)
    assert text == repr((-1, [None] * len(HARMLESS), True, set()))
    ours.settimeout(0)
    with ours, theirs, pytest.raises(BlockingIOError):
        ours.recv(1)


def test_an_ignored_signal_stays_ignored() -> None:
    """What nohup(1) has had ignored is ignored in programs that a child executes, too."""
    origin = ORIGIN._replace(ignored=frozenset({signal.SIGHUP}))

    def run() -> str:
        command = ["sh", "-c", "kill -HUP $$; echo survived"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    assert told_by(run, origin) == "survived\n"
    assert told_by(run) == ""


def test_descriptors() -> None:
    """A child keeps the standard descriptors; the parent's others are /dev/null to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        assert told_by(lambda: os.readlink(f"/proc/self/fd/{number}")) == "/dev/null"
        assert told_by(lambda: os.readlink("/proc/self/fd/2")) == os.readlink("/proc/self/fd/2")


def test_standard_input() -> None:
    """Only a child that is to have standard input has it."""
    link = "/proc/self/fd/0"
    assert told_by(lambda: os.readlink(link)) == "/dev/null"
    assert told_by(lambda: os.readlink(link), standard_input=True) == os.readlink(link)


def test_working_directory(tmp_path: Path) -> None:
    """A child begins where the supervisor did; a link on the way is followed again."""
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    link = tmp_path / "current"
    link.symlink_to("1")
    origin = ORIGIN._replace(directory=str(link))
    assert told_by(os.getcwd, origin) == str(tmp_path / "1")
    link.unlink()
    link.symlink_to("2")
    assert told_by(os.getcwd, origin) == str(tmp_path / "2")
    link.unlink()
    assert told_by(os.getcwd, origin) == os.getcwd()


def test_the_name_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's name of it counts, if it is one."""
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "link")
    monkeypatch.setenv("PWD", str(tmp_path / "link"))
    assert Origin.now().directory == str(tmp_path / "link")
    monkeypatch.setenv("PWD", str(tmp_path))
    assert Origin.now().directory == str(tmp_path / "here")


def test_an_exception(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that fails says why, exits with status 1, and never returns to the parent's code."""
    # Pytest's own stream has another descriptor, which the child loses.
    monkeypatch.setattr(sys, "stderr", open(2, "w", closefd=False))  # noqa: SIM115
    pid, sock = fork(lambda _: 1 // 0, ORIGIN)
    sock.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_no_process_left() -> None:
    """A fork that fails is an OSError, and leaves nothing open."""
    script = """
import os, resource, sys
from aiowsgi.supervisor.children import Origin, fork
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
before = os.listdir("/proc/self/fd")
try:
    fork(print, Origin.now())
except OSError:
    sys.exit(os.listdir("/proc/self/fd") != before)
sys.exit(2)
"""
    if os.geteuid() != 0:
        pytest.skip("the limit is for users that are not root, and one is needed who has none")
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# Waiting for children


async def test_ends_are_told() -> None:
    """A child's exit status or signal reaches its callback."""
    children = Children(ORIGIN)
    statuses: asyncio.Queue[int] = asyncio.Queue()
    _, first = children.fork(lambda _: 7, statuses.put_nowait)
    assert await statuses.get() == 7
    pid, second = children.fork(lambda sock: len(sock.recv(1)), statuses.put_nowait)
    os.kill(pid, signal.SIGKILL)
    assert await statuses.get() == -signal.SIGKILL
    for sock in (first, second):
        sock.close()
    children.close()


async def test_other_children_are_left_alone() -> None:
    """Only known children are waited for."""
    children = Children(ORIGIN)
    statuses: asyncio.Queue[int] = asyncio.Queue()
    other = subprocess.Popen(["sh", "-c", "exit 3"])  # noqa: ASYNC220 - it ends at once
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
    _, sock = children.fork(lambda _: 0, statuses.put_nowait)
    assert await statuses.get() == 0
    assert other.poll() == 3
    sock.close()
    children.close()


async def test_a_status_that_something_else_took() -> None:
    """A child that something else has waited for has ended all the same."""
    children = Children(ORIGIN)
    statuses: asyncio.Queue[int] = asyncio.Queue()
    pid, sock = children.fork(lambda _: 0, statuses.put_nowait)
    os.waitpid(pid, 0)  # noqa: ASYNC222 - it ends at once
    assert await statuses.get() == 255
    sock.close()
    children.close()


# Dying with the parent


def test_die_with_parent() -> None:
    """A process in C code ends when the other end is closed; one that was let go does not."""
    tells, told = socket.socketpair()

    def until_cancelled(sock: socket.socket) -> int:
        die_with_parent(sock, until_cancelled=True)
        tells.sendall(b".")
        signal.pause()
        return 0

    def cancelled(sock: socket.socket) -> int:
        die_with_parent(sock, until_cancelled=True)
        die_with_parent(sock, until_cancelled=False)
        tells.sendall(b".")
        return len(sock.recv(1)) + 5

    with tells, told:
        for run, status in ((until_cancelled, -signal.SIGIO), (cancelled, 5)):
            pid, sock = _fork_with(run, tells)
            assert told.recv(1) == b"."
            sock.close()
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status


def test_the_parent_has_died_before() -> None:
    """A process whose other end is closed already ends at once."""
    gate, opened = socket.socketpair()

    def run(sock: socket.socket) -> int:
        gate.recv(1)
        die_with_parent(sock, until_cancelled=True)
        return 0

    with gate, opened:
        pid, sock = _fork_with(run, gate)
        sock.close()
        opened.sendall(b".")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in {1, -signal.SIGIO}


def _fork_with(
    run: Callable[[socket.socket], int], kept: socket.socket
) -> tuple[int, socket.socket]:
    return fork(run, ORIGIN, [kept.fileno()])


def test_limits() -> None:
    """A child has the parent's limits."""
    assert told_by(lambda: repr(resource.getrlimit(resource.RLIMIT_NOFILE))) == repr(
        resource.getrlimit(resource.RLIMIT_NOFILE)
    )


def test_garbage_is_not_frozen() -> None:
    """What has become garbage between two forks is collected before the second."""
    told_by(str)
    known = weakref.finalize(Holder([]), print)
    gc.freeze()
    assert known.alive
    told_by(str)
    assert not known.alive


class Holder:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self, cycle: list[object]) -> None:
        cycle.append(self)
        self.cycle = cycle
