"""One process that serves an application object, under real signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from load_client import load
from processes import LISTENING, Program, running
from served import GATED_APP, PID_APP, ask, ask_admin, gate, workers, write_app
from support import PATIENCE, Client

SCRIPT = """
import sys
{app}
import aiowsgi
sys.exit(aiowsgi.serve(app, bind="127.0.0.1:0", access_log=False, **{options}))
"""


@contextmanager
def solo(
    directory: Path, text: str = PID_APP, *, env: dict[str, str] | None = None, **options: object
) -> Iterator[tuple[Program, tuple[str, int]]]:
    """Run a program that serves its own application, for a block."""
    script = directory / "embedding.py"
    script.write_text(SCRIPT.format(app=text, options=options))
    variables = {"PYTHONPATH": str(Path(__file__).parent.parent), **(env or {})}
    with running(sys.executable, str(script), **variables) as program:
        port = int(program.expect(LISTENING)[1].rpartition(":")[2])
        yield program, ("127.0.0.1", port)


def test_term_under_load(tmp_path: Path) -> None:
    """TERM loses no request whose connection was made."""
    with solo(tmp_path) as (program, address), load(address) as running_load:
        running_load.wait_for(100)
        assert program.stop() == 0
        running_load.stop()
        assert running_load.counts["failed"] == 0, str(running_load)


def test_one_process(tmp_path: Path) -> None:
    """The process itself serves; signals that are about workers are answered in the log."""
    with solo(tmp_path) as (program, address):
        assert ask(address) == (200, f"{program.process.pid}{{version}}")
        for number in (signal.SIGTTIN, signal.SIGTTOU):
            program.process.send_signal(number)
            program.expect("there is one process, and no worker")
        program.process.send_signal(signal.SIGHUP)
        program.expect("certificates read, log files reopened")
        program.process.send_signal(signal.SIGUSR1)
        assert program.stop(signal.SIGINT) == 0


def test_certificates_gone(tmp_path: Path) -> None:
    """Certificates that cannot be read any more leave the old ones in use."""
    import trustme

    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "a.pem")
    )
    with solo(tmp_path, certfile=str(tmp_path / "a.pem")) as (program, _):
        (tmp_path / "a.pem").unlink()
        program.process.send_signal(signal.SIGHUP)
        program.expect("the old certificates stay: .*a.pem")
        assert program.stop() == 0


def test_service_manager_and_delay(tmp_path: Path) -> None:
    """Between TERM and the delay's end, requests are served, and are said not to be wanted."""
    admin = tmp_path / "admin"
    options = {"shutdown_delay": 0.4, "admin": f"unix:{admin}"}
    with solo(tmp_path, env={"WATCHDOG_USEC": "100000"}, **options) as (program, address):
        assert ask_admin(admin, "/readyz") == (200, b"ready\n")
        program.process.send_signal(signal.SIGTERM)
        program.expect("accepting for another 0.4 s")
        assert ask_admin(admin, "/readyz") == (503, b"draining\n")
        assert ask(address)[0] == 200
        assert program.process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("signals", "status"),
    [((signal.SIGTERM,), 1), ((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGQUIT,), 131)],
)
def test_requests_cut(tmp_path: Path, signals: tuple[int, ...], status: int) -> None:
    """A request that takes too long is cut after its grace, or at once where that is wanted."""
    grace = 0.2 if status == 1 else 60
    with (
        gate(tmp_path) as fifo,
        solo(tmp_path, GATED_APP, env={"GATE": str(fifo)}, graceful_timeout=grace) as (
            program,
            address,
        ),
        Client(address[1]) as client,
    ):
        client.get()
        with fifo.open("w"):
            program.process.send_signal(signals[0])
            for number in signals[1:]:
                program.expect("stopping")
                program.process.send_signal(number)
            if status != 1:
                assert program.process.wait(PATIENCE) == status
            else:
                program.expect("some requests were cut")
        assert program.process.wait(PATIENCE) == status


# One worker, until a second process is needed


def test_one_worker_is_one_process(tmp_path: Path) -> None:
    """With one worker the process that was started serves."""
    write_app(tmp_path)
    with workers(tmp_path, alone=True) as (program, address):
        assert ask(address) == (200, str(program.process.pid))
        assert program.stop() == 0


def test_hup_makes_a_supervisor_of_it(tmp_path: Path) -> None:
    """HUP brings the new code, in another process, and loses no request on the way."""
    write_app(tmp_path, version="old")
    with workers(tmp_path, alone=True) as (program, address), load(address) as running_load:
        running_load.wait_for(50)
        write_app(tmp_path, version="new")
        program.process.send_signal(signal.SIGHUP)
        program.expect("this process becomes a supervisor")
        program.expect("finishing what this process has begun")
        status, answer = ask(address)
        assert status == 200
        assert answer.endswith("new")
        assert answer != f"{program.process.pid}new"
        running_load.wait_for(50)
        write_app(tmp_path, version="newer")
        program.process.send_signal(signal.SIGHUP)
        program.expect("reloaded")
        assert ask(address)[1].endswith("newer")
        assert program.stop() == 0
        running_load.stop()
        assert running_load.counts["failed"] == 0, str(running_load)


def test_a_failed_hup_changes_nothing(tmp_path: Path) -> None:
    """Where the new code cannot be imported, the process goes on with the old."""
    write_app(tmp_path, version="old")
    with workers(tmp_path, alone=True) as (program, address):
        for _ in range(2):
            write_app(tmp_path, "import no_such_thing")
            program.process.send_signal(signal.SIGHUP)
            program.expect("not reloaded")
            assert ask(address) == (200, f"{program.process.pid}old")
        assert program.stop() == 0


def test_ttin_adds_a_worker(tmp_path: Path) -> None:
    """TTIN makes a supervisor of two workers."""
    write_app(tmp_path)
    with workers(tmp_path, alone=True) as (program, address):
        program.process.send_signal(signal.SIGTTIN)
        program.expect("workers: 2")
        assert ask(address)[0] == 200
        assert program.stop() == 0


def test_term_while_it_becomes_a_supervisor(tmp_path: Path) -> None:
    """TERM in the midst of it ends it as ever."""
    write_app(tmp_path)
    with workers(tmp_path, alone=True) as (program, _):
        program.process.send_signal(signal.SIGHUP)
        program.expect("is starting")
        assert program.stop() == 0
