"""What the admin endpoint shows of all workers, made of what each of them says: one JSON tree.

A worker's *report* is what ``insight.report`` makes. `overview` adds up what can be added, and
keeps beside each worker what cannot. It asks nobody and waits for nobody; who did not answer in
time is in it without a report. In the end there are::

    time, uptime           seconds since the epoch, seconds since the start
    unready                why no requests should come, to any worker; empty if they may
    restarts               workers that were replaced otherwise than by a reload
    counts                 see ``Counts.snapshot``; and ``dropped``, queued requests that were not
                           begun with, since their clients had gone
    bounds                 those of the buckets of the counted times
    threads                busy, idle and, hanging beyond the request timeout, detached
    connections, phases    numbers by state, and of the requests in flight by phase
    queued, in_flight, rss numbers; rss in bytes
    waited                 seconds that the request which has waited longest for a thread has waited
    workers                pid, generation, state, and of the above its own
    worker_states          numbers
    requests               those in flight, the oldest first, `MOST` at most
    stacks                 where asked for: request, worker, thread, text
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.status.metrics import BOUNDS, Counts, merge

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = ["GONE", "MOST", "Detail", "ServerFacts", "WorkerReport", "overview"]

MOST: Final = 200
"""Requests shown, of one worker and in all: what somebody may look through. A guess."""

READY: Final = "ready"
"""The state of a worker that is to get requests; see ``supervisor/plan.py``."""

UNRESPONSIVE: Final = "unresponsive"
GONE: Final = "gone"
"""States that workers have beside those of ``supervisor/plan.py``."""


class Detail(IntEnum):
    """What somebody who looks wants to see; each includes what stands before it."""

    HEALTH = 0
    """A probe. It does not look at times, which are kept only while somebody does."""
    FIGURES = 1
    STACKS = 2


class WorkerReport(NamedTuple):
    """A worker as its supervisor knows it, and what it says of itself."""

    pid: int
    generation: int
    """Grows with each reload; 0 for a process that has served without a supervisor."""
    state: str
    report: Tree | None
    """None where it did not answer in time."""
    unfit: str = ""
    """Why its supervisor would have it get no requests; empty where there is nothing."""


class ServerFacts(NamedTuple):
    """What is known of the whole."""

    time: float
    uptime: float
    unready: str = ""
    """Why nobody should get requests, whatever the workers say."""
    restarts: int = 0
    gone: Tree | None = None
    """Counts of workers that have ended, without which the sums would shrink."""


def overview(facts: ServerFacts, seats: Sequence[WorkerReport]) -> Tree:
    """See the module's docstring."""
    reports = [seat.report for seat in seats if seat.report is not None]
    sums = merge([_NOTHING, *({key: report[key] for key in _NOTHING} for report in reports)])
    if facts.gone is not None:
        sums["counts"] = merge([sums["counts"], facts.gone])
    requests = [request for report in reports for request in report["requests"]]
    return {
        "time": facts.time,
        "uptime": facts.uptime,
        "unready": facts.unready or _unready(seats),
        "restarts": facts.restarts,
        "bounds": BOUNDS,
        **sums,
        "waited": max((report["waited"] for report in reports), default=0.0),
        "workers": [_worker(seat) for seat in seats],
        "worker_states": dict(Counter(map(_state, seats))),
        "requests": sorted(requests, key=lambda request: -request["age"])[:MOST],
        "stacks": [stack for report in reports for stack in report.get("stacks", ())],
    }


_NOTHING: Final[Tree] = {
    "counts": {**Counts().snapshot(), "dropped": 0},
    "threads": {"busy": 0, "idle": 0, "detached": 0},
    "connections": dict.fromkeys(("idle", "head", "body", "serving", "lingering"), 0),
    "phases": dict.fromkeys(("reading", "queued", "application", "upgraded", "writing", "detached"), 0),
    "queued": 0,
    "in_flight": 0,
    "rss": 0,
}
"""What is added up."""


def _unready(seats: Sequence[WorkerReport]) -> str:
    """Why no worker may get requests; empty if one may, or if nobody serves at all."""
    reasons = [_reason(seat) for seat in seats if seat.state == READY]
    return "" if "" in reasons else next(iter(reasons), "")


def _reason(seat: WorkerReport) -> str:
    if seat.unfit or seat.report is None:
        return seat.unfit or "no worker answers"
    return str(seat.report["unready"])


def _state(seat: WorkerReport) -> str:
    # One that is starting, or has only begun to go, has nothing to say and is not expected to.
    return UNRESPONSIVE if seat.report is None and seat.state == READY else seat.state


def _worker(seat: WorkerReport) -> Tree:
    own = seat.report or {}
    shown = ("threads", "queued", "waited", "in_flight", "rss", "uptime")
    return {
        "pid": seat.pid,
        "generation": seat.generation,
        "state": _state(seat),
        "unready": seat.unfit or own.get("unready", ""),
        **{key: own.get(key) for key in shown},
    }
