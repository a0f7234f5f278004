"""Measures the cost of the admin endpoint: ``python -m bench.insight``.

The small workload is served without an admin endpoint, with an idle one, and with one whose live
page is open. The servers of a round run side by side on one core, and the load
goes from one to the next every second, this way and that way round: a machine that changes its
speed changes it for all. Each round has new processes, since two of the same kind differ by some
percent for as long as they live.

What disturbs makes a request dearer and never cheaper, so a way's cost is that of its quiet
seconds: a tenth of them took no more. The way without an endpoint is measured twice, and both
together are what the others are compared with; by what the two differ, the others may be wrong too.
More rounds narrow that down.
"""

from __future__ import annotations

import argparse
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from statistics import median, quantiles
from threading import Event, Thread

from bench.load import wrk
from bench.running import RunningServer
from bench.servers import HOST, SERVERS
from bench.system import choose_cores, cpu_seconds, free_port

CONNECTIONS = 32
THREADS = 4
MICROSECONDS = 1e6
WAYS = {
    "off": "no admin endpoint",
    "again": "the same, to see what the figures are worth",
    "on": "nobody looks",
    "watched": "somebody watches the live view",
}
LIMIT = 3.0
"""Percent that an endpoint may cost at which nobody looks."""


def main(arguments: list[str] | None = None) -> int:
    """Measure the ways; exit with 1 if an endpoint at which nobody looks costs too much."""
    parser = argparse.ArgumentParser(prog="python -m bench.insight", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=4, help="of each way in a round")
    options = parser.parse_args(arguments)
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, measured in _round(options.seconds).items():
            costs[way] += measured
    quiet = {way: _quiet(measured) for way, measured in costs.items()}
    without = _quiet(costs["off"] + costs["again"])
    more = {way: (cost / without - 1) * 100 for way, cost in quiet.items()}
    print("µs of processor time for a request: quiet seconds, median, and more than without")
    for way, what in WAYS.items():
        print(f"{quiet[way]:6.2f} {median(costs[way]):6.2f} {more[way]:+5.1f} %  {way}: {what}")
    return int(more["on"] > LIMIT)


def _quiet(costs: list[float]) -> float:
    return quantiles(costs, n=10, method="inclusive")[0]


def _round(seconds: int) -> dict[str, list[float]]:
    """Costs of the ways side by side; each is under load for ``seconds``, one at a time."""
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    order = list(WAYS)
    with ExitStack() as stack:
        servers = {way: stack.enter_context(_serving(way)) for way in order}
        for _ in range(seconds):
            for way in order:
                costs[way].append(_cost(way, servers[way]))
            order.reverse()
    return costs


@contextmanager
def _serving(way: str) -> Iterator[RunningServer]:
    """A server of this way, which is warm."""
    admin = f"{HOST}:{free_port()}"
    plain = SERVERS["aiowsgi-httptools"]
    options = ["--admin", admin] if way in ("on", "watched") else []
    spec = replace(plain, arguments=lambda *given: [*plain.arguments(*given), *options])
    core = choose_cores().server
    with (
        RunningServer(spec, "bench.apps:small", THREADS, core) as server,
        _watching(admin, way == "watched"),
    ):
        wrk(server.port, "unique", CONNECTIONS, 1)
        yield server


def _cost(way: str, server: RunningServer) -> float:
    """Processor time of a request, microseconds."""
    before = cpu_seconds(server.pid)
    load = wrk(server.port, "unique", CONNECTIONS, 1)
    used = cpu_seconds(server.pid) - before
    if load.problems:
        raise SystemExit(f"{way}: {load.problems}")
    return used / load.requests * MICROSECONDS


@contextmanager
def _watching(admin: str, watch: bool) -> Iterator[None]:
    """Read the events of the live view for as long as the block runs."""
    stop = Event()

    def read() -> None:
        with urllib.request.urlopen(f"http://{admin}/events", timeout=10) as events:
            while not stop.is_set() and events.readline():
                pass

    thread = Thread(target=read, daemon=True)
    if watch:
        thread.start()
    yield
    stop.set()
    if watch:
        thread.join(10)


if __name__ == "__main__":
    sys.exit(main())
