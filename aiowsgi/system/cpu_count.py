"""How many processors this process may really use: what ``--workers auto`` means.

The number in the machine is the wrong one in a container. What counts is the least of

* the affinity mask: the processors that the scheduler may put us on (sched_getaffinity(2));
* the cgroup's quota of processor time, its own and those of all groups above it that can be seen:
  ``cpu.max`` of version 2, ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` of version 1.

A quota of one and a half is rounded up: one process could not use it up.

Files only are read here, and what cannot be read sets no bound. Weights (``cpu.weight``) say
nothing about an idle machine and are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil, inf
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

__all__ = ["cpu_quota", "usable_cpus"]


def usable_cpus(root: str = "/") -> int:
    """Number of processors, one at least. ``root`` is where ``proc`` and ``sys`` are found."""
    return max(1, min(_affinity(), ceil(min(cpu_quota(root), _MANY))))


_MANY: Final = 1 << 20
"""More processors than any machine has; stands for "no bound"."""


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and others have no such mask


def cpu_quota(root: str = "/") -> float:
    """Processors' worth of time that the cgroups grant; infinity where they set no bound."""
    base = Path(root)
    groups = dict(_groups(base))
    quotas = [
        quota
        for mount in _mounts(base)
        if (group := groups.get(mount.version)) is not None
        for directory in _lineage(base, mount, group)
        if (quota := _READERS[mount.version](directory)) is not None
    ]
    return min(quotas, default=inf)


# Where the groups are

_V1: Final = 1
_V2: Final = 2


class _Mount(NamedTuple):
    """A mounted hierarchy (proc_pid_mountinfo(5))."""

    version: int
    group: str
    """The group that is the root of this mount: a container sees no more than its own."""
    point: str


def _groups(base: Path) -> Iterator[tuple[int, str]]:
    """The version of each hierarchy that limits processors, and our group in it (cgroups(7))."""
    for line in _read(base / "proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0" and not controllers:
            yield _V2, group
        elif "cpu" in controllers.split(","):
            yield _V1, group


def _mounts(base: Path) -> Iterator[_Mount]:
    for line in _read(base / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        group, point = before.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind == "cgroup2":
            yield _Mount(_V2, group, point)
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield _Mount(_V1, group, point)


def _lineage(base: Path, mount: _Mount, group: str) -> Iterator[Path]:
    """The directories of ``group`` and of all groups above it, as far as they are mounted."""
    path = PurePosixPath(group)
    # With a namespace of its own, a process reads "/" as its group and as the mount's root; without
    # one it may read a group that is not below the root of what is mounted for it: then look there.
    inside = path.relative_to(mount.group) if path.is_relative_to(mount.group) else None
    top = base / mount.point.lstrip("/")
    below = PurePosixPath("." if inside is None or ".." in inside.parts else inside)
    yield from (top / step for step in (below, *below.parents))


# What they grant


def _read_v2(directory: Path) -> float | None:
    """``cpu.max``: microseconds of time, or ``max``, and microseconds of the period."""
    return _ratio(*_read(directory / "cpu.max").split())


def _read_v1(directory: Path) -> float | None:
    """A quota of -1 is none."""
    quota, period = (_read(directory / f"cpu.cfs_{name}_us").strip() for name in _V1_FILES)
    return _ratio(quota, period)


_V1_FILES: Final = ("quota", "period")

_READERS: Final = {_V1: _read_v1, _V2: _read_v2}


def _ratio(quota: str = "", period: str = "") -> float | None:
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        return int(quota) / int(period)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
