"""The status of the whole server, made from the reports of its workers: one tree of JSON.

A worker's *report* is what ``server/status.py`` makes. `overview` adds up what can be added, and
keeps the rest beside each worker. It does no I/O: a worker that did not answer in time is in it
without a report. The tree is::

    time, uptime           seconds since the epoch, seconds since the start
    state                  ready, saturated (a worker has had no free thread for a second or more
                           while requests waited) or unready
    unready                the reason why no worker should get requests; empty if they may come
    workers_unready        of that, what the workers say
    stalled                seconds for which no thread of a worker has been free while requests
                           wait; the longest of all workers
    restarts               workers that were replaced otherwise than by a reload
    counts                 see ``Counts.snapshot``; and ``dropped``, queued requests that no thread
                           took, since their clients had closed
    bounds                 the bounds of the histograms' buckets
    threads                busy, idle and, running beyond the request timeout, detached
    connections, phases    numbers by state, and of the requests in flight by phase
    queued, in_flight, rss numbers; rss in bytes
    waited                 seconds that the request which has waited longest for a thread has waited
    certificate_expiry     end of the TLS certificate's validity, seconds since the epoch; 0 without
    workers                pid, generation, state, and of the above its own; cpu, descriptors
    worker_states          numbers
    requests               those in flight, the oldest first, `MOST` at most
    stacks                 if asked for: request, worker, thread, what, age, and the stack
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.status.metrics import BOUNDS, Counts, merge

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = ["MOST", "Detail", "ServerFacts", "WorkerReport", "overview"]

MOST: Final = 200
"""Requests that are listed, of one worker and in all: what a person can look through. A guess."""

READY: Final = "ready"
"""The state of a worker that gets requests; see ``supervisor/plan.py``."""

UNRESPONSIVE: Final = "unresponsive"
"""The state of such a worker if it does not answer."""


class Detail(IntEnum):
    """How much a report says; each includes the one before."""

    HEALTH = 0
    """Everything but the requests."""
    FIGURES = 1
    """The requests too."""
    STACKS = 2
    """The stacks of the threads that run them too."""


class WorkerReport(NamedTuple):
    """A worker as its supervisor knows it, and the worker's own report."""

    pid: int
    generation: int
    """Grows with each reload; 0 for a process without a supervisor."""
    state: str
    report: Tree | None
    """None if it did not answer in time."""
    unfit: str = ""
    """Why the supervisor wants it to get no requests; empty if it may."""


class ServerFacts(NamedTuple):
    """What is known of the whole server."""

    time: float
    uptime: float
    unready: str = ""
    """Why no worker should get requests, whatever the workers say."""
    restarts: int = 0
    gone: Tree | None = None
    """Counts of workers that have ended; without them the sums would shrink."""


def overview(facts: ServerFacts, workers: Sequence[WorkerReport]) -> Tree:
    """Make the tree; see the module's docstring."""
    reports = [worker.report for worker in workers if worker.report is not None]
    sums = merge([_NOTHING, *({key: report[key] for key in _NOTHING} for report in reports)])
    if facts.gone is not None:
        sums["counts"] = merge([sums["counts"], facts.gone])
    requests = [request for report in reports for request in report["requests"]]
    workers_unready = _unready(workers)
    unready = facts.unready or workers_unready
    stalled = max((report["stalled"] for report in reports), default=0.0)
    expiries = [report["certificate_expiry"] for report in reports]
    return {
        "time": facts.time,
        "uptime": facts.uptime,
        "state": "unready" if unready else "saturated" if stalled else "ready",
        "unready": unready,
        "workers_unready": workers_unready,
        "stalled": stalled,
        "restarts": facts.restarts,
        "bounds": BOUNDS,
        **sums,
        "waited": max((report["waited"] for report in reports), default=0.0),
        "certificate_expiry": min(filter(None, expiries), default=0.0),
        "workers": [_worker(worker) for worker in workers],
        "worker_states": dict(Counter(map(_state, workers))),
        "requests": sorted(requests, key=lambda request: -request["age"])[:MOST],
        "stacks": [stack for report in reports for stack in report.get("stacks", ())],
    }


_NOTHING: Final[Tree] = {
    "counts": {**Counts().snapshot(), "dropped": 0},
    "threads": {"busy": 0, "idle": 0, "detached": 0},
    "connections": dict.fromkeys(("idle", "head", "body", "serving", "lingering"), 0),
    "phases": dict.fromkeys(
        ("reading", "queued", "application", "upgraded", "writing", "detached"), 0
    ),
    "queued": 0,
    "in_flight": 0,
    "rss": 0,
}
"""What is added up."""


def _unready(workers: Sequence[WorkerReport]) -> str:
    """Why no worker should get requests; empty if some worker may, or if there is none."""
    reasons = [_reason(worker) for worker in workers if worker.state == READY]
    return "" if "" in reasons else next(iter(reasons), "")


def _reason(worker: WorkerReport) -> str:
    if worker.unfit or worker.report is None:
        return worker.unfit or _silent(worker)
    return str(worker.report["unready"])


def _silent(worker: WorkerReport) -> str:
    # Its event loop is stuck, or the application holds the interpreter's lock in C.
    return f"worker {worker.pid} does not answer; py-spy dump --pid {worker.pid} shows where it is"


def _state(worker: WorkerReport) -> str:
    # A worker that is starting, or has begun to stop, has no report and is not expected to.
    return UNRESPONSIVE if worker.report is None and worker.state == READY else worker.state


def _worker(worker: WorkerReport) -> Tree:
    own = worker.report or {}
    keys = ("threads", "queued", "waited", "stalled", "in_flight", "rss", "uptime", "cpu")
    silent = _silent(worker) if _state(worker) == UNRESPONSIVE else ""
    return {
        "pid": worker.pid,
        "generation": worker.generation,
        "state": _state(worker),
        "unready": worker.unfit or own.get("unready", silent),
        **{key: own.get(key) for key in (*keys, "descriptors")},
    }
