"""Applications that are imported once for all workers of a generation."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from load_client import load
from processes import Program
from sample_apps import (
    READY,
    ask,
    gate,
    rest_of,
    starting,
    wait_for_end,
    workers,
    write_app,
)
from support import LOOPS, PATIENCE, eventually

pytestmark = pytest.mark.slow("processes")

APP = """
import atexit, os

IMPORTED_BY = os.getpid()
os.write(1, b"imported\\n")
atexit.register(lambda: os.write(1, b"at exit\\n"))

def app(environ, start_response):
    body = f"{os.getpid()} {IMPORTED_BY} {os.environ.get('GREETING')} {version}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

version = "{version}"
"""


def write(directory: Path, version: str) -> None:
    """Write the next version."""
    write_app(directory, APP, version)


def template_of(address: tuple[str, int]) -> tuple[int, int]:
    """Process ids: of a worker that answers, and of the process that has imported."""
    worker, template = ask(address)[1].split()[:2]
    return int(worker), int(template)


def imports(program: Program) -> int:
    """How often the application was imported so far."""
    return program.lines.count("imported")


@pytest.mark.parametrize("loop", LOOPS)
def test_one_import(tmp_path: Path, loop: str) -> None:
    """All workers of a generation come from one import, also one that is added or replaced."""
    write(tmp_path, "1")
    with workers(tmp_path, "--preload", "-w", "2", "--loop", loop) as (program, address):
        _, template = template_of(address)
        program.process.send_signal(signal.SIGTTIN)
        program.expect(READY)
        victim, _ = template_of(address)
        os.kill(victim, signal.SIGKILL)
        program.expect(f"worker {victim} has ended: signal SIGKILL")
        program.expect(READY)
        assert template_of(address)[1] == template
        assert program.stop() == 0
        program.lines += rest_of(program).splitlines()
    assert imports(program) == 1
    # Of each of the workers that were not killed.
    assert program.lines.count("at exit") == 3
    eventually(lambda: not Path(f"/proc/{template}").exists())


def test_reload_under_load(tmp_path: Path) -> None:
    """HUP brings new code and the new environment, in a new template, and loses nothing."""
    (tmp_path / "env").write_text("GREETING=old")
    write(tmp_path, "1")
    arguments = ("--preload", "-w", "2", "--env-file", str(tmp_path / "env"))
    with workers(tmp_path, *arguments) as (program, address), load(address) as running:
        running.wait_for(50)
        _, old = template_of(address)
        (tmp_path / "env").write_text("GREETING=new")
        write(tmp_path, "2")
        program.process.send_signal(signal.SIGHUP)
        program.expect("reloaded$")
        assert ask(address)[1].endswith("new 2")
        wait_for_end(old)
        running.wait_for(50)
        running.stop()
        assert running.counts.keys() == {"answered"}, str(running)
        assert program.stop() == 0
    assert imports(program) == 2


def test_failures(tmp_path: Path) -> None:
    """An import that fails ends the start once, and a reload that fails changes nothing."""
    write_app(tmp_path, "import no_such_thing")
    with starting(tmp_path, "--preload", "-w", "3") as program:
        assert program.process.wait(PATIENCE) == 3
        assert rest_of(program).count("ModuleNotFoundError: ") == 1
    write(tmp_path, "1")
    with workers(tmp_path, "--preload", "-w", "2") as (program, address):
        write_app(tmp_path, "import no_such_thing")
        program.process.send_signal(signal.SIGHUP)
        program.expect("not reloaded")
        assert ask(address)[1].endswith("1")
        write(tmp_path, "2")
        program.process.send_signal(signal.SIGHUP)
        program.expect("reloaded$")
        assert ask(address)[1].endswith("2")
        assert program.stop() == 0


THREADED = (
    "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
)


def test_threads(tmp_path: Path) -> None:
    """An application that starts threads at import is served without preloading, and told so."""
    write_app(tmp_path, THREADED + APP, "1")
    with workers(tmp_path, "--preload", "-w", "2") as (program, address):
        assert any(
            "not preloaded: the application has started 1 threads" in line for line in program.lines
        )
        worker, imported_by = template_of(address)
        assert worker == imported_by
        assert program.stop() == 0


def test_a_template_that_dies(tmp_path: Path) -> None:
    """Its workers serve on; the next one comes from a new template; the end is noticed."""
    write(tmp_path, "1")
    with workers(tmp_path, "--preload", "-w", "2") as (program, address):
        victim, template = template_of(address)
        os.kill(template, signal.SIGKILL)
        wait_for_end(template)
        assert ask(address)[0] == 200
        os.kill(victim, signal.SIGKILL)
        program.expect(f"worker {victim} has ended")
        program.expect(READY)
        eventually(lambda: template_of(address)[1] != template)
        assert program.stop() in {0, 1}


def test_a_worker_and_its_template_die(tmp_path: Path) -> None:
    """A worker's end is noticed though its template had no time to tell of it."""
    write(tmp_path, "1")
    with workers(tmp_path, "--preload") as (program, address):
        victim, template = template_of(address)
        os.kill(template, signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        stat = Path(f"/proc/{victim}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        os.kill(template, signal.SIGKILL)
        program.expect(f"worker {victim} has ended")
        program.expect(READY)
        assert template_of(address)[1] != template
        assert program.stop() == 0


@pytest.mark.parametrize(("number", "status"), [("TERM", 0), ("QUIT", 131)])
def test_stopped_while_importing(tmp_path: Path, number: str, status: int) -> None:
    """A template that imports ends with the server, as asked, or with a server that was killed."""
    with gate(tmp_path) as fifo:
        write_app(
            tmp_path,
            "import os\nos.write(1, f'in {os.getpid()}\\n'.encode())\n"
            f"open({str(fifo)!r}).read()",
        )
        with starting(tmp_path, "--preload", "-w", "2") as program:
            template = int(program.expect(r"^in (\d+)")[1])
            with fifo.open("w"):
                program.process.send_signal(signal.Signals[f"SIG{number}"])
                assert program.process.wait(PATIENCE) == status
                wait_for_end(template)
        with starting(tmp_path, "--preload") as program:
            template = int(program.expect(r"^in (\d+)")[1])
            with fifo.open("w"):
                program.process.kill()
                wait_for_end(template)
