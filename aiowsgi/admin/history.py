"""The status of the last minutes: a sample each second, for probes and for the plots of the page.

The sampler asks the workers once a second, whether the result is read or not. Therefore a probe is
answered at once, with what was true a second ago, also while a worker does not answer; and the
plots are full when an operator opens the page.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from operator import sub
from typing import TYPE_CHECKING, Final, Protocol

from aiowsgi.status.aggregate import Detail
from aiowsgi.status.metrics import quantile

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = ["POINT", "StatusHistory", "StatusSource"]

logger = logging.getLogger("aiowsgi.admin")

PERIOD: Final = 1.0
"""Seconds between two samples."""

KEPT: Final = 15 * 60
"""Samples that are kept: fifteen minutes, a few hundred kilobytes."""

POINT: Final = (
    *("time", "rate", "errors", "p50", "p90", "p99", "wait"),
    *("queue", "busy", "threads", "detached"),
)
"""Names of the values of a point; rates are a second's, and times are seconds."""


class StatusSource(Protocol):
    """Where the status comes from."""

    async def __call__(self, detail: Detail = Detail.FIGURES) -> Tree:
        """The status now. Returns within a second, whatever a worker does."""


class StatusHistory:
    """Samples the status, and keeps the last samples; see the module's docstring."""

    def __init__(self, source: StatusSource) -> None:
        self._source = source
        self._points: deque[list[float | None]] = deque(maxlen=KEPT)
        # The last sample; None before the first.
        self._latest: Tree | None = None
        # Set, and replaced, when there is a new sample.
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            try:
                await self._sample()
            except Exception:
                # The next sample may succeed; probes go on with the last one.
                logger.exception("internal error while sampling the status")
            await asyncio.sleep(PERIOD)

    async def _sample(self) -> None:
        tree = await self._source()
        self._points.append(_point(tree, self._latest))
        self._latest = tree
        self._arrived.set()
        self._arrived = asyncio.Event()

    async def latest(self) -> Tree:
        """The last sample; waits for the first one."""
        return await self.next() if self._latest is None else self._latest

    async def next(self) -> Tree:
        """Wait for the next sample."""
        await self._arrived.wait()
        assert self._latest is not None
        return self._latest

    def points(self) -> Tree:
        """The points of all samples, oldest first: the names of their values, and the values."""
        return {"names": POINT, "points": list(self._points)}


def _point(now: Tree, before: Tree | None) -> list[float | None]:
    """The values that the page plots. Rates and latencies need a sample ``before``."""
    threads = now["threads"]
    gauges = [now["queued"], threads["busy"], threads["busy"] + threads["idle"]]
    gauges.append(threads["detached"])
    if before is None or now["time"] <= before["time"]:
        return [now["time"], *[None] * 6, *gauges]
    new, old = now["counts"], before["counts"]
    took = now["time"] - before["time"]
    rate = max(0, _responses(new) - _responses(old)) / took
    errors = max(0, new["requests"].get("5xx", 0) - old["requests"].get("5xx", 0)) / took
    latencies = _quantiles(now, before, "request", (0.5, 0.9, 0.99))
    waits = _quantiles(now, before, "queue", (0.99,))
    return [now["time"], rate, errors, *latencies, *waits, *gauges]


def _responses(counts: Tree) -> int:
    return sum(counts["requests"].values())


def _quantiles(
    now: Tree, before: Tree, phase: str, shares: tuple[float, ...]
) -> list[float | None]:
    new, old = (tree["counts"]["seconds"][phase]["buckets"] for tree in (now, before))
    buckets = list(map(sub, new, old))
    return [quantile(share, buckets) if buckets[-1] > 0 else None for share in shares]
