"""What USR2 writes, and what is said of a worker that dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from sample_apps import GATED_APP, READY, ask, gate, single_process, workers, write_app
from support import Client

from aiowsgi.supervisor.stack_log import silent_workers, stack_text


def stack(text: str, worker: int, what: str) -> dict[str, object]:
    """One busy thread."""
    return {"text": f"{text}\n", "worker": worker, "what": what, "age": 1.25}


def test_groups() -> None:
    """Equal stacks are written once, the commonest first, with the requests that are there."""
    stacks = [stack("a", 1, "GET /1"), stack("b", 1, "GET /2"), stack("b", 2, "GET /3")]
    assert stack_text({"stacks": stacks}) == (
        "2 threads at:\nb\nworker 1: GET /2 for 1.2 s\nworker 2: GET /3 for 1.2 s\n"
        "1 thread at:\na\nworker 1: GET /1 for 1.2 s"
    )
    assert stack_text({"stacks": []}) == "no thread is busy"


def test_silent() -> None:
    """A worker that serves, or finishes, and gives no report does not answer."""
    rows = [("starting", None), ("ready", 1), ("unresponsive", None), ("retiring", None)]
    table = [{"pid": pid, "state": state, "rss": rss} for pid, (state, rss) in enumerate(rows)]
    assert silent_workers({"workers": table}) == [2, 3]


@pytest.mark.slow("processes")
def test_usr2(tmp_path: Path) -> None:
    """USR2 to the supervisor shows where the workers' threads are, and ends nothing."""
    write_app(tmp_path, GATED_APP)
    with (
        gate(tmp_path) as fifo,
        workers(tmp_path, "-w", "2", GATE=str(fifo)) as (program, address),
        Client(address[1]) as client,
    ):
        client.get("/where")
        with fifo.open("w"):
            program.process.send_signal(signal.SIGUSR2)
            program.expect("1 thread at:")
            program.expect("served_app.py")
            program.expect(r"worker \d+: GET /where")
        assert client.read_response()[0] == 200
        assert program.stop() == 0


@pytest.mark.slow("processes")
def test_usr2_to_one_process(tmp_path: Path) -> None:
    """A process that serves an object does so for itself."""
    with single_process(tmp_path) as (program, address):
        program.process.send_signal(signal.SIGUSR2)
        program.expect("no thread is busy")
        assert ask(address)[0] == 200
        assert program.stop() == 0


LOCKING_APP = """
import ctypes, os

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        os.write(1, b"holding\\n")
        # A function of C that is called without letting go of the interpreter's lock.
        ctypes.PyDLL(None).sleep(3)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.slow("processes")
def test_usr2_while_c_holds_the_lock(tmp_path: Path) -> None:
    """A worker that cannot answer shows its stacks by faulthandler, and lives on."""
    write_app(tmp_path, LOCKING_APP)
    with workers(tmp_path) as (program, address), Client(address[1]) as client:
        client.get("/hold")
        program.expect("^holding$")
        program.process.send_signal(signal.SIGUSR2)
        program.expect(r"worker \d+ does not answer")
        program.expect("served_app.py")
        assert client.read_response()[0] == 200
        assert program.stop() == 0


@pytest.mark.slow("processes")
def test_a_worker_that_dies(tmp_path: Path) -> None:
    """The log says by what it died, what memory it had, and which requests are lost."""
    write_app(tmp_path, GATED_APP)
    with (
        gate(tmp_path) as fifo,
        workers(tmp_path, GATE=str(fifo)) as (program, address),
        Client(address[1]) as client,
    ):
        worker = next(int(line.split()[-3]) for line in program.lines if "is ready" in line)
        client.get("/lost")
        with fifo.open("w"):
            # The supervisor looks; otherwise a beat would say so within a second.
            program.process.send_signal(signal.SIGUSR2)
            program.expect("GET /lost")
            os.kill(worker, signal.SIGKILL)
        program.expect(
            rf"worker {worker} has ended: signal SIGKILL \(out of memory\?\);"
            r" when it was last heard of, it had \d+ MiB of memory and 1 request$"
        )
        program.expect("GET /lost")
        program.expect(READY)
