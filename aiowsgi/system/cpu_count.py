"""Counts the processors that this process may use, for ``--workers auto``.

The number of the machine's processors is wrong in a container. The result is the minimum of

* the affinity mask: the processors on which the scheduler may run the process
  (sched_getaffinity(2));
* the cgroup's CPU quota and those of its visible ancestors: ``cpu.max`` of version 2,
  ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` of version 1.

A quota is rounded up: with 1.5 processors, one process could not use the quota up. A file that
cannot be read sets no limit. Weights (``cpu.weight``) are ignored, because they do not limit an
idle machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil, inf
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

__all__ = ["cpu_quota", "usable_cpus"]


def usable_cpus(root: str = "/") -> int:
    """Return the number of processors, at least 1. ``root`` contains ``proc`` and ``sys``."""
    return max(1, min(_affinity(), ceil(min(cpu_quota(root), _MANY))))


_MANY: Final = 1 << 20
"""More processors than any machine has; stands for "no limit"."""


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and others have no such mask


def cpu_quota(root: str = "/") -> float:
    """Return the number of processors that the cgroups' quotas allow; infinity without a limit."""
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
    """A mounted cgroup hierarchy (proc_pid_mountinfo(5))."""

    version: int
    group: str
    """The group at the root of this mount; a container sees only its own group."""
    point: str


def _groups(base: Path) -> Iterator[tuple[int, str]]:
    """Yield the version of each CPU hierarchy, and the process's group in it (cgroups(7))."""
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
    """Yield the directories of ``group`` and of its ancestors, as far as they are mounted."""
    path = PurePosixPath(group)
    # In its own cgroup namespace a process reads "/" as its group and as the root of the mount.
    # Without one, the group may not be below the root of the mount: use the root then.
    inside = path.relative_to(mount.group) if path.is_relative_to(mount.group) else None
    top = base / mount.point.lstrip("/")
    below = PurePosixPath("." if inside is None or ".." in inside.parts else inside)
    yield from (top / step for step in (below, *below.parents))


# What they grant


def _read_v2(directory: Path) -> float | None:
    """Read ``cpu.max``: the quota in microseconds, or ``max``, and the period in microseconds."""
    return _ratio(*_read(directory / "cpu.max").split())


def _read_v1(directory: Path) -> float | None:
    """Read quota and period of version 1; a quota of -1 is no limit."""
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
