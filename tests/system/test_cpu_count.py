"""The number of processors, from faked trees of /proc and /sys."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

import pytest

from aiowsgi.system.cpu_count import cpu_quota, usable_cpus

V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "33 24 0:28 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
OTHER_MOUNTS = (
    "22 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "34 24 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def tree(base: Path, group: str, mounts: str, files: dict[str, str]) -> str:
    """Write a fake system; return its root."""
    files = {
        "proc/self/cgroup": group,
        "proc/self/mountinfo": OTHER_MOUNTS + mounts,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(base)


NESTED = "0::/a/b\n"


@pytest.mark.parametrize(
    ("group", "root", "limits", "quota"),
    [
        pytest.param("0::/\n", "/", {"": "150000 100000\n"}, 1.5, id="container"),
        pytest.param("0::/\n", "/", {"": "max 100000\n"}, inf, id="no quota"),
        pytest.param("0::/\n", "/", {}, inf, id="no file"),
        pytest.param("0::/\n", "/", {"": "nonsense"}, inf, id="nonsense"),
        pytest.param("0::/\n", "/", {"": "100 0\n"}, inf, id="no period"),
        pytest.param(NESTED, "/", {"a": "200000 100000", "a/b": "max 100000"}, 2, id="outer"),
        pytest.param(NESTED, "/", {"a": "200000 100000", "a/b": "50000 100000"}, 0.5, id="inner"),
        pytest.param("0::/docker/1\n", "/docker/1", {"": "300000 100000\n"}, 3, id="mounted alone"),
        pytest.param("0::/../other\n", "/", {"": "300000 100000\n"}, 3, id="outside"),
        pytest.param("", "/", {"": "300000 100000\n"}, inf, id="in no group"),
    ],
)
def test_version_2(
    tmp_path: Path, group: str, root: str, limits: dict[str, str], quota: float
) -> None:
    """The minimum of ``cpu.max`` of the group and its ancestors counts."""
    files = {f"{directory}/cpu.max": text for directory, text in limits.items()}
    assert cpu_quota(tree(tmp_path, group, V2_MOUNT.format(root=root), files)) == quota


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("250000\n", "100000\n", 2.5), ("-1\n", "100000\n", inf), ("", "", inf)],
)
@pytest.mark.parametrize(
    ("group", "root", "where"),
    [("/docker/1", "/docker/1", ""), ("/docker/1", "/", "docker/1/"), ("/elsewhere", "/other", "")],
)
def test_version_1(
    tmp_path: Path, group: str, root: str, where: str, quota: str, period: str, expected: float
) -> None:
    """``cpu.cfs_quota_us`` by ``cpu.cfs_period_us`` of the controller ``cpu``."""
    base = f"cpu,cpuacct/{where}"
    files = {f"{base}cpu.cfs_quota_us": quota, f"{base}cpu.cfs_period_us": period}
    groups = f"5:memory:/m\n4:cpu,cpuacct:{group}\n0::/unified\n"
    assert cpu_quota(tree(tmp_path, groups, V1_MOUNT.format(root=root), files)) == expected


def test_no_proc(tmp_path: Path) -> None:
    """A system without /proc sets no quota."""
    assert cpu_quota(str(tmp_path)) == inf


@pytest.mark.parametrize(
    ("quota", "allowed", "expected"),
    [("50000", {0, 1}, 1), ("150000", {0, 1, 2}, 2), ("900000", {0, 3}, 2), ("max", {0, 3}, 2)],
)
def test_usable(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quota: str,
    allowed: set[int],
    expected: int,
) -> None:
    """The quota, rounded up, or the affinity mask, whichever is less; at least 1."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)
    root = tree(tmp_path, "0::/\n", V2_MOUNT.format(root="/"), {"cpu.max": f"{quota} 100000\n"})
    assert usable_cpus(root) == expected


def test_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an affinity mask, the machine's processors count."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cpus(str(tmp_path)) == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(str(tmp_path)) == 1
