"""The worker processes as the supervisor has them: started, listened to, told to go, buried.

A `WorkerGroup` carries out what its owner decides, and tells it what matters of a worker: that it
is ready, that it is worn or accepts no more, that it has ended. Whom to start and whom to send away
is none of its business (``supervisor/plan.py``), nor is what that means for a start or a reload
(``supervisor/supervisor.py``).

Only the health of a worker's event loop is watched, by its beats: an application may take as long
as it likes. A worker that is starting does not beat, for importing may take long too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from aiowsgi.supervisor.channel import BEAT, Channel, Message, encode
from aiowsgi.supervisor.load_board import ConnectionCounts
from aiowsgi.supervisor.plan import Member, WorkerState
from aiowsgi.supervisor.spawn import spawn

if TYPE_CHECKING:
    from aiowsgi.net.listeners import Listeners

__all__ = ["Owner", "WorkerGroup", "WorkerProcess"]

logger = logging.getLogger("aiowsgi")

SILENCE: Final = 30
"""Beats that may be missed before an event loop is taken to be stuck. Beats are counted, not
seconds, so that nobody is killed for a time in which the whole machine, or all of us, stood still.
"""

ABORT_MARGIN: Final = 5
"""Beats from ABRT, which has the worker show where it is stuck, to KILL."""

KILL_MARGIN: Final = 5.0
"""Seconds beyond its grace after which a worker that retires is killed: the time of its exit."""


@dataclass(slots=True, eq=False, kw_only=True)
class WorkerProcess(Member):
    """A member of the crew, and what it takes to deal with it."""

    channel: Channel
    place: int
    """On the board; the lowest that was free."""
    served: bool = False
    """It has been ready."""
    accepting: bool = False
    """It may get connections."""
    unfit: str = ""
    """Why it should get none, though it serves; empty if there is nothing."""
    failure: Message | None = None
    """Why it could not start, if it said so."""
    deadline: asyncio.TimerHandle | None = None
    """Kills it, while it retires and has a limit."""

    def epitaph(self, status: int) -> str:
        """How it came to its end, in its own words if there are any."""
        if self.failure is not None:
            return f"{self.failure['traceback']}{self.failure['message']}"
        cause = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        when = "" if self.served else " before it served"
        return f"worker {self.pid} has ended{when}: {cause}"


class Owner(Protocol):
    """Who is told of the workers."""

    def worker_ready(self, worker: WorkerProcess, broken: str) -> None:
        """It serves; ``broken`` says why not what it should, see ``supervisor/channel.py``."""

    def worker_changed(self) -> None:
        """One is worn, or accepts no more."""

    def worker_reported(self, worker: WorkerProcess, message: Message) -> None:
        """It says what it does; see ``supervisor/channel.py``."""

    def worker_ended(self, worker: WorkerProcess, status: int) -> None:
        """It is gone; ``status`` is its exit status, or minus the signal that ended it."""


class WorkerGroup:
    """The workers that there are; on the running event loop."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._workers: dict[int, WorkerProcess] = {}
        self._memory = ConnectionCounts.make()
        self._board = ConnectionCounts(self._memory)
        # uvloop keeps SIGCHLD to itself: there, each child is watched by a descriptor.
        self._has_signal = True
        try:
            self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        except RuntimeError:
            self._has_signal = False
        self._timer = self._loop.call_later(BEAT, self._watch)

    def close(self) -> None:
        """Kill who is left, and watch nobody any more."""
        for worker in self:
            self.kill(worker)
        self._timer.cancel()
        if self._has_signal:
            self._loop.remove_signal_handler(signal.SIGCHLD)

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(tuple(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def ready(self) -> list[WorkerProcess]:
        """Those who serve and are to go on."""
        return [worker for worker in self if worker.state is WorkerState.READY]

    # Coming

    def start(self, generation: int, charge: Message, listeners: Listeners) -> WorkerProcess:
        """Start a worker. Raises OSError."""
        taken = {worker.place for worker in self}
        place = next(place for place in count() if place not in taken)
        first = encode("charge", **charge, board=self._memory, place=place)
        pid, sock = spawn(first, [self._memory, *(s.fileno() for s in listeners.sockets)])
        channel = Channel(self._loop, sock, lambda message: self._hear(pid, message), lambda: None)
        worker = WorkerProcess(pid, generation, since=monotonic(), channel=channel, place=place)
        self._workers[pid] = worker
        if not self._has_signal:
            descriptor = os.pidfd_open(pid)
            self._loop.add_reader(descriptor, self._ended, pid, descriptor)
        logger.debug("worker %d is starting", pid)
        return worker

    def _hear(self, pid: int, message: Message) -> None:
        handle = self._HEARD.get(message["kind"])
        if handle is not None and pid in self._workers:
            handle(self, self._workers[pid], message)

    def _on_ready(self, worker: WorkerProcess, message: Message) -> None:
        logger.debug("worker %d is ready", worker.pid)
        worker.served = worker.accepting = True
        if worker.state is WorkerState.STARTING:
            worker.state, worker.since = WorkerState.READY, monotonic()
        self._owner.worker_ready(worker, message["broken"])

    def _on_failed(self, worker: WorkerProcess, message: Message) -> None:
        worker.failure = message

    def _on_beat(self, worker: WorkerProcess, _: Message) -> None:
        worker.missed = 0

    def _on_worn(self, worker: WorkerProcess, message: Message) -> None:
        logger.info("worker %d will be replaced: %s", worker.pid, message["reason"])
        worker.worn = True
        if message["unfit"]:
            worker.unfit = message["reason"]
        self._owner.worker_changed()

    def _on_report(self, worker: WorkerProcess, message: Message) -> None:
        self._owner.worker_reported(worker, message)

    def _on_draining(self, worker: WorkerProcess, _: Message) -> None:
        worker.accepting = False
        self._board.clear(worker.place)
        self._owner.worker_changed()

    _HEARD: Final = {
        "ready": _on_ready,
        "failed": _on_failed,
        "beat": _on_beat,
        "worn": _on_worn,
        "draining": _on_draining,
        "report": _on_report,
    }

    def tell_all(self, kind: str) -> None:
        """Send a message to every worker."""
        for worker in self:
            worker.channel.send(kind)

    # Going

    def retire(self, worker: WorkerProcess, grace: float | None) -> None:
        """Have it finish what has begun, within ``grace`` seconds, and go. Once is enough."""
        if worker.state is WorkerState.STARTING:
            self.kill(worker)
        elif worker.state is WorkerState.READY:
            worker.channel.send("retire", grace=grace)
            if grace is not None:
                worker.deadline = self._loop.call_later(grace + KILL_MARGIN, self.kill, worker)
        worker.state = WorkerState.RETIRING

    def kill(self, worker: WorkerProcess) -> None:
        """End it at once."""
        # Until it is reaped, its number cannot be another's.
        os.kill(worker.pid, signal.SIGKILL)

    def _watch(self) -> None:
        """Look for event loops that are stuck."""
        for worker in self:
            worker.missed += worker.served
            if worker.missed == SILENCE:
                logger.error("worker %d is stuck, and will be killed", worker.pid)
                os.kill(worker.pid, signal.SIGABRT)
            elif worker.missed >= SILENCE + ABORT_MARGIN:
                self.kill(worker)
        self._timer = self._loop.call_later(BEAT, self._watch)

    def _ended(self, pid: int, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        if pid in self._workers:
            self._bury(self._workers[pid], os.waitstatus_to_exitcode(status))

    def _reap(self) -> None:
        """Take note of children that have ended; as process 1, also of those of others."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._workers:
                self._bury(self._workers[pid], os.waitstatus_to_exitcode(status))

    def _bury(self, worker: WorkerProcess, status: int) -> None:
        # What it said last has come, but may not have been read yet.
        worker.channel.pump()
        worker.channel.close()
        if worker.deadline is not None:
            worker.deadline.cancel()
        del self._workers[worker.pid]
        self._board.clear(worker.place)
        self._owner.worker_ended(worker, status)
