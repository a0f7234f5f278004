"""Signals at any moment, and what an application does to its process."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from processes import LISTENING, ROOT, Program, running
from sample_apps import (
    PID_APP,
    READY,
    ask,
    gate,
    pid_of,
    starting,
    wait_for_end,
    workers,
    write_app,
)
from support import LOOPS, PATIENCE, UNIT, eventually

pytestmark = pytest.mark.slow("processes")

WAITING_TO_IMPORT = "open({gate!r}).read()\n" + PID_APP
"""The import waits until the FIFO is opened for writing."""


def write_waiting_app(directory: Path, fifo: Path, version: str = "") -> None:
    """An application whose import waits at ``fifo``."""
    write_app(directory, WAITING_TO_IMPORT.replace("{gate!r}", repr(str(fifo))), version)


@contextmanager
def importing(fifo: Path) -> Iterator[None]:
    """Go on when an import waits at ``fifo``, and let it go with the block."""
    with fifo.open("w"):
        yield


# Signals


UNTIL_IT_EXISTS = """
import os, time
while not os.path.exists({path!r}):
    time.sleep(0.01)
"""
"""An import that waits for a file, in any number of processes."""


@pytest.mark.parametrize("count", ["1", "3"])
@pytest.mark.parametrize("number", ["USR1", "USR2", "HUP", "TTIN", "TTOU"])
def test_signals_during_import(tmp_path: Path, count: str, number: str) -> None:
    """A signal that is not about the end starts no end, whether to supervisor or worker."""
    go_on = tmp_path / "go on"
    write_app(tmp_path, UNTIL_IT_EXISTS.format(path=str(go_on)) + PID_APP)
    with starting(tmp_path, "-w", count) as program:
        worker = int(program.expect(r"worker (\d+) is starting")[1])
        for pid in (program.process.pid, worker):
            os.kill(pid, signal.Signals[f"SIG{number}"])
        go_on.touch()
        address = ("127.0.0.1", int(program.expect(LISTENING)[1].rpartition(":")[2]))
        assert ask(address)[0] == 200
        assert program.stop() == 0


def test_hup_during_import(tmp_path: Path) -> None:
    """The files of the last HUP are served in the end, though the import had begun before it."""
    with gate(tmp_path) as fifo:
        write_waiting_app(tmp_path, fifo, version="old")
        with starting(tmp_path, ANSWER="v") as program:
            program.expect("is starting")
            with importing(fifo):
                write_app(tmp_path, version="new")
                program.process.send_signal(signal.SIGHUP)
                program.expect("HUP while starting")
            address = ("127.0.0.1", int(program.expect(LISTENING)[1].rpartition(":")[2]))
            program.expect("reloaded$")
            assert ask(address) == (200, "vnew")


def test_hup_during_an_import_that_fails(tmp_path: Path) -> None:
    """A start that fails is tried again if a HUP has come meanwhile."""
    with gate(tmp_path) as fifo:
        write_app(tmp_path, f"open({str(fifo)!r}).read(); import no_such_thing")
        with starting(tmp_path, ANSWER="v") as program:
            program.expect("is starting")
            with importing(fifo):
                write_app(tmp_path, version="new")
                program.process.send_signal(signal.SIGHUP)
                program.expect("HUP while starting")
            address = ("127.0.0.1", int(program.expect(LISTENING)[1].rpartition(":")[2]))
            assert ask(address) == (200, "vnew")


@pytest.mark.parametrize(
    ("numbers", "status"), [(["TERM"], 0), (["INT"], 0), (["INT", "INT"], 130), (["QUIT"], 131)]
)
def test_stopped_while_reloading(tmp_path: Path, numbers: list[str], status: int) -> None:
    """A reload can be stopped; its worker, which imports still, ends too."""
    with gate(tmp_path) as fifo:
        write_app(tmp_path)
        with workers(tmp_path) as (program, _):
            write_waiting_app(tmp_path, fifo)
            program.process.send_signal(signal.SIGHUP)
            trial = int(program.expect(r"worker (\d+) is starting")[1])
            with fifo.open("w"):
                for number in numbers:
                    program.process.send_signal(signal.Signals[f"SIG{number}"])
                # All may be over before the second INT comes.
                assert program.process.wait(PATIENCE) in ({status, 0} if numbers[1:] else {status})
                wait_for_end(trial)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("first", "second", "status"),
    [("TERM", "TERM", 0), ("TERM", "QUIT", 131), ("INT", "INT", 130)],
)
@pytest.mark.parametrize(
    "left",
    ["threading.Thread(target=forever, name='mailer').start()", "atexit.register(forever)"],
    ids=["thread", "atexit"],
)
def test_what_the_application_has_left(
    tmp_path: Path, loop: str, first: str, second: str, status: int, left: str
) -> None:
    """Threads and exit functions have the rest of the grace; then the process ends, as asked."""
    forever = "import atexit, threading\ndef forever():\n    threading.Event().wait()\n"
    write_app(tmp_path, f"{forever}{left}\n{PID_APP}")
    arguments = ("--loop", loop, "--graceful-timeout", f"{UNIT}s")
    with workers(tmp_path, *arguments) as (program, address):
        worker = pid_of(address)
        program.process.send_signal(signal.Signals[f"SIG{first}"])
        if "Thread" in left:
            program.expect("waiting for threads of the application: mailer")
        else:
            program.expect("stopping")
        program.process.send_signal(signal.Signals[f"SIG{second}"])
        assert program.process.wait(PATIENCE) == status
        wait_for_end(worker)


def test_signals_to_a_worker_at_its_end(tmp_path: Path) -> None:
    """A worker that waits for threads is ended by nothing that does not mean the end."""
    text = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n" + PID_APP
    write_app(tmp_path, text)
    with workers(tmp_path, "--graceful-timeout", f"{UNIT}s") as (program, address):
        worker = pid_of(address)
        program.process.send_signal(signal.SIGTERM)
        program.expect("waiting for threads")
        for name in ("HUP", "INT", "USR1", "USR2"):
            os.kill(worker, signal.Signals[f"SIG{name}"])
        assert program.process.wait(PATIENCE) == 0


def test_killed_supervisor_during_import(tmp_path: Path) -> None:
    """A worker that imports ends with its supervisor, though it waits in C code."""
    with gate(tmp_path) as fifo:
        write_waiting_app(tmp_path, fifo)
        with starting(tmp_path) as program:
            worker = int(program.expect(r"worker (\d+) is starting")[1])
            with fifo.open("w"):
                program.process.kill()
                wait_for_end(worker)


def test_a_terminal_that_closes(tmp_path: Path) -> None:
    """With ``--reload``, HUP from a terminal that is gone ends the server."""
    write_app(tmp_path)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        command = [sys.executable, "-m", "aiowsgi", "served_app:app", "--bind", "127.0.0.1:0"]
        os.execv(sys.executable, [*command, "--app-dir", str(tmp_path), "--reload"])
    seen = b""
    while b"listening on" not in seen:
        assert select.select([terminal], [], [], PATIENCE)[0], seen
        seen += os.read(terminal, 4096)
    assert b"1 worker x 4 threads" in seen
    os.close(terminal)
    eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)


# What an application, or the server's parent, does to the process


def test_the_working_directory_of_each_worker(tmp_path: Path) -> None:
    """An application that changes directory at import does not change where the next is found."""
    write_app(tmp_path, "import os; os.chdir('/')\n" + PID_APP, version="old")
    options = ("--chdir", str(tmp_path), "--app-dir", ".")
    command = (sys.executable, "-m", "aiowsgi", "served_app:app", "--bind", "127.0.0.1:0")
    variables = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "ANSWER": "v"}
    with running(*command, *options, **variables) as program:
        address = ("127.0.0.1", int(program.expect(LISTENING)[1].rpartition(":")[2]))
        assert ask(address) == (200, "vold")
        write_app(tmp_path, "import os; os.chdir('/')\n" + PID_APP, version="new")
        program.process.send_signal(signal.SIGHUP)
        program.expect("reloaded$")
        assert ask(address) == (200, "vnew")


def test_the_environment_of_each_worker(tmp_path: Path) -> None:
    """Variables that an application sets are not there for the next."""
    text = "import os; os.environ.setdefault('ANSWER', {answer!r})\n" + PID_APP
    write_app(tmp_path, text.replace("{answer!r}", "'old'"))
    with workers(tmp_path) as (program, address):
        assert ask(address) == (200, "old")
        write_app(tmp_path, text.replace("{answer!r}", "'new'"))
        program.process.send_signal(signal.SIGHUP)
        program.expect("reloaded$")
        assert ask(address) == (200, "new")


IGNORED = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("by_parent", [True, False])
def test_ignored_sigchld(tmp_path: Path, loop: str, by_parent: bool) -> None:
    """Whoever ignores SIGCHLD, a worker that dies is replaced, and TERM ends the server."""
    write_app(tmp_path, PID_APP if by_parent else IGNORED + PID_APP)
    ignoring = (
        sys.executable,
        "-c",
        f"{IGNORED}import os, sys; os.execv(sys.argv[1], sys.argv[1:])",
    )
    with workers(tmp_path, "--loop", loop, wrapper=ignoring if by_parent else ()) as (
        program,
        address,
    ):
        os.kill(pid_of(address), signal.SIGKILL)
        program.expect("has ended: signal SIGKILL")
        program.expect(READY)
        assert ask(address)[0] == 200
        assert program.stop() == 0


STATUS_APP = """
import os, subprocess

def app(environ, start_response):
    command = ["sh", "-c", "cat $GATE; exit 7"]
    body = str(subprocess.run(command, stdout=subprocess.DEVNULL).returncode).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_exit_statuses_of_programs(tmp_path: Path, loop: str) -> None:
    """The application learns how its programs have ended, also while it is reloaded."""
    write_app(tmp_path, STATUS_APP)
    seen: list[tuple[int, str]] = []
    with (
        gate(tmp_path) as fifo,
        workers(tmp_path, "--loop", loop, GATE=str(fifo)) as (
            program,
            address,
        ),
    ):
        asking = Thread(target=lambda: seen.append(ask(address)))
        asking.start()
        with fifo.open("w"):
            program.process.send_signal(signal.SIGHUP)
            program.expect("reloaded$")
        asking.join(PATIENCE)
    assert seen == [(200, "7")]


@pytest.mark.parametrize("loop", LOOPS)
def test_old_kernels(tmp_path: Path, loop: str) -> None:
    """Nothing needs pidfd_open(2) or memfd_create(2)."""
    (tmp_path / "sitecustomize.py").write_text("import os\ndel os.pidfd_open, os.memfd_create\n")
    write_app(tmp_path, version="old")
    with workers(tmp_path, "--loop", loop, PYTHONPATH=str(tmp_path), ANSWER="v") as (
        program,
        address,
    ):
        write_app(tmp_path, version="new")
        program.process.send_signal(signal.SIGHUP)
        program.expect("reloaded$")
        assert ask(address) == (200, "vnew")
        program.process.send_signal(signal.SIGTTIN)
        program.expect(READY)
        assert program.stop() == 0


FAILURES = 12


@pytest.mark.parametrize("loop", LOOPS)
def test_failed_reloads_leave_nothing(tmp_path: Path, loop: str) -> None:
    """After many failed reloads there are as many descriptors and children as before."""
    write_app(tmp_path)
    with workers(tmp_path, "--loop", loop) as (program, _):
        own = Path(f"/proc/{program.process.pid}")

        def counts() -> tuple[int, str]:
            children = own / "task" / own.name / "children"
            return len(os.listdir(own / "fd")), children.read_text()

        before = counts()
        write_app(tmp_path, "import no_such_thing")
        for _ in range(FAILURES):
            program.process.send_signal(signal.SIGHUP)
            program.expect("not reloaded")
        eventually(lambda: counts() == before)


@pytest.mark.parametrize("closed", ["0<&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_descriptors(tmp_path: Path, closed: str) -> None:
    """A standard descriptor that is closed is /dev/null, and not the next socket."""
    text = "import sys\nprint('to standard output', flush=True)\n" + PID_APP
    write_app(tmp_path, text)
    path = tmp_path / "socket"
    shell = ("sh", "-c", f'exec "$@" {closed}', "sh")
    command = (sys.executable, "-m", "aiowsgi", "served_app:app", "--app-dir", str(tmp_path))
    with running(*shell, *command, "--bind", f"unix:{path}") as program:
        eventually(lambda: answers(path))
        links = [os.readlink(f"/proc/{program.process.pid}/fd/{number}") for number in range(3)]
        assert links[: closed.count("&-")] == ["/dev/null"] * closed.count("&-")
        assert program.stop() == 0


def answers(path: Path) -> bool:
    """Whether a server at the unix socket answers a request."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        if client.connect_ex(str(path)):
            return False
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200 ")


LOGGING_APP = """
import logging

def app(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("x" * 400)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize(("number", "status"), [("TERM", None), ("QUIT", 131)])
def test_a_log_that_is_not_read(
    tmp_path: Path, count: str, number: str, status: int | None
) -> None:
    """A full pipe as standard error keeps no signal from ending the server."""
    write_app(tmp_path, LOGGING_APP)
    reader, writer = os.pipe()
    command = (sys.executable, "-m", "aiowsgi", "served_app:app", "--app-dir", str(tmp_path))
    path = tmp_path / "socket"
    options = ("--bind", f"unix:{path}", "--graceful-timeout", "0.2s", "-w", count)
    with subprocess.Popen([*command, *options], cwd=ROOT, stderr=writer) as process:
        try:
            eventually(lambda: answers(path))
            os.set_blocking(writer, False)
            with pytest.raises(BlockingIOError):  # noqa: PT012 - until the pipe is full
                while True:
                    os.write(writer, b"x" * 4096)
            os.set_blocking(writer, True)
            for name in ("TTIN", number):
                process.send_signal(signal.Signals[f"SIG{name}"])
            assert process.wait(PATIENCE) in {status, 0, 1}
        finally:
            process.kill()
            os.close(reader)
            os.close(writer)


# Standard input


def test_a_debugger(tmp_path: Path) -> None:
    """The only worker has standard input: ``breakpoint()`` is answered by who started it."""
    write_app(tmp_path, "answer = input('which? ')\n" + PID_APP)
    command = (sys.executable, "-m", "aiowsgi", "served_app:app", "--app-dir", str(tmp_path))
    with subprocess.Popen(
        [*command, "--bind", "127.0.0.1:0"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"this\n")
        process.stdin.flush()
        Program(process).expect(LISTENING)
        process.terminate()
        assert process.wait(PATIENCE) == 0
