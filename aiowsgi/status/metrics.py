"""The counters of one process's requests, and the sum of those of several processes.

Guarantees:

* Nothing here locks, sleeps or reads a clock; ``status/collector.py`` brings the samples of many
  threads here.
* `Counts.snapshot` is JSON: a tree of dicts whose leaves are numbers and lists of numbers. `merge`
  adds trees up without knowing what they mean, so that a new counter is added in one place.
* Counters only grow. Gauges are read when they are asked for (``server/status.py``).

Samples are counted in batches: making the histograms of some hundred samples with ``sorted`` and
``bisect`` costs a third of finding the bucket of each by itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from operator import add
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["BOUNDS", "PHASES", "Counts", "Sample", "Tree", "merge", "quantile"]


class Sample(NamedTuple):
    """What is kept of a request that has ended until it is counted. Times are seconds."""

    status: int
    """0 if there was no response."""
    bytes: int
    """Size of the response's body."""
    read: float
    """From the request's first byte until it was given to the pool."""
    queue: float
    """From then until a thread took it."""
    app: float
    """From then until the thread was done with it."""
    write: float
    """Of that, the time after the last byte of the response was sent, or buffered for a slow
    client: mostly the application's ``close()``."""
    request: float
    """From the first byte of the request to the last of the response."""


Tree: TypeAlias = dict[str, Any]
"""A dict of dicts, numbers and lists of numbers."""

BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds of the histograms' buckets, seconds. Those of the Prometheus client libraries from
5 ms to 10 s; finer ones below, for quick applications, and two above, for a queue."""

WIDTH: Final = len(Sample._fields)

PHASES: Final = Sample._fields[2:]
"""The times of a sample; each has a histogram."""

REASONS: Final = {
    400: "malformed",
    408: "slow",
    413: "body-too-large",
    414: "target-too-long",
    421: "misdirected",
    431: "head-too-large",
    501: "not-implemented",
    503: "overload",
    505: "version",
    507: "no-space",
}
"""Why the server refused a request, by the status that it answered."""

TIMEOUT: Final = 504
"""Status of a request whose application took too long; it was not refused."""


class Counts:
    """The counts of one process since its start."""

    def __init__(self) -> None:
        # Responses by status code, including those of the server itself.
        self._statuses: Counter[int] = Counter()
        # Responses to requests that the application was not called for, by status code.
        self._refusals: Counter[int] = Counter()
        # Requests that were answered 504, since the application took too long.
        self._timeouts = 0
        # Requests that were cut off by a stop, a reload or a recycling.
        self._cut = 0
        # Clients that closed before their response was complete.
        self._disconnects = 0
        self._bytes = 0
        # By phase: the number in each bucket, of which the last has no bound, and the sum of all.
        self._buckets = {phase: [0] * (len(BOUNDS) + 1) for phase in PHASES}
        self._seconds = dict.fromkeys(PHASES, 0.0)

    def add(self, values: Sequence[Any]) -> None:
        """Count requests that have ended: the fields of one `Sample` after the other.

        Flat, since reading columns of a flat list takes a third of the time that rows take.
        """
        statuses, sizes, *times = (values[number::WIDTH] for number in range(WIDTH))
        self._statuses.update(statuses)
        self._bytes += sum(sizes)
        for phase, column in zip(PHASES, times, strict=True):
            self._time(phase, sorted(column))

    def _time(self, phase: str, times: Sequence[float]) -> None:
        self._seconds[phase] += sum(times)
        buckets, number, found = self._buckets[phase], len(times), 0
        for bucket, bound in enumerate(BOUNDS):
            before, found = found, bisect_right(times, bound, found)
            buckets[bucket] += found - before
            # Most times are short.
            if found == number:
                return
        buckets[-1] += number - found

    def untimed(self, status: int, size: int) -> None:
        """Count a response of ``size`` bytes whose times say nothing about the server."""
        self._statuses[status] += 1
        self._bytes += size

    def refused(self, status: int) -> None:
        """The server answered by itself. The response itself is counted by `add` or `untimed`."""
        if status == TIMEOUT:
            self._timeouts += 1
        else:
            self._refusals[status] += 1

    def cut(self) -> None:
        """A request was cut off, since its process stopped. It is counted by `add`, too."""
        self._cut += 1

    def disconnected(self) -> None:
        """A client closed before its response was complete."""
        self._disconnects += 1

    def snapshot(self) -> Tree:
        """All counts so far."""
        return {
            "requests": _named(_CLASSES, self._statuses, lambda status: f"{status // 100}xx"),
            "codes": _named(_CODES, self._statuses, str),
            "refusals": _named(
                REASONS.values(), self._refusals, lambda status: REASONS.get(status, str(status))
            ),
            "timeouts": self._timeouts,
            "cut": self._cut,
            "disconnects": self._disconnects,
            "bytes": self._bytes,
            "seconds": {
                phase: {
                    "buckets": list(accumulate(self._buckets[phase])),
                    "sum": self._seconds[phase],
                }
                for phase in PHASES
            },
        }


_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")
_CODES: Final = ("200", "304", "404", "500", "503", "504")


def _named(
    known: Iterable[str], counts: Counter[int], name: Callable[[int], str]
) -> dict[str, int]:
    # Common names are there as 0 before anything is counted: a rate needs two figures.
    named = Counter(dict.fromkeys(known, 0))
    for status, count in sorted(counts.items()):
        named[name(status)] += count
    return dict(named)


def merge(trees: Iterable[Tree]) -> Tree:
    """Return one tree with the sums of all numbers of ``trees``, which are not changed."""
    merged: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            merged[key] = _sum(merged[key], value) if key in merged else value
    return merged


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return merge([one, other])
    if isinstance(one, list):
        return list(map(add, one, other))
    return one + other


def quantile(share: float, buckets: Sequence[int]) -> float:
    """Return the seconds within which ``share`` of the requests stay; 0 if there are none.

    ``buckets`` are cumulative, as in a snapshot, or differences of two snapshots. The times within
    a bucket are assumed to be spread evenly, as in Prometheus' ``histogram_quantile``; for those
    beyond the last bound the result is that bound.
    """
    wanted = share * buckets[-1]
    lower = 0.0
    for bound, (below, up_to) in zip(BOUNDS, pairwise((0, *buckets)), strict=False):
        if up_to > below and up_to >= wanted:
            return lower + (bound - lower) * max(0.0, wanted - below) / (up_to - below)
        lower = bound
    return lower if buckets[-1] else 0.0
