"""The criteria that aiowsgi should meet: a figure and its bound, often a peer's figure.

A bound is a factor times the best of some peers, or a plain number. A row whose figures were not
measured is neither passed nor failed. This module only compares figures; others measure them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

Medians: TypeAlias = Mapping[tuple[str, str, str], float]
"""Median by workload, server and the metric's key."""

H11 = "aiowsgi-h11"
HTTPTOOLS = "aiowsgi-httptools"
PYTHON_PEERS = ("waitress", "cheroot", "gunicorn-gthread", "hypercorn", "uvicorn+a2wsgi")
"""The peers of aiowsgi with h11: their parsers are in Python too."""


class Relation(Enum):
    """On which side of its bound a figure must be; an equal one passes."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


AT_LEAST, AT_MOST = Relation


@dataclass(frozen=True, slots=True)
class Criterion:
    """One sentence such as "small: requests/s of h11 are at least 1.8 times the best of these"."""

    workload: str
    metric: str
    server: str
    relation: Relation
    factor: float
    peers: tuple[str, ...] = ()
    """Servers whose best figure is multiplied by the factor; if empty, the factor is the bound."""

    def bound(self, medians: Medians) -> float | None:
        """The figure to reach, or None if no peer was measured."""
        if not self.peers:
            return self.factor
        keys = [(self.workload, peer, self.metric) for peer in self.peers]
        figures = [medians[key] for key in keys if key in medians]
        if not figures:
            return None
        return self.factor * (max(figures) if self.relation is AT_LEAST else min(figures))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A criterion and its outcome; ``passed`` is None if a figure is missing."""

    criterion: Criterion
    value: float | None
    bound: float | None
    passed: bool | None


def judge(criterion: Criterion, medians: Medians) -> Verdict:
    """Compare one figure with its bound."""
    value = medians.get((criterion.workload, criterion.server, criterion.metric))
    bound = criterion.bound(medians)
    if value is None or bound is None:
        return Verdict(criterion, value, bound, None)
    passed = value >= bound if criterion.relation is AT_LEAST else value <= bound
    return Verdict(criterion, value, bound, passed)


def _both(
    workload: str, metric: str, relation: Relation, factor: float
) -> tuple[Criterion, Criterion]:
    """The same plain bound for both parsers."""
    return (
        Criterion(workload, metric, H11, relation, factor),
        Criterion(workload, metric, HTTPTOOLS, relation, factor),
    )


CRITERIA = (
    Criterion("small", "rate", H11, AT_LEAST, 1.8, PYTHON_PEERS),
    Criterion("small", "rate", HTTPTOOLS, AT_LEAST, 1.0, ("granian",)),
    Criterion("small", "rate", f"{HTTPTOOLS}+log", AT_LEAST, 0.85, (HTTPTOOLS,)),
    Criterion("one", "p50", H11, AT_MOST, 0.7, ("waitress",)),
    Criterion("one", "p50", HTTPTOOLS, AT_MOST, 1.0, ("granian",)),
    *_both("keepalive", "ratio", AT_LEAST, 1.5),
    Criterion("flask", "rate", H11, AT_LEAST, 1.2, ("waitress",)),
    Criterion("flask", "rate", HTTPTOOLS, AT_LEAST, 1.0, ("granian",)),
    Criterion("wait", "share", H11, AT_LEAST, 0.95),
    Criterion("wait", "share", HTTPTOOLS, AT_LEAST, 0.97),
    Criterion("download", "megabytes", H11, AT_LEAST, 1.0, ("gunicorn-gthread",)),
    Criterion("download", "megabytes", HTTPTOOLS, AT_LEAST, 1.0, ("granian",)),
    Criterion("download-file", "megabytes", H11, AT_LEAST, 1.0, ("gunicorn-gthread",)),
    Criterion("download-file", "megabytes", HTTPTOOLS, AT_LEAST, 1.0, ("granian",)),
    Criterion("upload", "megabytes", H11, AT_LEAST, 1.0, ("uvicorn+a2wsgi",)),
    Criterion("upload", "megabytes", HTTPTOOLS, AT_LEAST, 0.8, ("granian",)),
    *_both("idle", "kept", AT_LEAST, 5_000),
    *_both("idle", "kib", AT_MOST, 6.0),
    *_both("idle", "ratio", AT_LEAST, 0.9),
    Criterion("start", "start", H11, AT_MOST, 1.0, ("gunicorn-gthread",)),
    *_both("start", "rss", AT_MOST, 30.0),
)
