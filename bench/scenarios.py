"""What is done to a server in each scenario of trouble, and what is measured of it meanwhile.

A scenario gets a server that runs and has answered once, and the size of the trouble; what comes of
it is an `Outcome`. It never raises for what a server does: that is what is measured. Which server
it is, and how the outcome is shown, is the business of ``trouble.py``.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from typing import NamedTuple, TypeAlias

from bench import load
from bench.running import RunningServer
from bench.servers import HOST
from bench.shopper import GOOD_SECONDS, Shopper
from bench.slow_clients import BODIES, HEADERS, SlowClients, reading
from bench.system import cpu_seconds, resident_kib
from bench.trouble_app import WORK_SECONDS

THREADS = 4
"""Of the server."""
PATIENCE_SECONDS = 5.0
"""Seconds within which a server must serve again to count as recovered."""
WAVE_SECONDS = 3
"""Seconds that each wave of slow uploads lasts in a long run."""
TENTHS = 10
"""Number of parts of a long run; the first is the warm-up."""
BUSY = 8
"""Connections of good clients."""


class Outcome(NamedTuple):
    """One row of the table."""

    good: float = 0.0
    """Good responses a second."""
    share: float | None = None
    """Share of the rate without the trouble."""
    p99: float = 0.0
    """Seconds."""
    megabytes: float | None = None
    """Growth of the resident memory during the trouble, in MB."""
    recovered: bool | None = False
    note: str = ""


class Size(NamedTuple):
    """How large the trouble is: numbers of clients, requests and seconds."""

    seconds: int = 5
    readers: int = 1000
    dribblers: int = 5000
    overload: int = 400
    soak: int = 1_000_000
    """Requests of a long run."""
    uploads: int = 10_000
    """Slow ones, of the same."""
    soak_seconds: int = 150
    """That it takes at most."""
    settle: float = 60.0
    """Seconds within which the responses to slow clients must have been produced."""


QUICK = Size(1, readers=100, dribblers=300, overload=200, soak_seconds=6, settle=5.0)

Scenario: TypeAlias = Callable[[RunningServer, Size], Outcome]


def _recovers(port: int, patience: float = PATIENCE_SECONDS) -> bool:
    """Whether a request is answered before long."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=patience) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if client.recv(64).startswith(b"HTTP/1.1 200"):
                return True
        time.sleep(0.05)
    return False


def _among(slow_clients: Callable[[int], SlowClients]) -> Scenario:
    """Measure good clients alone, and then beside slow clients."""

    def measure(server: RunningServer, size: Size) -> Outcome:
        alone = load.wrk(server.port, "unique", BUSY, size.seconds)
        before = resident_kib(server.pid)
        with slow_clients(server.port) as crowd:
            # First let the server produce their responses, if it can.
            began = time.monotonic()
            answered = _recovers(server.port, size.settle)
            settled = f"{time.monotonic() - began:.1f} s" if answered else "never"
            among = load.wrk(server.port, "unique", BUSY, size.seconds)
            grown = resident_kib(server.pid) - before
            held = crowd.held
        return Outcome(
            among.rate,
            among.rate / alone.rate if alone.rate else None,
            among.p99,
            grown / 1024,
            _recovers(server.port),
            _notes(
                f"alone {alone.rate:,.0f}/s and p99 {alone.p99 * 1000:.1f} ms",
                f"first answer after {settled}",
                f"{held} held",
                among.problems,
            ),
        )

    return measure


def _notes(*texts: str) -> str:
    return ", ".join(filter(None, texts))


def _slow_readers(kind: str) -> Scenario:
    return lambda server, size: _among(
        lambda port: SlowClients(port, size.readers, [reading(f"/{kind}")])
    )(server, size)


def _dribble(server: RunningServer, size: Size) -> Outcome:
    beginnings = [HEADERS, BODIES, reading("/page")]
    return _among(lambda port: SlowClients(port, size.dribblers, beginnings))(server, size)


def _hanging(port: int, count: int, stack: ExitStack) -> None:
    """Make ``count`` threads hang."""
    for _ in range(count):
        client = stack.enter_context(closing(socket.create_connection((HOST, port), timeout=5)))
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.2)


def _stuck(server: RunningServer, size: Size) -> Outcome:
    with ExitStack() as stack:
        _hanging(server.port, THREADS, stack)
        recovered = _recovers(server.port)
        found = load.wrk(server.port, "unique", BUSY, size.seconds)
    return Outcome(found.rate, None, found.p99, None, recovered, found.problems)


def _refuse(server: RunningServer, size: Size) -> Outcome:
    with ExitStack() as stack:
        _hanging(server.port, THREADS + 1, stack)
        before = cpu_seconds(server.pid)
        found = load.wrk(server.port, "unique", 4 * BUSY, size.seconds)
        cost = (cpu_seconds(server.pid) - before) / found.requests if found.requests else 0.0
    note = _notes(
        f"{found.rate:,.0f} refusals/s",
        f"{cost * 1e6:.0f} µs of processor time each",
        f"the load's processor {found.cpu / found.seconds:.0%} busy",
    )
    return Outcome(0.0, None, found.p99, None, None, note)


def _soak(server: RunningServer, size: Size) -> Outcome:
    waves: list[load.Load] = []
    memory: list[float] = []
    served = uploads = 0
    deadline = time.monotonic() + size.soak_seconds
    while (served < size.soak or uploads < size.uploads) and time.monotonic() < deadline:
        with SlowClients(server.port, size.readers, [BODIES]) as crowd:
            waves.append(load.wrk(server.port, "unique", BUSY, WAVE_SECONDS))
            uploads += crowd.held
        served += waves[-1].requests
        memory.append(resident_kib(server.pid) / 1024)
    # A leak would grow with the number of waves.
    warm = memory[len(memory) // TENTHS :]
    curve = " ".join(f"{figure:.0f}" for figure in warm[:: -(-len(warm) // TENTHS)])
    return Outcome(
        served / sum(wave.seconds for wave in waves),
        None,
        max(wave.p99 for wave in waves),
        warm[-1] - warm[0],
        _recovers(server.port),
        _notes(
            f"{served:,} requests",
            f"{uploads:,} slow uploads",
            f"MB in the course of it: {curve}",
            waves[-1].problems,
        ),
    )


def _descriptors(server: RunningServer, size: Size) -> Outcome:
    with ExitStack() as stack:
        served, deadline = 0, time.monotonic() + size.settle
        for _ in range(200):
            if time.monotonic() > deadline:
                break
            with suppress(OSError):
                client = socket.create_connection((HOST, server.port), timeout=1.0)
                stack.callback(client.close)
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                served += client.recv(64).startswith(b"HTTP/1.1 200")
        before, began = cpu_seconds(server.pid), time.monotonic()
        time.sleep(size.seconds)
        busy = (cpu_seconds(server.pid) - before) / (time.monotonic() - began)
    note = f"{served} of 200 served, {busy:.0%} busy while all hold on"
    return Outcome(served, None, 0.0, None, _recovers(server.port), note)


def _overload(server: RunningServer, size: Size) -> Outcome:
    seconds = 3 * size.seconds

    async def main() -> list[Shopper]:
        shoppers = [Shopper(server.port) for _ in range(size.overload)]
        until = time.monotonic() + seconds
        tasks = [asyncio.create_task(shopper.shop(until)) for shopper in shoppers]
        await asyncio.wait(tasks, timeout=seconds + GOOD_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return shoppers

    shoppers = asyncio.run(main())
    good = sorted(latency for shopper in shoppers for latency in shopper.latencies)
    rate = len(good) / seconds
    refused, late = (sum(getattr(s, name) for s in shoppers) for name in ("refused", "late"))
    return Outcome(
        rate,
        rate * WORK_SECONDS / THREADS,
        good[int(len(good) * 0.99)] if good else 0.0,
        None,
        _recovers(server.port),
        f"{refused} refused, {late} later than a second",
    )


SCENARIOS: dict[str, Scenario] = {
    "overload": _overload,
    "stuck": _stuck,
    "list": _slow_readers("list"),
    "generator": _slow_readers("generator"),
    "file": _slow_readers("file"),
    "dribble": _dribble,
    "descriptors": _descriptors,
    "soak": _soak,
    "refuse": _refuse,
}
