"""What it costs that one can look: ``python -m bench.insight``.

The small workload is served without an admin endpoint, with one at which nobody looks, and with one
whose live view somebody watches. The three take turns in each round, this way and that way round,
so that a machine that changes its speed changes it for all. Processor time per request is disturbed
least, and by what two processes happen to differ in still by some percent: so what each way takes
more than the first is the median over the rounds of what it took more in that round, and half of
the rounds are within the figures in brackets. More rounds narrow them down.
"""

from __future__ import annotations

import argparse
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median, quantiles
from threading import Event, Thread
from typing import NamedTuple

from bench.load import wrk
from bench.running import RunningServer
from bench.servers import HOST, SERVERS
from bench.system import choose_cores, cpu_seconds, free_port

CONNECTIONS = 32
THREADS = 4
MICROSECONDS = 1e6
WAYS = ("off", "on", "watched")
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
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    options = parser.parse_args(arguments)
    rounds: dict[str, list[Figures]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in WAYS[:: -1 if number % 2 else 1]:
            rounds[way].append(_measure(way, options.seconds))
    more = {way: _more(figures, rounds["off"]) for way, figures in rounds.items()}
    for way, figures in rounds.items():
        rate, cost = (median(column) for column in zip(*figures, strict=True))
        low, middle, high = quantiles(more[way], n=4)
        print(
            f"{way:8} {rate:8,.0f}/s {cost:6.2f} µs/request"
            f" {middle:+5.1f} % [{low:+.1f} to {high:+.1f}]"
        )
    return int(median(more["on"]) > LIMIT)


def _more(figures: list[Figures], others: list[Figures]) -> list[float]:
    """Percent by which a request cost more in each round."""
    return [(one.cost / other.cost - 1) * 100 for one, other in zip(figures, others, strict=True)]


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
