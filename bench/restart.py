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
unbegun    those of the failed that the application had not begun with, on new connections
kept       the same on kept ones, idle until then or not: a client may try these again
refused    attempts to connect that were refused: nothing had been sent
=========  =========================================================================

After TERM, refusals are what is expected: the server is gone. Idle connections that a server closes
are no failures unless a request was under way. A KILL costs what the application had begun, at
least: it notes each request before it does anything else, in a file that outlives its process.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bench.running import ROOT
from bench.servers import HOST
from bench.system import free_port, poll
from tests.load_client import Load, get, load

APP = "bench.restart:application"
SECONDS = 20.0
"""Seconds within which a server must start, or stop."""
SETTLE = 1.0
"""Seconds of load before an event, between two, and after the last."""
LONGEST = 240.0
"""Seconds after which no further events are caused."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be told to restart."""

    name: str
    module: str
    command: Callable[[int], list[str]]
    """Returns the interpreter's arguments for a port."""
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


NOTES = "BENCH_BEGUN"
"""The variable that names the file in which the application notes the requests it has started."""

_notes = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND) if NOTES in os.environ else None


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Sleeps five milliseconds, as a database query would take, and answers with the process id."""
    if _notes is not None:
        os.write(_notes, f"{environ['QUERY_STRING']}\n".encode())
    time.sleep(0.005)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def __getattr__(name: str) -> Any:
    """Return ``asgi_application`` on request, because only one peer needs a2wsgi."""
    if name != "asgi_application":
        raise AttributeError(name)
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(application)  # type: ignore[arg-type]


# One run


@contextmanager
def _running(peer: Peer, port: int, notes: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block, which begins when the server answers."""
    process = subprocess.Popen(
        [sys.executable, *peer.command(port)],
        cwd=ROOT,
        env=os.environ | {NOTES: notes},
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
        # A port may be open before the server answers on it.
        with suppress(OSError), socket.create_connection((HOST, port), SECONDS) as connection:
            connection.sendall(get("", last=True))
            if connection.recv(100).startswith(b"HTTP/1.1 200 "):
                return
    raise RuntimeError("did not start")


def _term(process: subprocess.Popen[bytes], _: Load) -> None:
    process.terminate()
    process.wait(SECONDS)


def _hup(process: subprocess.Popen[bytes], _: Load) -> None:
    process.send_signal(signal.SIGHUP)


def _kill(process: subprocess.Popen[bytes], busy: Load) -> None:
    """Kill the oldest of the processes that have answered since the last event."""
    busy.bodies.clear()
    busy.wait_for(20)
    # The lowest process id: a worker that has served for a while is replaced at once.
    os.kill(min(int(body) for body in busy.bodies if int(body) != process.pid), signal.SIGKILL)


EVENTS = {"TERM": _term, "HUP": _hup, "KILL": _kill}


def measure(peer: Peer, event: str, times: int, new: int = 4) -> dict[str, int]:
    """Run ``peer`` under load through an event, ``times`` times; what became of the requests.

    The load is on four kept connections and on ``new`` others. It ends after `LONGEST` seconds.
    """
    port = free_port()
    with tempfile.NamedTemporaryFile("r") as notes:
        with (
            _running(peer, port, notes.name) as process,
            load((HOST, port), kept=4, new=new) as busy,
        ):
            end = time.monotonic() + LONGEST
            time.sleep(SETTLE)
            done = 0
            while done < times and time.monotonic() < end:
                EVENTS[event](process, busy)
                done += 1
                time.sleep(SETTLE if process.poll() is None else 0)
            busy.stop()
        lost = busy.lost(set(notes.read().split()))
    kept = sum(failure.kept for failure in lost)
    sent = busy.counts["answered"] + busy.counts["failed"]
    return {**busy.counts, "events": done, "sent": sent, "kept": kept, "unbegun": len(lost) - kept}


def main(arguments: list[str] | None = None) -> int:
    """Measure each peer with each event that it supports; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.restart")
    parser.add_argument("--reloads", type=int, default=5, help="in a row")
    parser.add_argument("--kills", type=int, default=100, help="in a row")
    parser.add_argument("--new", type=int, default=4, help="connections of one request, at a time")
    parser.add_argument("--only", default="", help="names of servers, with commas")
    parser.add_argument("--events", default="TERM,HUP,KILL", help="some of these, with commas")
    options = parser.parse_args(arguments)
    only = options.only.split(",") if options.only else [peer.name for peer in PEERS]
    times = {"TERM": 1, "HUP": options.reloads, "KILL": options.kills}
    print(f"{'server':16}{'event':6}" + "".join(f"{name:>9}" for name in COLUMNS))
    for peer in PEERS:
        for event in options.events.split(","):
            if peer.name in only and event in peer.events:
                row = _row(peer, event, times[event], options.new)
                print(f"{peer.name:16}{event:6}{row}", flush=True)
    return 0


COLUMNS = ("events", "sent", "answered", "failed", "reset", "unbegun", "kept", "refused")


def _row(peer: Peer, event: str, times: int, new: int) -> str:
    if find_spec(peer.module) is None:
        return "  not installed"
    try:
        figures = measure(peer, event, times, new)
    except (RuntimeError, OSError, AssertionError, subprocess.TimeoutExpired) as error:
        return f"  {error}"
    return "".join(f"{figures.get(column, 0):9}" for column in COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
