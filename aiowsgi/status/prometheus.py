"""The metrics as Prometheus and its relatives read them: text, written out by us.

The client library for Python counts in its own process. With several workers it takes a directory
of memory-mapped files, one for each process, which somebody has to empty at each start, and gauges
of workers that have gone stay in it. Here the supervisor has asked the workers already, and their
counts are added up; what is left is to write some forty lines.

`exposition` writes OpenMetrics 1.0 where it is asked for, which Prometheus does, and the older
text format 0.0.4 for who does not. They differ in the name of a counter's family and in the last
line. Names follow Prometheus' conventions: base units, ``_total`` for what only grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from aiowsgi.status.metrics import BOUNDS, PHASES

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = ["OPENMETRICS", "TEXT", "exposition"]

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

_PHASE_HELP: Final = {
    "read": "From a request's first byte until it was queued.",
    "queue": "Wait of a request for a thread.",
    "app": "From when a thread took a request until it was done with it.",
    "write": "Work of the thread after the response's last byte was sent or kept.",
    "request": "From the first byte of a request to the last byte of its response.",
}


def exposition(overview: Tree, *, openmetrics: bool) -> str:
    """The metrics of an overview (``status/aggregate.py``) as text."""
    lines: list[str] = []
    for kind, name, about, samples in _families(overview):
        family = name.removesuffix("_total") if openmetrics else name
        lines += (f"# HELP {family} {about}", f"# TYPE {family} {kind}")
        lines += (f"{name}{suffix} {value}" for suffix, value in samples)
    if openmetrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


_Family = tuple[str, str, str, list[tuple[str, Any]]]
"""Type, name, help; and of each sample what follows the name, and the value."""


def _families(overview: Tree) -> Iterator[_Family]:
    yield from _gauges(overview)
    yield from _counters(overview)
    for phase in PHASES:
        name = f"aiowsgi_{phase}_seconds"
        yield (
            "histogram",
            name,
            _PHASE_HELP[phase],
            _histogram(overview["counts"]["seconds"][phase]),
        )


def _gauges(overview: Tree) -> Iterator[_Family]:
    def gauge(name: str, about: str, samples: list[tuple[str, Any]]) -> _Family:
        return "gauge", f"aiowsgi_{name}", about, samples

    ready = [("", 0 if overview["unready"] else 1)]
    yield gauge("ready", "Whether /readyz says yes.", ready)
    yield gauge("workers", "Worker processes.", _labelled("state", overview["worker_states"]))
    yield gauge("threads", "Threads of workers.", _labelled("state", overview["threads"]))
    yield gauge("connections", "Open ones.", _labelled("state", overview["connections"]))
    yield gauge("requests_in_flight", "By phase.", _labelled("phase", overview["phases"]))
    yield gauge("queue_depth", "Requests that wait for a thread.", [("", overview["queued"])])
    yield gauge(
        "queue_oldest_seconds",
        "Wait of who waits longest for a thread.",
        [("", overview["waited"])],
    )
    yield gauge("resident_memory_bytes", "Of all workers.", [("", overview["rss"])])


def _counters(overview: Tree) -> Iterator[_Family]:
    counts = overview["counts"]

    def counter(name: str, about: str, samples: list[tuple[str, Any]]) -> _Family:
        return "counter", f"aiowsgi_{name}_total", about, samples

    yield counter("requests", "Responses.", _labelled("status", counts["requests"]))
    yield counter(
        "refusals", "Answers of the server's own.", _labelled("reason", counts["refusals"])
    )
    yield counter(
        "disconnects", "Clients that left before their response.", [("", counts["disconnects"])]
    )
    yield counter(
        "dropped", "Queued requests not begun: their clients had left.", [("", counts["dropped"])]
    )
    yield counter("response_body_bytes", "Bytes of bodies.", [("", counts["bytes"])])
    yield counter(
        "worker_restarts", "Workers that ended unasked, or worn.", [("", overview["restarts"])]
    )


def _labelled(label: str, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    # The values of labels are words of ours, in which there is nothing to escape.
    return [(f'{{{label}="{key}"}}', value) for key, value in values.items()]


def _histogram(timed: Tree) -> list[tuple[str, Any]]:
    buckets = timed["buckets"]
    bounds = [*map(repr, BOUNDS), "+Inf"]
    samples = [(f'_bucket{{le="{le}"}}', n) for le, n in zip(bounds, buckets, strict=True)]
    return [*samples, ("_count", buckets[-1]), ("_sum", timed["sum"])]
