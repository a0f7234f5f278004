"""The functions that measure a running server, and return a sample.

A measuring function gets a server that has just answered its first request, and the seconds that
one measurement may last. Which function serves which question is the table in ``workloads.py``;
rounds and statistics are the business of ``__main__`` and ``report``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from bench import load, system
from bench.apps import BODY_SIZE, WAIT_SECONDS
from bench.idle import IdleConnections

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.running import RunningServer

BUSY = 32
"""Connections that are busy all the time in the workloads of small responses."""
BUSY_THREADS = 8
"""Threads in the workload of neighbours that compute: more than those keep busy."""
STREAMS = 4
"""Connections that transfer large bodies: as many as the server has threads."""
WARM_UP_SECONDS = 1
IDLE = 5_000
WAIT_THREADS = 32
OPEN = (1, 10, 100, 1_000, 10_000)
"""Open connections at which the flatness of the cost is measured; one of them is busy."""
KEPT_CALLS = 2_000
NEW_CALLS = 1_000
WARM_UP_CALLS = 100
MEGA = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one server in one round."""

    figures: dict[str, float]
    problems: str = ""


Measure: TypeAlias = "Callable[[RunningServer, int], Sample]"


def requests(mode: str, connections: int) -> Measure:
    """A measuring function: so many connections busy with requests of one of wrk.lua's modes."""
    return lambda server, seconds: _busy(server, mode, connections, seconds)


def downloads(connections: int) -> Measure:
    """A measuring function: so many connections that read large responses."""
    return lambda server, seconds: _loaded(
        server, seconds, lambda time: load.sink(server.port, connections, time)
    )


def neighbours(server: RunningServer, seconds: int) -> Sample:
    """Small requests every ten milliseconds, while three threads of the server compute."""
    return _loaded(server, seconds, lambda time: load.neighbours(server.port, time))


def _busy(server: RunningServer, mode: str, connections: int, seconds: int) -> Sample:
    return _loaded(server, seconds, lambda time: load.wrk(server.port, mode, connections, time))


def _loaded(server: RunningServer, seconds: int, run: Callable[[int], load.Load]) -> Sample:
    """Warm up, then load; with the server's own processor time, which noise disturbs least.

    Raises LoadError if no request was answered.
    """
    run(WARM_UP_SECONDS)
    before = system.cpu_seconds(server.pid)
    result = run(seconds)
    cpu = system.cpu_seconds(server.pid) - before
    if not result.requests:
        raise load.LoadError(result.problems or "no answers")
    figures = {
        "rate": result.rate,
        "p50": result.p50 * MEGA,
        "p99": result.p99 * MEGA,
        "cpu": cpu / result.requests * MEGA,
        "server_busy": cpu / result.seconds * 100,
        "load_busy": result.cpu / result.seconds * 100,
        "share": result.rate / (WAIT_THREADS / WAIT_SECONDS),
        "beside": result.beside / result.seconds,
        "megabytes": result.rate * BODY_SIZE / MEGA,
    }
    return Sample(figures, result.problems)


def keep_alive(server: RunningServer, seconds: int) -> Sample:
    """The same requests on one kept connection and on one connection each, then with ab.

    A server that cannot make all of them in time, because it waits for delayed acknowledgements
    on a kept connection, is measured on fewer.
    """
    warm_up = load.httperf(server.port, 1, WARM_UP_CALLS)
    calls = max(WARM_UP_CALLS, min(KEPT_CALLS, int(warm_up.rate * seconds)))
    runs: dict[str, Callable[[], load.Load]] = {
        "kept": lambda: load.httperf(server.port, 1, calls),
        "new": lambda: load.httperf(server.port, NEW_CALLS, 1),
        "ab_kept": lambda: load.ab(server.port, KEPT_CALLS, 1, keep=True),
        "ab_new": lambda: load.ab(server.port, NEW_CALLS, 1, keep=False),
    }
    figures: dict[str, float] = {}
    problems = []
    for name, run in runs.items():
        try:
            result = run()
        except load.LoadError as error:
            problems.append(f"{name}: {error}")
            continue
        figures[name] = result.rate
        problems += [f"{name}: {result.problems}"] if result.problems else []
        if name == "ab_kept":
            figures["ab_count"] = result.kept
    if figures.get("new"):
        figures["ratio"] = figures.get("kept", 0.0) / figures["new"]
    return Sample(figures, "; ".join(problems))


def idle(server: RunningServer, seconds: int) -> Sample:
    """Measure busy connections alone and beside idle ones, and what the idle ones cost."""
    alone = _busy(server, "unique", BUSY, seconds)
    before = system.resident_kib(server.pid)
    with IdleConnections(server.port, IDLE) as idle:
        weight = system.resident_kib(server.pid) - before
        busy = _busy(server, "unique", BUSY, seconds)
        kept = idle.count_kept()
    rate = busy.figures["rate"]
    figures = {
        "rate": rate,
        "p99": busy.figures["p99"],
        "alone": alone.figures["rate"],
        "ratio": rate / alone.figures["rate"],
        "kept": kept,
        "kib": weight / kept if kept else 0.0,
    }
    return Sample(figures, "; ".join(filter(None, (alone.problems, busy.problems))))


def flat(server: RunningServer, seconds: int) -> Sample:
    """Processor time a request on one busy connection, as the number of open ones grows."""
    del seconds  # Processor time is exact enough after one second.
    figures: dict[str, float] = {}
    problems = []
    for count in OPEN:
        with IdleConnections(server.port, count - 1) as idle:
            sample = _busy(server, "unique", 1, 1)
            kept = idle.count_kept()
        figures[f"cpu_{count}"] = sample.figures["cpu"]
        if kept != count - 1:
            problems.append(f"{count - 1 - kept} of {count} connections lost")
        problems += [sample.problems] if sample.problems else []
    figures["growth"] = figures[f"cpu_{OPEN[-1]}"] / figures[f"cpu_{OPEN[0]}"]
    return Sample(figures, "; ".join(problems))


def start(server: RunningServer, seconds: int) -> Sample:
    """Return the time to the first answer, and the memory without load."""
    del seconds
    figures = {
        "start": server.seconds_to_first_answer * 1000,
        "rss": system.resident_kib(server.pid) * 1024 / MEGA,
        "pss": system.proportional_kib(server.pid) * 1024 / MEGA,
    }
    return Sample(figures)
