"""One process that serves an application, until it needs another, under real signals.

How it ends is in ``test_stopping.py``.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_client import load
from processes import Program
from sample_apps import ask, solo, workers, write_app

pytestmark = pytest.mark.slow("processes")


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


# One worker, until a second process is needed


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Program, tuple[str, int]]]:
    """A program with a worker that is its only process, and where it listens."""
    write_app(tmp_path, version="old")
    with workers(tmp_path, alone=True) as served:
        yield served


def test_one_worker_is_one_process(alone: tuple[Program, tuple[str, int]]) -> None:
    """With one worker the process that was started serves."""
    program, address = alone
    assert ask(address) == (200, f"{program.process.pid}old")
    assert program.stop() == 0


def test_hup_makes_a_supervisor_of_it(
    tmp_path: Path, alone: tuple[Program, tuple[str, int]]
) -> None:
    """HUP brings the new code, in another process, and loses no request on the way."""
    program, address = alone
    with load(address) as running_load:
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


def test_a_failed_hup_changes_nothing(
    tmp_path: Path, alone: tuple[Program, tuple[str, int]]
) -> None:
    """Where the new code cannot be imported, the process goes on with the old."""
    program, address = alone
    for _ in range(2):
        write_app(tmp_path, "import no_such_thing")
        program.process.send_signal(signal.SIGHUP)
        program.expect("not reloaded")
        assert ask(address) == (200, f"{program.process.pid}old")
    assert program.stop() == 0


def test_ttin_adds_a_worker(alone: tuple[Program, tuple[str, int]]) -> None:
    """TTIN makes a supervisor of two workers."""
    program, address = alone
    program.process.send_signal(signal.SIGTTIN)
    program.expect("workers: 2")
    assert ask(address)[0] == 200
    assert program.stop() == 0


def test_term_while_it_becomes_a_supervisor(alone: tuple[Program, tuple[str, int]]) -> None:
    """TERM in the midst of it ends it as ever."""
    program, _ = alone
    program.process.send_signal(signal.SIGHUP)
    program.expect("is starting")
    assert program.stop() == 0
