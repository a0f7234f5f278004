"""What one worker makes of signals and of a supervisor that is gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from sample_apps import READY, ask, pid_of, wait_for_end, workers, write_app

pytestmark = pytest.mark.slow("processes")


@pytest.mark.parametrize(
    ("number", "end"),
    [(signal.SIGTERM, "exit status 0"), (signal.SIGQUIT, "exit status 131")],
)
def test_ended_by_hand(tmp_path: Path, number: int, end: str) -> None:
    """A worker that somebody ends is replaced."""
    write_app(tmp_path)
    with workers(tmp_path) as (program, address):
        worker = pid_of(address)
        os.kill(worker, number)
        program.expect(f"worker {worker} has ended: {end}")
        program.expect(READY)
        assert pid_of(address) != worker


def test_signals_of_a_terminal(tmp_path: Path) -> None:
    """INT and HUP, which a terminal sends to all, leave it to the supervisor."""
    write_app(tmp_path)
    with workers(tmp_path) as (program, address):
        worker = pid_of(address)
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(worker, number)
        assert pid_of(address) == worker
        assert program.stop(signal.SIGINT) == 0
        assert not any("worker has ended:" in line for line in program.lines)


def test_programs_of_the_application(tmp_path: Path) -> None:
    """A program that the application executes can be interrupted as usual."""
    write_app(
        tmp_path,
        """
import subprocess

def app(environ, start_response):
    command = ["sh", "-c", "kill -INT $$; echo survived"]
    out = subprocess.run(command, stdout=subprocess.PIPE).stdout
    start_response("200 OK", [("Content-Length", str(len(out)))])
    return [out]
""",
    )
    with workers(tmp_path) as (_, address):
        assert ask(address) == (200, "")


def test_supervisor_gone_while_idle(tmp_path: Path) -> None:
    """An idle worker ends soon after its supervisor."""
    write_app(tmp_path)
    with workers(tmp_path) as (program, address):
        worker = pid_of(address)
        program.process.kill()
        wait_for_end(worker)
        with pytest.raises(ConnectionError):
            ask(address)
