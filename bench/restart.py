"""What a restart costs: requests lost under TERM, HUP and the kill of a worker.

``python -m bench.restart`` starts each server with two worker processes of four threads, where it
has such, and keeps it busy on kept and on new connections. Then it is stopped (TERM), told to
reload (HUP), or one of its workers is killed (KILL), several times in a row. Printed is what became
of the requests:

=========  =========================================================================
sent       connections were made for them
answered   wholly, with 200
failed     the connection ended, or ten seconds passed, without a whole answer
reset      those of the failed whose connection was reset
refused    attempts to connect that were refused: nothing had been sent
=========  =========================================================================

After TERM, refusals are what is expected: the server is gone. Idle connections that a server closes
are no failures unless a request was under way. A KILL costs what the worker had begun, at least.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bench.running import ROOT
from bench.servers import HOST
from bench.system import free_port, poll
from tests.load_client import LAST, Load, load

APP = "bench.restart:application"
SECONDS = 20.0
"""For a server to start, or to stop."""
SETTLE = 1.0
"""Seconds of load before an event, between two, and after the last."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be told to restart."""

    name: str
    module: str
    command: Callable[[int], list[str]]
    """From a port to the interpreter's arguments."""
    events: tuple[str, ...] = ("TERM", "HUP", "KILL")


def _aiowsgi(port: int) -> list[str]:
    options = ["--workers", "2", "--threads", "4", "--no-access-log"]
    return ["-m", "aiowsgi", APP, "--bind", f"{HOST}:{port}", *options]


def _gunicorn(port: int) -> list[str]:
    options = ["-k", "gthread", "-w", "2", "--threads", "4", "--keep-alive", "75"]
    quiet = ["--log-level", "critical", "--no-control-socket"]
    return ["-m", "gunicorn", "-b", f"{HOST}:{port}", *options, *quiet, APP]


def _granian(port: int) -> list[str]:
    options = ["--interface", "wsgi", "--workers", "2", "--blocking-threads", "4"]
    address = ["--host", HOST, "--port", str(port), "--no-access-log", "--log-level", "critical"]
    return ["-m", "granian", *options, *address, "--respawn-failed-workers", APP]


def _uvicorn(port: int) -> list[str]:
    options = ["--workers", "2", "--no-access-log", "--log-level", "critical"]
    address = ["--host", HOST, "--port", str(port)]
    return ["-m", "uvicorn", *options, *address, "bench.restart:asgi_application"]


def _waitress(port: int) -> list[str]:
    return ["-m", "waitress", "--listen", f"{HOST}:{port}", "--threads", "8", APP]


PEERS = (
    Peer("aiowsgi", "aiowsgi", _aiowsgi),
    Peer("gunicorn", "gunicorn", _gunicorn),
    Peer("granian", "granian", _granian),
    Peer("uvicorn+a2wsgi", "a2wsgi", _uvicorn),
    # One process, which takes no reload and has nobody to replace it.
    Peer("waitress", "waitress", _waitress, ("TERM",)),
)


def application(environ: object, start_response: Callable[..., object]) -> list[bytes]:  # noqa: ARG001
    """Takes five milliseconds, as one that asks a database, and tells which process it is."""
    time.sleep(0.005)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def __getattr__(name: str) -> Any:
    """``asgi_application``, made where it is asked for: only one peer needs a2wsgi."""
    if name != "asgi_application":
        raise AttributeError(name)
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(application)  # type: ignore[arg-type]


# One run


@contextmanager
def _running(peer: Peer, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server, once it answers; its whole session is ended with the block."""
    process = subprocess.Popen(
        [sys.executable, *peer.command(port)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        try:
            _wait_until_it_answers(process, port)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in poll(time.monotonic() + SECONDS):
        if process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode}")
        # A port may be open before anybody answers there.
        with suppress(OSError), socket.create_connection((HOST, port), SECONDS) as connection:
            connection.sendall(LAST)
            if connection.recv(100).startswith(b"HTTP/1.1 200 "):
                return
    raise RuntimeError("did not start")


def _term(process: subprocess.Popen[bytes], _: Load) -> None:
    process.terminate()
    process.wait(SECONDS)


def _hup(process: subprocess.Popen[bytes], _: Load) -> None:
    process.send_signal(signal.SIGHUP)


def _kill(process: subprocess.Popen[bytes], busy: Load) -> None:
    """Kill one of the processes that have answered since the last event."""
    busy.bodies.clear()
    busy.wait_for(20)
    pids = [int(body) for body in busy.bodies if int(body) != process.pid]
    os.kill(pids[0], signal.SIGKILL)


EVENTS = {"TERM": _term, "HUP": _hup, "KILL": _kill}


def measure(peer: Peer, event: str, times: int) -> Load:
    """Run ``peer`` under load through an event, ``times`` times if it survives it."""
    port = free_port()
    with _running(peer, port) as process, load((HOST, port), kept=4, new=4) as busy:
        time.sleep(SETTLE)
        for _ in range(1 if event == "TERM" else times):
            EVENTS[event](process, busy)
            time.sleep(SETTLE if process.poll() is None else 0)
        busy.stop()
    return busy


def main(arguments: list[str] | None = None) -> int:
    """Measure every peer through every event it knows; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.restart")
    parser.add_argument("--times", type=int, default=5, help="reloads, and kills, in a row")
    parser.add_argument("--only", default="", help="names of servers, with commas")
    options = parser.parse_args(arguments)
    only = options.only.split(",") if options.only else [peer.name for peer in PEERS]
    columns = ("sent", "answered", "failed", "reset", "refused")
    print(f"{'server':16}{'event':10}" + "".join(f"{name:>10}" for name in columns))
    for peer in PEERS:
        for event in peer.events if peer.name in only else ():
            name = event if event == "TERM" else f"{event} x {options.times}"
            print(f"{peer.name:16}{name:10}{_row(peer, event, options.times, columns)}", flush=True)
    return 0


def _row(peer: Peer, event: str, times: int, columns: tuple[str, ...]) -> str:
    if find_spec(peer.module) is None:
        return "  not installed"
    try:
        counts = measure(peer, event, times).counts
    except (RuntimeError, OSError, AssertionError, subprocess.TimeoutExpired) as error:
        return f"  {error}"
    figures = {**counts, "sent": counts["answered"] + counts["failed"]}
    return "".join(f"{figures.get(column, 0):10}" for column in columns)


if __name__ == "__main__":
    sys.exit(main())
