"""What a server does in trouble: ``python -m bench.trouble --help``. Linux only.

Each scenario starts a server with four threads, measures what it gives to good clients while it is
in trouble, takes the trouble away and looks whether it serves again:

===============  =================================================================================
``overload``     more requests of 20 ms than the threads can answer, from clients that wait for a
                 second where they are refused; *good* is a 200 within a second
``stuck``        four requests that hang for ever, and then good clients
``list``         clients that hardly read responses of 3 MB, given as one block, beside good ones
``generator``    the same, given block by block
``file``         the same, given as a file
``dribble``      clients that send header sections or bodies, or read a page, a byte a second
``descriptors``  150 descriptors, and 200 clients that hold on to their connections; *good* is how
                 many of them were served
``soak``         good clients and slow uploads for long: memory at the end less that at the
                 beginning
``refuse``       every thread hangs and the queue is full: what refusing costs
===============  =================================================================================

*Good* is requests served a second to good clients; *of untroubled*, what share that is of what the
same server does without the trouble (in ``overload``, of what its threads can do). *MB* is the
resident memory that the trouble took. Figures of one run are for comparing its rows only: the load
shares one processor with the clients that dawdle.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from bench import load
from bench.dawdlers import BODIES, HEADERS, Dawdlers, reading
from bench.report import markdown_table, number
from bench.running import RunningServer, ServerError
from bench.servers import HOST, SERVERS, Arguments, ServerSpec
from bench.shopper import GOOD_SECONDS, Shopper
from bench.system import choose_cores, cpu_seconds, raise_descriptor_limit, resident_kib
from bench.trouble_app import WORK_SECONDS

APP = "bench.trouble_app:app"
THREADS = 4
PATIENCE_SECONDS = 5.0
"""Within which a server has to serve again to have recovered."""
WAVE_SECONDS = 3
"""For which each crowd of slow uploads lasts in a long run."""
BUSY = 8
"""Connections of good clients."""


# The servers

_OPTIONS = {
    "overload": ["--queue-timeout", "500ms"],
    "stuck": ["--request-timeout", "1s"],
    "refuse": ["--queue-size", "1", "--queue-timeout", "0", "--graceful-timeout", "1s"],
}
"""What an operator of aiowsgi sets against that trouble; all else has its defaults."""


def _servers(scenario: str) -> list[ServerSpec]:
    ours = SERVERS["aiowsgi-httptools"]

    def arguments(app: str, port: int, threads: int) -> list[str]:
        return [*ours.arguments(app, port, threads), *_OPTIONS.get(scenario, ())]

    peers = ("gunicorn-gthread", "waitress", "granian", "uvicorn+a2wsgi")
    specs = [replace(ours, name="aiowsgi", arguments=arguments), *(SERVERS[p] for p in peers)]
    if scenario == "descriptors":
        specs = [replace(spec, arguments=_with_few(spec.arguments)) for spec in specs]
    return specs[:1] if scenario == "refuse" else specs


DESCRIPTORS = 150


def _with_few(arguments: Arguments) -> Arguments:
    """The same command in a shell that has limited it."""
    script = f'ulimit -n {DESCRIPTORS} && exec "$@"'
    return lambda *of: ["-c", script, "sh", sys.executable, *arguments(*of)]


# What comes of it


class Outcome(NamedTuple):
    """One row of the table."""

    good: float = 0.0
    """Good requests served a second."""
    share: float | None = None
    """Of the rate without trouble."""
    p99: float = 0.0
    """Seconds."""
    megabytes: float | None = None
    """Resident memory that the trouble took."""
    recovered: bool | None = False
    note: str = ""


class Size(NamedTuple):
    """How much trouble there is."""

    seconds: int = 5
    readers: int = 1000
    dribblers: int = 5000
    overload: int = 400
    soak: int = 60
    """Seconds."""
    settle: float = 60.0
    """Seconds within which what clients that dawdle have asked for is made."""


QUICK = Size(seconds=1, readers=100, dribblers=300, overload=200, soak=6, settle=5.0)

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


def _among(dawdlers: Callable[[int], Dawdlers]) -> Scenario:
    """Good clients beside those that dawdle, and before them."""

    def measure(server: RunningServer, size: Size) -> Outcome:
        alone = load.wrk(server.port, "unique", BUSY, size.seconds)
        before = resident_kib(server.pid)
        with dawdlers(server.port) as crowd:
            # What they asked for is done first, if it can be.
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
        lambda port: Dawdlers(port, size.readers, [reading(f"/{kind}")])
    )(server, size)


def _dribble(server: RunningServer, size: Size) -> Outcome:
    beginnings = [HEADERS, BODIES, reading("/page")]
    return _among(lambda port: Dawdlers(port, size.dribblers, beginnings))(server, size)


def _hanging(port: int, count: int, stack: ExitStack) -> None:
    """Have so many threads hang."""
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
    refusals = 1 / cost if cost else 0.0
    note = f"{found.rate:,.0f} refusals/s, {cost * 1e6:.0f} µs of CPU each: {refusals:,.0f} a core"
    return Outcome(0.0, None, found.p99, None, None, note)


def _soak(server: RunningServer, size: Size) -> Outcome:
    waves, uploads, before = [], 0, 0
    for _ in range(1 + size.soak // WAVE_SECONDS):
        with Dawdlers(server.port, size.readers // 2, [BODIES]) as crowd:
            waves.append(load.wrk(server.port, "unique", BUSY, WAVE_SECONDS))
            uploads += crowd.held
        # What one wave takes is not what many leave behind.
        before = before or resident_kib(server.pid)
    time.sleep(1)
    grown = (resident_kib(server.pid) - before) / 1024
    served = sum(wave.requests for wave in waves)
    rate = served / sum(wave.seconds for wave in waves)
    note = _notes(f"{served:,} requests, {uploads:,} slow uploads", waves[-1].problems)
    p99 = max(wave.p99 for wave in waves)
    return Outcome(rate, None, p99, grown, _recovers(server.port), note)


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

# The face

COLUMNS = ["scenario", "server", "good/s", "of untroubled", "p99 ms", "MB", "recovered", "notes"]


def main(arguments: list[str] | None = None) -> int:
    """Run the scenarios and print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.trouble", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="little trouble, for a minute or two")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, between commas")
    parser.add_argument("--servers", default="", help="servers, between commas; all of them else")
    options = parser.parse_args(arguments)
    raise_descriptor_limit()
    os.sched_setaffinity(0, choose_cores().load)
    rows = list(_rows(options))
    print(markdown_table(COLUMNS, rows))
    return 0


def _rows(options: argparse.Namespace) -> Iterator[list[str]]:
    size = QUICK if options.quick else Size()
    chosen = {name for name in options.servers.split(",") if name}
    for name in options.only.split(","):
        for spec in _servers(name):
            if spec.installed and (not chosen or spec.name in chosen):
                print(f"{name}: {spec.name}", file=sys.stderr, flush=True)
                yield [name, spec.name, *_row(_outcome(name, spec, size))]


def _outcome(name: str, spec: ServerSpec, size: Size) -> Outcome:
    python = "/bin/sh" if name == "descriptors" else sys.executable
    try:
        with RunningServer(
            spec, "bench.trouble_app:app", THREADS, choose_cores().server, python
        ) as it:
            return SCENARIOS[name](it, size)
    except (load.LoadError, ServerError) as error:
        return Outcome(note=str(error))


def _row(outcome: Outcome) -> list[str]:
    return [
        number(outcome.good, 0),
        "" if outcome.share is None else number(outcome.share, 2),
        number(outcome.p99 * 1000, 1) if outcome.p99 else "",
        "" if outcome.megabytes is None else number(outcome.megabytes, 1),
        {True: "yes", False: "no", None: ""}[outcome.recovered],
        outcome.note,
    ]


if __name__ == "__main__":
    sys.exit(main())
