"""What it costs that one can look: ``python -m bench.insight``.

The small workload is served without an admin endpoint, with one at which nobody looks, and with one
whose live view somebody watches. The three take turns in each round, so that a machine that changes
its speed changes it for all. Printed are the medians of requests a second and of processor time per
request, and of the latter, which is disturbed least, what each takes more than the first.
"""

from __future__ import annotations

import argparse
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from threading import Event, Thread
from typing import NamedTuple

from bench.load import wrk
from bench.running import RunningServer
from bench.servers import HOST, SERVERS
from bench.system import choose_cores, cpu_seconds, free_port

CONNECTIONS = 32
THREADS = 4
MICROSECONDS = 1e6
LIMIT = 3.0
"""Percent that an endpoint may cost at which nobody looks."""


class Figures(NamedTuple):
    """One round of one way."""

    rate: float
    """Requests a second."""
    cost: float
    """Processor time of a request, microseconds."""


def main(arguments: list[str] | None = None) -> int:
    """Measure the three ways; the exit status is 1 if looking costs too much."""
    parser = argparse.ArgumentParser(prog="python -m bench.insight", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    options = parser.parse_args(arguments)
    rounds: dict[str, list[Figures]] = {"off": [], "on": [], "watched": []}
    for _ in range(options.rounds):
        for way, figures in rounds.items():
            figures.append(_measure(way, options.seconds))
    costs = {}
    for way, figures in rounds.items():
        costs[way] = median(each.cost for each in figures)
        more = (costs[way] / costs["off"] - 1) * 100
        rate = median(each.rate for each in figures)
        spread = f"[{min(figures).rate:,.0f} to {max(figures).rate:,.0f}]"
        print(f"{way:8} {rate:8,.0f}/s {spread:20} {costs[way]:6.2f} µs/request {more:+5.1f} %")
    return int((costs["on"] / costs["off"] - 1) * 100 > LIMIT)


def _measure(way: str, seconds: int) -> Figures:
    admin = f"{HOST}:{free_port()}"
    plain = SERVERS["aiowsgi-httptools"]
    options = [] if way == "off" else ["--admin", admin]
    spec = replace(plain, arguments=lambda *given: [*plain.arguments(*given), *options])
    with RunningServer(spec, "bench.apps:small", THREADS, choose_cores().server) as server:
        wrk(server.port, "unique", CONNECTIONS, 1)
        with _watching(admin, way == "watched"):
            before = cpu_seconds(server.pid)
            load = wrk(server.port, "unique", CONNECTIONS, seconds)
            used = cpu_seconds(server.pid) - before
    if load.problems:
        raise SystemExit(f"{way}: {load.problems}")
    return Figures(load.rate, used / load.requests * MICROSECONDS)


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
