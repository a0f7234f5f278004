"""The status of the last minutes, sampled from a source of the test's own."""

from __future__ import annotations

import asyncio

import pytest
from status_samples import a_report
from support import PATIENCE

from aiowsgi.admin import history as module
from aiowsgi.admin.history import POINT, StatusHistory
from aiowsgi.status.aggregate import ServerFacts, WorkerReport, overview
from aiowsgi.status.metrics import Counts, Sample


class Source:
    """A server in which ten requests are served between two samples, two seconds apart."""

    def __init__(self):
        self.counts = Counts()
        self.time = 100.0
        self.failures = 0

    async def __call__(self, *detail):
        if self.failures:
            self.failures -= 1
            raise OSError("no status")
        report = {**a_report(), "counts": {**self.counts.snapshot(), "dropped": 0}}
        tree = overview(ServerFacts(self.time, 5.0), [WorkerReport(7, 1, "ready", report)])
        self.time += 2.0
        for _ in range(9):
            self.counts.add(list(Sample(200, 1, 0, 0, 0.002, 0, 0.002)))
        self.counts.add(list(Sample(503, 1, 0, 0.2, 0, 0, 0.2)))
        return tree


@pytest.fixture
def source():
    """Where the status comes from."""
    return Source()


@pytest.fixture
async def history(source, monkeypatch):
    """A history that samples without a pause."""
    monkeypatch.setattr(module, "PERIOD", 0.0)
    history = StatusHistory(source)
    task = asyncio.create_task(history.run())
    yield history
    task.cancel()


def named(point):
    """The values of a point by name."""
    return dict(zip(POINT, point, strict=True))


async def test_points(history):
    """Rates and latencies are those between two samples; gauges are those of the second."""
    async with asyncio.timeout(PATIENCE):
        await history.latest()
        await history.next()
    first, second, *_ = map(named, history.points()["points"])
    assert (first["time"], first["rate"], first["p50"], first["queue"]) == (100.0, None, None, 6)
    assert (second["time"], second["rate"], second["errors"]) == (102.0, 5.0, 0.5)
    assert 0.001 < second["p50"] < 0.0025 < 0.1 < second["p99"] <= 0.25
    assert second["wait"] > 0.1
    assert (second["busy"], second["threads"], second["detached"]) == (2, 7, 1)


async def test_the_number_of_points_is_bounded(source, monkeypatch):
    """The oldest go first."""
    history = StatusHistory(source)
    for _ in range(module.KEPT + 3):
        await history._sample()
    points = history.points()["points"]
    assert len(points) == module.KEPT
    assert points[0][0] == 106.0


async def test_a_sample_that_fails_is_not_the_last(source, history, caplog):
    """It is logged, the sample before stays, and the next one is taken."""
    async with asyncio.timeout(PATIENCE):
        await history.latest()
        source.failures = 2
        while source.failures:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0)
        assert (await history.latest())["time"] < (await history.next())["time"]
    assert caplog.text.count("internal error while sampling the status") == 2


async def test_a_server_without_responses_has_no_latency(source):
    """Nor has one whose counts begin anew, as after a restart."""
    history = StatusHistory(source)
    await history._sample()
    source.counts = Counts()
    await history._sample()
    point = named(history.points()["points"][1])
    assert (point["rate"], point["p50"], point["wait"]) == (0.0, None, None)
