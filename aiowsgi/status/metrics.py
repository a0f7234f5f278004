"""What is counted of a process's exchanges, and how counts of several processes become one.

The laws:

* Nothing here locks, sleeps or asks the time: `Counts` belongs to who calls it. How the samples of
  many threads reach it is the business of ``bridge/tally.py``.
* What leaves is JSON: a tree of dicts whose leaves are numbers and lists of numbers. `merge` adds
  two of them up without knowing what they mean, so a new figure is added in one place.
* Counts only grow. Gauges, which go up and down, are read when they are asked for
  (``server/status.py``).

Samples are counted by the batch. A thread that finishes an exchange only leaves its times; of
some hundred of them the histograms are made by ``sorted`` and ``bisect``, which costs a third of
finding the bucket of each by itself.
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
    """What is kept of an exchange that is over, until it is counted. Times are seconds."""

    status: int
    """0 where nothing was answered."""
    bytes: int
    """Of the response's body."""
    read: float
    """From the request's first byte until it was given to the pool."""
    queue: float
    """Until a thread took it."""
    app: float
    """From then until the thread was done with it."""
    write: float
    """Of that, what came after the last byte of the response was sent, or kept for a slow client.
    The application's ``close()``, mostly."""
    request: float
    """From the first byte of the request to the last of the response."""


Tree: TypeAlias = dict[str, Any]
"""A dict of dicts, of numbers and of lists of numbers."""

BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds of the histograms' buckets, seconds. Those of the Prometheus client libraries from
5 ms to 10 s; finer ones below, where a quick application lives, and two above, for a queue."""

WIDTH: Final = len(Sample._fields)

PHASES: Final = Sample._fields[2:]
"""What is timed."""

REASONS: Final = {
    400: "malformed",
    408: "slow",
    413: "body-too-large",
    414: "target-too-long",
    421: "misdirected",
    431: "head-too-large",
    501: "not-implemented",
    503: "overload",
    504: "timeout",
    505: "version",
    507: "no-space",
}
"""Why the server answered by itself, by the status that it gave."""


class Counts:
    """The counts of one process since its start."""

    def __init__(self) -> None:
        # Responses by status code, those of the server itself among them.
        self._statuses: Counter[int] = Counter()
        # Answers that no application was asked for, by status code.
        self._refusals: Counter[int] = Counter()
        # Clients that went before their response was complete.
        self._disconnects = 0
        self._bytes = 0
        # By phase: how many are in each bucket, the last of which has no bound, and the sum of all.
        self._buckets = {phase: [0] * (len(BOUNDS) + 1) for phase in PHASES}
        self._seconds = dict.fromkeys(PHASES, 0.0)

    def add(self, values: Sequence[Any]) -> None:
        """Count exchanges that are over: the fields of one `Sample` after the other.

        Flat, since that is read by the column in a third of the time that rows take.
        """
        statuses, sizes, *times = (values[number::WIDTH] for number in range(WIDTH))
        self._statuses.update(statuses)
        self._bytes += sum(sizes)
        for phase, column in zip(PHASES, times, strict=True):
            self._time(phase, sorted(column))

    def add_untimed(self, status: int, sizes: Sequence[int]) -> None:
        """Count exchanges that are over, of which only status and size are known."""
        if sizes:
            self._statuses[status] += len(sizes)
            self._bytes += sum(sizes)

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

    def refused(self, status: int, size: int) -> None:
        """The server answered by itself, with ``size`` bytes of body."""
        self._statuses[status] += 1
        self._refusals[status] += 1
        self._bytes += size

    def disconnected(self) -> None:
        """A client went before its response was complete."""
        self._disconnects += 1

    def snapshot(self) -> Tree:
        """All counts so far."""
        return {
            "requests": _named(_CLASSES, self._statuses, lambda status: f"{status // 100}xx"),
            "refusals": _named(
                REASONS.values(), self._refusals, lambda status: REASONS.get(status, str(status))
            ),
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


def _named(
    known: Iterable[str], counts: Counter[int], name: Callable[[int], str]
) -> dict[str, int]:
    # What may come is there as 0 before it comes: a rate needs two figures.
    named = Counter(dict.fromkeys(known, 0))
    for status, count in sorted(counts.items()):
        named[name(status)] += count
    return dict(named)


def merge(trees: Iterable[Tree]) -> Tree:
    """One tree in which all numbers of ``trees`` are added up; none of them is changed."""
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
    """Seconds within which ``share`` of the timed fall; 0 where there are none.

    ``buckets`` are cumulative, as in a snapshot, or the differences of two. Within a bucket the
    times are taken to be spread evenly, as Prometheus' ``histogram_quantile`` takes them; of those
    beyond the last bound no more is known than the bound.
    """
    wanted = share * buckets[-1]
    lower = 0.0
    for bound, (below, up_to) in zip(BOUNDS, pairwise((0, *buckets)), strict=False):
        if up_to > below and up_to >= wanted:
            return lower + (bound - lower) * max(0.0, wanted - below) / (up_to - below)
        lower = bound
    return lower if buckets[-1] else 0.0
