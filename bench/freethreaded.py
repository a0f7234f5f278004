"""Compares builds of Python: ``python -m bench.freethreaded --python A --python B``.

A CPU-bound application is served by four threads that may use every core, under each interpreter in
turn, and its requests a second are compared with those under the first one. To learn what the GIL
costs, name two builds of one version that differ in nothing else. Each interpreter needs the
server's dependencies installed; aiowsgi itself is taken from the checkout.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from statistics import median

from bench import load
from bench.report import markdown_table, number
from bench.running import RunningServer
from bench.servers import SERVERS

THREADS = 4
CONNECTIONS = 8
"""Twice the threads, so that none waits for work."""
DESCRIBE = (
    "import sys;"
    "gil = getattr(sys, '_is_gil_enabled', lambda: True)();"
    "print(sys.version.split()[0], 'with the GIL' if gil else 'free-threaded')"
)


def main(arguments: list[str] | None = None) -> None:
    """Measure each interpreter in each round, and print the medians as a table."""
    options = _options(arguments)
    rates: dict[str, list[float]] = {python: [] for python in options.python}
    for _ in range(options.rounds):
        for python, measured in rates.items():
            measured.append(_rate(options.server, python, options.seconds))
    first = median(rates[options.python[0]])
    rows = [
        [_describe(python), *_figures(measured), number(median(measured) / first, 2)]
        for python, measured in rates.items()
    ]
    print(markdown_table(["interpreter", "requests/s", "minimum", "maximum", "to the first"], rows))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.freethreaded", description="Compare interpreters."
    )
    add = parser.add_argument
    add("--python", action="append", help="an interpreter; repeat for more")
    add("--server", choices=list(SERVERS), default="aiowsgi-h11", help="(%(default)s)")
    add("--rounds", type=int, default=3, help="measurements of each (%(default)s)")
    add("--seconds", type=int, default=3, help="length of a measurement (%(default)s)")
    options = parser.parse_args(arguments)
    options.python = options.python or [sys.executable]
    return options


def _rate(server: str, python: str, seconds: int) -> float:
    cores = os.sched_getaffinity(0)
    with RunningServer(SERVERS[server], "bench.apps:cpu_bound", THREADS, cores, python) as running:
        load.wrk(running.port, "unique", CONNECTIONS, 1)
        run = load.wrk(running.port, "unique", CONNECTIONS, seconds)
    if run.problems:
        raise load.LoadError(f"{python}: {run.problems}")
    return run.rate


def _figures(rates: list[float]) -> list[str]:
    return [number(rate, 0) for rate in (median(rates), min(rates), max(rates))]


def _describe(python: str) -> str:
    done = subprocess.run([python, "-c", DESCRIBE], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
