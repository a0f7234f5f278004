"""How a server ends: one process that was given an application object, or several with workers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from load_client import load
from processes import Program
from sample_apps import (
    GATED_APP,
    PID_APP,
    READY,
    ask,
    ask_admin,
    gate,
    single_process,
    wait_for_end,
    workers,
    write_app,
)
from support import PATIENCE, Client
from tools import needs_tool, tool

pytestmark = pytest.mark.slow("processes")

Serve: TypeAlias = Callable[..., AbstractContextManager[tuple[Program, tuple[str, int]]]]


@contextmanager
def supervised(
    directory: Path, text: str = PID_APP, *, env: dict[str, str] | None = None, **options: object
) -> Iterator[tuple[Program, tuple[str, int]]]:
    """As `single_process`, with a supervisor and its workers."""
    write_app(directory, text)
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    with workers(directory, *arguments, **(env or {})) as served:
        yield served


@pytest.fixture(
    params=[single_process, supervised, partial(supervised, workers=2)],
    ids=["one process", "one worker", "two workers"],
)
def serve_it(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    """Serve an application for a block: ``serve_it(text, env=variables, **options)``."""
    return partial(request.param, tmp_path)


def test_term_under_load(serve_it: Serve) -> None:
    """TERM loses no request whose connection was made, on kept and on new connections."""
    with serve_it() as (program, address), load(address) as running:
        running.wait_for(100)
        assert program.stop() == 0
        running.stop()
        assert running.counts["failed"] == 0, str(running)


@pytest.mark.skipif(os.geteuid() != 0, reason="there are no privileges to be given up")
@needs_tool("setpriv")
@pytest.mark.parametrize("count", [1, 2])
def test_term_without_privileges(tmp_path: Path, count: int) -> None:
    """That takes no capability: root does without, and others have none."""
    write_app(tmp_path)
    wrapper = (tool("setpriv"), "--bounding-set=-all", "--inh-caps=-all")
    with (
        workers(tmp_path, f"--workers={count}", wrapper=wrapper) as (program, address),
        load(address) as running,
    ):
        status = Path(f"/proc/{program.process.pid}/status").read_text()
        assert re.search(r"CapEff:\t0+\n", status)
        running.wait_for(100)
        assert program.stop() == 0
        running.stop()
        assert running.counts["failed"] == 0, str(running)


def test_shutdown_delay(serve_it: Serve, tmp_path: Path) -> None:
    """Between TERM and the delay's end, requests are served, and are said not to be wanted."""
    admin = tmp_path / "admin"
    with serve_it(shutdown_delay=0.4, admin=f"unix:{admin}") as (program, address):
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
def test_requests_cut(
    serve_it: Serve, tmp_path: Path, signals: tuple[int, ...], status: int
) -> None:
    """A request that takes too long is cut after its grace, or at once where that is wanted."""
    grace = 0.2 if status == 1 else 60
    with (
        gate(tmp_path) as fifo,
        serve_it(GATED_APP, env={"GATE": str(fifo)}, graceful_timeout=grace) as (program, address),
        Client(address[1]) as client,
    ):
        client.get()
        # Both ends are open: the request has begun.
        with fifo.open("w"):
            program.process.send_signal(signals[0])
            for number in signals[1:]:
                program.expect("stopping")
                program.process.send_signal(number)
            if status == 1:
                program.expect("some requests were cut")
            assert program.process.wait(PATIENCE) == status
        with pytest.raises((OSError, EOFError)):
            client.read_response()
        for line in program.lines:
            if match := re.search(READY, line):
                wait_for_end(int(match[1]))
