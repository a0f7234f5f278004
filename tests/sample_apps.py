"""Applications that run in processes of their own, and helpers that start and ask them."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from processes import LISTENING, ROOT, Program, running
from support import PATIENCE, Client

PID_APP = """
import os

VERSION = "{version}"

def app(environ, start_response):
    body = (os.environ.get("ANSWER") or str(os.getpid())).encode() + VERSION.encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
"""Answers with the process id, and a version."""

GATED_APP = """
import os

def app(environ, start_response):
    # open() waits until the test opens the other end of the FIFO.
    with open(os.environ["GATE"]) as gate:
        body = gate.read().encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
"""Waits until something is written to the FIFO that GATE names, and answers with it."""


READY = r"worker (\d+) is ready"
"""The log line of a worker that serves."""


def write_app(directory: Path, text: str = PID_APP, version: str = "") -> None:
    """Write the module ``served_app``, or replace it atomically."""
    new = directory / "served_app.new"
    new.write_text(text.replace("{version}", version))
    new.replace(directory / "served_app.py")


@contextmanager
def workers(
    directory: Path,
    *arguments: str,
    wrapper: tuple[str, ...] = (),
    **variables: str,
) -> Iterator[tuple[Program, tuple[str, int]]]:
    """Serve the application in ``directory`` for a block; the program, and where it listens."""
    with starting(directory, *arguments, wrapper=wrapper, **variables) as program:
        url = urlsplit(program.expect(LISTENING)[1])
        yield program, (url.hostname or "", url.port or 0)


@contextmanager
def starting(
    directory: Path,
    *arguments: str,
    wrapper: tuple[str, ...] = (),
    **variables: str,
) -> Iterator[Program]:
    """As `workers`, without waiting until it serves."""
    options = ("--bind", "127.0.0.1:0", "--no-access-log", "--log-level", "debug")
    command = (sys.executable, "-m", "aiowsgi", "served_app:app", "--app-dir", str(directory))
    # Two versions of one module may be written within a second: compiled files would hide one.
    variables = {"PYTHONDONTWRITEBYTECODE": "1", **variables}
    with running(*wrapper, *command, *options, *arguments, **variables) as program:
        yield program


SCRIPT = """
import sys
{app}
import aiowsgi
sys.exit(aiowsgi.serve(app, bind="127.0.0.1:0", access_log=False, **{options}))
"""
"""A program that serves its own application."""


@contextmanager
def single_process(
    directory: Path, text: str = PID_APP, *, env: dict[str, str] | None = None, **options: object
) -> Iterator[tuple[Program, tuple[str, int]]]:
    """Run a program that serves its own application, for a block."""
    script = directory / "embedding.py"
    script.write_text(SCRIPT.format(app=text, options=options))
    with running(sys.executable, str(script), PYTHONPATH=str(ROOT), **(env or {})) as program:
        port = int(program.expect(LISTENING)[1].rpartition(":")[2])
        yield program, ("127.0.0.1", port)


def ask(address: tuple[str, int], path: str = "/") -> tuple[int, str]:
    """Send one request on a new connection; return status and body."""
    with Client(address[1]) as client:
        client.get(path, "Connection: close")
        status, _, body = client.read_response()
        return status, body.decode()


def ask_until(address: tuple[str, int], status: int, text: str) -> str:
    """Send requests until the answer has ``status`` and contains ``text``; return its body."""
    deadline = monotonic() + PATIENCE
    answer = 0, ""
    while monotonic() < deadline:
        answer = ask(address)
        if answer[0] == status and text in answer[1]:
            return answer[1]
    raise AssertionError(f"the last answer was {answer}")


def ask_admin(path: Path, target: str) -> tuple[int, bytes]:
    """Send one request to a unix socket; return status and body."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        with client.makefile("rb") as file:
            head, _, body = file.read().partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def pid_of(address: tuple[str, int]) -> int:
    """Return the id of a process that serves `PID_APP`."""
    return int(ask(address)[1])


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended that is not a child of this one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([descriptor], [], [], PATIENCE)
        assert ended, f"process {pid} still runs"
    finally:
        os.close(descriptor)


def rest_of(program: Program) -> str:
    """Return what a program has not yet been asked for, up to the end of all its processes."""
    assert program.process.stdout is not None
    data = program._unread + program.process.stdout.read()
    return data.decode()


@contextmanager
def gate(directory: Path) -> Iterator[Path]:
    """Make a FIFO for `GATED_APP`; at the end, release an application that still waits."""
    fifo = directory / "gate"
    os.mkfifo(fifo)
    try:
        yield fifo
    finally:
        with suppress(OSError):  # no application waits
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
