"""Applications that fork: what their children share with the server, and what they do to it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from processes import Program
from sample_apps import ask, single_process, workers, write_app
from support import LOOPS, PATIENCE, Client, eventually

pytestmark = pytest.mark.slow("processes")

Serve: TypeAlias = Callable[..., AbstractContextManager[tuple[Program, tuple[str, int]]]]

APP = """
import concurrent.futures, multiprocessing, os, signal, sys, time

fork = multiprocessing.get_context("fork")
children = []

def child_of_a_request():
    child = fork.Process(target=time.sleep, args=(600,))
    child.start()
    children.append(child)
    return str(child.pid)

def terminated():
    child = fork.Process(target=time.sleep, args=(600,))
    child.start()
    child.terminate()
    child.join()
    return str(child.exitcode)

def interrupted():
    child = fork.Process(target=time.sleep, args=(600,))
    child.start()
    os.kill(child.pid, signal.SIGINT)
    child.join()
    # By the signal itself, or by the KeyboardInterrupt that it is once Python code runs.
    return "ended by INT" if child.exitcode in (1, -signal.SIGINT) else str(child.exitcode)

def pool():
    with fork.Pool(2) as pool:
        return str(pool.map(abs, [-1, -2]))

def executor():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
        return str(list(pool.map(abs, [-1, -2])))

def leaves():
    pid = os.fork()
    if pid == 0:
        sys.exit(7)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

def raises():
    pid = os.fork()
    if pid == 0:
        1 / 0
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

def returns():
    pid = os.fork()
    if pid == 0:
        return "from the child"
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

def ended():
    for child in children:
        child.kill()
        child.join()
    return "ended"

def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    body = globals()[name]().encode()
    length = [("Content-Length", str(len(body)))] if environ["QUERY_STRING"] != "close" else []
    start_response("200 OK", length)
    return iter([body])
"""


@contextmanager
def supervised(directory: Path, **options: object) -> Iterator[tuple[Program, tuple[str, int]]]:
    """Serve `APP` by a worker."""
    write_app(directory, APP)
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    with workers(directory, *arguments) as served:
        yield served


@pytest.fixture(params=[supervised, partial(single_process, text=APP)], ids=["worker", "object"])
def serve_it(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    """Serve `APP` for a block: ``serve_it(**options)``."""
    return partial(request.param, tmp_path)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/terminated", "-15"),
        ("/interrupted", "ended by INT"),
        ("/pool", "[1, 2]"),
        ("/executor", "[1, 2]"),
        ("/leaves", "7"),
        ("/raises", "1"),
        ("/returns", "0"),
    ],
)
def test_children(serve_it: Serve, loop: str, path: str, answer: str) -> None:
    """A child has default signal actions, and answers nothing; the server goes on."""
    with serve_it(loop=loop) as (program, address):
        for _ in range(6):
            assert ask(address, path) == (200, answer)
        assert program.stop() == 0
        assert not any("will be replaced" in line or "has ended:" in line for line in program.lines)


@pytest.mark.parametrize("loop", LOOPS)
def test_copies_of_connections(serve_it: Serve, loop: str) -> None:
    """A child keeps no connection open: neither that of its request nor those of others."""
    with serve_it(loop=loop, keep_alive="0.3s") as (program, address):
        with Client(address[1]) as kept, Client(address[1]) as own:
            kept.get("/ended")
            assert kept.read_response()[2] == b"ended"
            own.send(b"GET /child_of_a_request?close HTTP/1.0\r\n\r\n")
            assert own.read_to_end().rpartition(b"\n")[2].isdigit()
            # It is closed after keep_alive, though the child still runs.
            assert kept.read_to_end() == b""
        assert ask(address, "/ended") == (200, "ended")
        assert program.stop() == 0


def test_copies_of_listeners(serve_it: Serve) -> None:
    """A child holds no port: when the server has stopped, its clients are refused."""
    with serve_it(graceful_timeout="1s") as (program, address):
        child = int(ask(address, "/child_of_a_request")[1])
        try:
            program.process.send_signal(signal.SIGTERM)
            eventually(lambda: is_refused(address))
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)
        assert program.process.wait(PATIENCE) in {0, 1}


def is_refused(address: tuple[str, int]) -> bool:
    """Whether nothing listens there."""
    with socket.socket() as client:
        return client.connect_ex(address) != 0


AT_IMPORT = """
import multiprocessing, os, signal, time

helper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True)
helper.start()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/terminate":
        helper.terminate()
        helper.join()
    sockets = [name for name in os.listdir(f"/proc/{helper.pid}/fd")] if helper.is_alive() else []
    names = [os.readlink(f"/proc/{helper.pid}/fd/{name}") for name in sockets]
    body = f"{helper.exitcode} {sum(name.startswith('socket:') for name in names)}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_a_child_of_the_import(tmp_path: Path) -> None:
    """A process that is started while the application is imported has no listening socket."""
    write_app(tmp_path, AT_IMPORT)
    with workers(tmp_path) as (program, address):
        status, body = ask(address)
        exitcode, sockets = body.split()
        # One socket is left to it: the worker's end of its channel.
        assert (status, exitcode, int(sockets) <= 1) == (200, "None", True)
        assert ask(address, "/terminate") == (200, "-15 0")
        assert program.stop() == 0
