"""When a worker is worn."""

from __future__ import annotations

import builtins
import random
import resource
import sys
from mmap import PAGESIZE, mmap

import pytest

from aiowsgi.config.options import Config
from aiowsgi.supervisor.recycling import RecyclingLimits
from aiowsgi.system.memory import resident_bytes


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (RecyclingLimits(), None),
        (RecyclingLimits(requests=11), None),
        (RecyclingLimits(requests=10), "10 requests served"),
        (RecyclingLimits(rss=3 << 20), None),
        (RecyclingLimits(rss=2 << 20), "2 MiB of memory"),
        (RecyclingLimits(lifetime=60.5), None),
        (RecyclingLimits(lifetime=60), "60 s of service"),
        (RecyclingLimits(11, 1, 1), "2 MiB of memory"),
    ],
)
def test_reason(limits: RecyclingLimits, reason: str | None) -> None:
    """The first limit that is reached is the reason; none where all hold, and 0 is no limit."""
    assert limits.reason(requests=10, rss=(2 << 20) + 1, age=60.0) == reason


def test_jitter() -> None:
    """The jitter adds at random; it adds nothing where there is no limit."""
    config = Config(max_requests=100, max_requests_jitter=20, max_rss="1M", max_lifetime="1h")
    drawn = [RecyclingLimits.of(config, random.Random(seed)) for seed in range(200)]
    assert {limits.requests for limits in drawn} == set(range(100, 121))
    assert {limits[1:] for limits in drawn} == {(1 << 20, 3600.0)}
    assert RecyclingLimits.of(Config(max_requests_jitter=20), random.Random(1)) == RecyclingLimits()


def test_resident_bytes() -> None:
    """Memory in use grows with what is used and is given back.

    It is the kernel's own: an allocator may have kept some that is resident already.
    """
    before = resident_bytes()
    with mmap(-1, 64 << 20) as block:
        for page in range(0, len(block), PAGESIZE):
            block[page] = 1
        grown = resident_bytes()
        assert grown - before > 50 << 20
    assert resident_bytes() < grown - (50 << 20)


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd14", 1024)])
def test_peak(monkeypatch: pytest.MonkeyPatch, platform: str, unit: int) -> None:
    """Without /proc it is the peak, whose unit depends on the system."""

    def fail(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", fail)
    monkeypatch.setattr(sys, "platform", platform)
    assert resident_bytes() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
