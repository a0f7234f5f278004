"""The metrics as Prometheus reads them: a text, written here.

The official client library for Python counts in its own process. With several workers it needs a
directory of memory-mapped files, one for each process, which has to be emptied at each start, and
gauges of workers that have ended stay in it. Here the supervisor has collected and added up the
workers' counts already, and only the text is left to write.

`exposition` writes OpenMetrics 1.0 if the scraper asks for it, as Prometheus does, and else the
older text format 0.0.4. They differ in the name of a counter's family and in the last line. Names
follow Prometheus' conventions: base units, ``_total`` for counters; ``process_*`` as in other
exporters, but with the worker's process id as a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiowsgi.status.metrics import BOUNDS, PHASES

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = ["OPENMETRICS", "TEXT", "exposition"]

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

_PHASE_HELP: Final = {
    "read": "Time from a request's first byte until it was queued for a thread.",
    "queue": "Time that a request waited for a thread, in a trusted proxy's queue too.",
    "app": "Time that a thread spent on a request, the application's close() included.",
    "write": "Time that a thread spent on a request after the response's last byte.",
    "request": "Time from a request's first byte to its response's last.",
}


def exposition(status: Tree, *, openmetrics: bool) -> str:
    """The metrics of a status (``status/aggregate.py``) as text."""
    lines: list[str] = []
    for kind, name, about, samples in _families(status):
        family = name.removesuffix("_total") if openmetrics else name
        lines += (f"# HELP {family} {about}", f"# TYPE {family} {kind}")
        lines += (f"{name}{suffix} {value}" for suffix, value in samples)
    if openmetrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


_Samples = list[tuple[str, Any]]
"""Samples: what follows the metric's name, and the value."""

_Family = tuple[str, str, str, _Samples]
"""Type, name, help and samples."""


def _families(status: Tree) -> Iterator[_Family]:
    yield from _gauges(status)
    yield from _counters(status)
    yield from _processes(status["workers"])
    for phase in PHASES:
        samples = _histogram(status["counts"]["seconds"][phase])
        yield "histogram", f"aiowsgi_{phase}_seconds", _PHASE_HELP[phase], samples


def _gauges(status: Tree) -> Iterator[_Family]:
    def gauge(name: str, about: str, samples: Any) -> _Family:
        if not isinstance(samples, list):
            samples = [("", samples)]
        return "gauge", f"aiowsgi_{name}", about, samples

    build = {"version": status.get("version", ""), "python": status.get("python", "")}
    yield gauge("build_info", "Version of the server and of Python; always 1.", _labelled(build, 1))
    yield gauge("start_time_seconds", "Start of the server, Unix time.", _start(status))
    yield gauge("ready", "Whether /readyz answers 200.", int(not status["unready"]))
    yield gauge(
        "saturated_seconds",
        "Time for which no thread of a worker has been free while requests wait; the longest of "
        "all workers.",
        status["stalled"],
    )
    yield gauge("workers", "Worker processes by state.", _each("state", status["worker_states"]))
    yield gauge("threads", "Worker threads by state.", _each("state", status["threads"]))
    yield gauge("connections", "Open connections by state.", _each("state", status["connections"]))
    yield gauge(
        "requests_in_flight", "Requests in flight by phase.", _each("phase", status["phases"])
    )
    yield gauge("queue_depth", "Requests that wait for a thread.", status["queued"])
    yield gauge(
        "queue_oldest_seconds",
        "Time that the request which has waited longest for a thread has waited.",
        status["waited"],
    )
    yield gauge("resident_memory_bytes", "Resident memory of all workers.", status["rss"])
    if status["certificate_expiry"]:
        yield gauge(
            "certificate_expiry_seconds",
            "End of the validity of the TLS certificate in use, Unix time.",
            status["certificate_expiry"],
        )


def _start(status: Tree) -> float:
    return round(float(status["time"]) - float(status["uptime"]), 3)


def _counters(status: Tree) -> Iterator[_Family]:
    counts = status["counts"]

    def counter(name: str, about: str, samples: Any) -> _Family:
        if not isinstance(samples, list):
            samples = [("", samples)]
        return "counter", f"aiowsgi_{name}_total", about, samples

    yield counter("requests", "Responses by class and status code.", _by_code(counts["codes"]))
    yield counter(
        "refusals",
        "Requests that the server refused without calling the application, by reason.",
        _each("reason", counts["refusals"]),
    )
    yield counter(
        "timeouts", "Requests whose application exceeded the request timeout.", counts["timeouts"]
    )
    yield counter(
        "cut",
        "Requests that were cut off by a stop, a reload or a recycling.",
        counts["cut"],
    )
    yield counter(
        "disconnects", "Clients that closed before their response.", counts["disconnects"]
    )
    yield counter(
        "dropped",
        "Queued requests that no thread took, as their clients had closed.",
        counts["dropped"],
    )
    yield counter("response_body_bytes", "Bytes of response bodies.", counts["bytes"])
    yield counter(
        "worker_restarts",
        "Workers that were replaced because they had ended, hung or reached a limit.",
        status["restarts"],
    )


def _processes(workers: Sequence[Tree]) -> Iterator[_Family]:
    """The metrics of each worker that has answered."""

    def family(kind: str, name: str, about: str, key: str) -> _Family:
        samples = [
            (f'{{worker="{worker["pid"]}"}}', worker[key])
            for worker in workers
            if worker[key] is not None
        ]
        return kind, f"process_{name}", about, samples

    yield family("counter", "cpu_seconds_total", "Processor time of a worker.", "cpu")
    yield family("gauge", "resident_memory_bytes", "Resident memory of a worker.", "rss")
    yield family("gauge", "open_fds", "Open file descriptors of a worker.", "descriptors")


def _each(label: str, values: Mapping[str, Any]) -> _Samples:
    # The values of labels are words of ours, in which there is nothing to escape.
    return [(f'{{{label}="{key}"}}', value) for key, value in values.items()]


def _labelled(labels: Mapping[str, str], value: int) -> _Samples:
    return [("{" + ",".join(f'{key}="{text}"' for key, text in labels.items()) + "}", value)]


def _by_code(codes: Mapping[str, int]) -> _Samples:
    return [
        (f'{{status="{int(code) // 100}xx",code="{code}"}}', number)
        for code, number in codes.items()
    ]


def _histogram(timed: Tree) -> _Samples:
    buckets = timed["buckets"]
    bounds = [*map(repr, BOUNDS), "+Inf"]
    samples = [(f'_bucket{{le="{le}"}}', n) for le, n in zip(bounds, buckets, strict=True)]
    return [*samples, ("_count", buckets[-1]), ("_sum", timed["sum"])]
