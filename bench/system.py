"""Asks the kernel for cores, limits, and the cost of a process tree. Linux only.

A server may be several processes (granian and gunicorn keep a master beside their one worker), so
memory and processor time are always those of the whole tree. Nothing here starts or ends anything.
"""

from __future__ import annotations

import os
import resource
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


class Cores(NamedTuple):
    """Where the two sides of a measurement run; the same core twice on a machine with only one."""

    server: frozenset[int]
    load: frozenset[int]


def choose_cores() -> Cores:
    """The first core that this process may use for the server, the last for the load."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(allowed[:1]), frozenset(allowed[-1:]))


@contextmanager
def running_on(cores: frozenset[int]) -> Iterator[None]:
    """Pin this thread, and the processes that it starts, to ``cores`` for a block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one, for children too; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def process_tree(pid: int) -> list[int]:
    """``pid`` and its descendants; empty once it has gone."""
    tree: list[int] = []
    todo = [pid]
    while todo:
        current = todo.pop()
        try:
            tasks = list((PROC / str(current) / "task").iterdir())
            for task in tasks:
                todo += map(int, (task / "children").read_text().split())
        except OSError:
            continue
        tree.append(current)
    return tree


def resident_kib(pid: int) -> int:
    """Resident memory of the tree in KiB, a page counted in each process that maps it."""
    return sum(_memory(process, "Rss:") for process in process_tree(pid))


def proportional_kib(pid: int) -> int:
    """The same with each shared page divided among the processes that map it."""
    return sum(_memory(process, "Pss:") for process in process_tree(pid))


def cpu_seconds(pid: int) -> float:
    """Processor time of the tree so far, user and system, to the clock tick (10 ms)."""
    return sum(_cpu_ticks(process) for process in process_tree(pid)) / TICKS_PER_SECOND


def poll(deadline: float, pause: float = 0.002) -> Iterator[None]:
    """Yield until the monotonic ``deadline``, ``pause`` seconds apart; the caller breaks out."""
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)


def _memory(pid: int, field: str) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def _cpu_ticks(pid: int) -> int:
    try:
        # Split behind the command's name, which may hold spaces and parentheses (proc(5)).
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    user, system = fields[11:13]
    return int(user) + int(system)
