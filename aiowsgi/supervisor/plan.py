"""Which workers to start and which to retire, as a function of facts.

A `Member` is what is known of one worker process. Its states::

    STARTING ──ready──> READY ──told to retire──> RETIRING ──> ended
        └──────────────────┴───────── died ──────────────────> ended

`plan` looks at all members and says which are missing and which are too many. It is called again
after each event, so it plans one step and never has to foresee the next. The rules:

* A member that is expired, or of an older generation, retires only when a ready one has taken its
  place: the number of members that serve never sinks below ``size`` by a decision of ours.
* There are never more than ``size + surge`` members that start or serve. Members that retire do not
  count, since how long they take is decided by their clients.
* A member of a newer generation is on trial, and no part of the plan until its generation is.

No process, clock or loop is known here; the processes are in ``supervisor/worker_group.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, NamedTuple, TypeVar

__all__ = ["Backoff", "Member", "Plan", "WorkerState", "plan", "surge_of"]


class WorkerState(Enum):
    """See the module's docstring."""

    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"


@dataclass(slots=True, eq=False)
class Member:
    """One worker process."""

    pid: int
    generation: int
    """Number of the configuration that it runs; grows with each reload."""
    state: WorkerState = WorkerState.STARTING
    since: float = 0.0
    """When it entered its state, monotonic seconds."""
    expired: bool = False
    """It has asked to be replaced."""
    missed: int = 0
    """Beats that were due since the last one came."""


M = TypeVar("M", bound=Member)


class Plan(NamedTuple, Generic[M]):
    """What is to be done now."""

    start: int
    """Members to start."""
    retire: list[M]
    """Members to retire."""


def surge_of(size: int) -> int:
    """Members that may exist beyond ``size`` during an exchange: a quarter, one at least.

    One at a time would take minutes if there are many and starting is slow; all at once would
    double the memory. A quarter is what Kubernetes allows its rolling updates.
    """
    return max(1, size // 4)


def plan(members: Collection[M], size: int, generation: int) -> Plan[M]:
    """The next step towards ``size`` ready members of ``generation``, none of them expired."""
    active = [
        m for m in members if m.state is not WorkerState.RETIRING and m.generation <= generation
    ]
    fresh = [m for m in active if m.generation == generation and not m.expired]
    stale = [m for m in active if m.generation < generation or m.expired]
    # Their code is out of date before they serve.
    retire = [m for m in stale if m.state is WorkerState.STARTING]
    serving = _ready(stale)
    surplus = len(serving) + len(_ready(fresh)) - size
    retire += serving[: max(0, surplus)]
    # The newest first: they have the fewest caches and connections to lose.
    retire += sorted(fresh, key=_newest)[: max(0, len(fresh) - size)]
    room = size + surge_of(size) - (len(active) - len(retire))
    return Plan(max(0, min(size - len(fresh), room)), retire)


def _ready(members: Iterable[M]) -> list[M]:
    """The members that serve, the longest-serving first."""
    return sorted((m for m in members if m.state is WorkerState.READY), key=lambda m: m.since)


def _newest(member: Member) -> tuple[bool, float]:
    return member.state is WorkerState.READY, -member.since


# After a failure

STEADY: Final = 1.0
"""Seconds that a member has to serve for its death not to count as a failed start. A guess."""

_FIRST: Final = 0.1
_LONGEST: Final = 5.0
"""Bounds of a pause, in seconds. A longer one would save little and keep requests waiting."""


class Backoff:
    """How long to wait before the next start, after members that died soon after theirs."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    def died(self, member: Member, now: float) -> None:
        """Note a death that was not asked for.

        The first is followed by a new start at once, and so is that of every member that had served
        for a while.
        """
        if member.state is WorkerState.READY and now - member.since >= STEADY:
            self._failures = 0
        else:
            self.failed(now)

    def failed(self, now: float) -> None:
        """Note a start that failed."""
        if self._failures:
            self._until = now + min(_FIRST * 2.0 ** (self._failures - 1), _LONGEST)
        self._failures += 1

    def pause(self, now: float) -> float:
        """Seconds until the next start is due; 0 if one may be made now."""
        return max(0.0, self._until - now)
