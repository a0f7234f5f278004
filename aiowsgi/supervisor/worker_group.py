"""The worker processes as the supervisor sees them: started, listened to, retired, killed.

A `WorkerGroup` carries out what its owner decides, and tells it what happens to a worker: that it
is ready, that it should be replaced or accepts no more, that it has ended. Which workers to start
and to retire is decided elsewhere (``supervisor/plan.py``), and so is what that means for a start
or a reload (``supervisor/supervisor.py``).

Only a worker's event loop is watched, by its beats: an application may take as long as it likes. A
worker that is starting does not beat, for importing may take long too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from aiowsgi.supervisor.channel import BEAT, Channel, Message
from aiowsgi.supervisor.live_gauges import metrics_directory, remove_live_gauges
from aiowsgi.supervisor.plan import Member, WorkerState
from aiowsgi.supervisor.template import Template
from aiowsgi.supervisor.worker import condition, main

if TYPE_CHECKING:
    from aiowsgi.supervisor.children import Children
    from aiowsgi.supervisor.connection_counts import ConnectionCounts
    from aiowsgi.supervisor.generations import Generation

__all__ = ["Owner", "WorkerGroup", "WorkerProcess"]

logger = logging.getLogger("aiowsgi")

SILENCE: Final = 30
"""Beats that may be missed before an event loop is taken to be stuck. Beats are counted, not
seconds, so that no worker is killed for a time in which the whole machine, or the supervisor, stood
still."""

ABORT_MARGIN: Final = 5
"""Beats from ABRT, which has the worker show where it is stuck, to KILL."""

KILL_MARGIN: Final = 5.0
"""Seconds beyond its grace after which a worker that retires is killed: the time of its exit."""


@dataclass(slots=True, eq=False, kw_only=True)
class WorkerProcess(Member):
    """One worker process, and what it takes to deal with it."""

    channel: Channel = field(init=False)
    place: int
    """Its index in `ConnectionCounts`; the lowest that was free."""
    served: bool = False
    """It has been ready."""
    held: list[str] = field(default_factory=list)
    """Kinds of messages that are sent once it is ready (`children.die_with_parent` says why)."""
    accepting: bool = False
    """It may get connections."""
    unfit: str = ""
    """Why it should get none, though it serves; empty if it may."""
    condition: Message | None = None
    """Its memory and requests, as it said last: about once a second, and when it was asked."""
    failure: Message | None = None
    """Why it could not start, if it said so."""
    killed: bool = False
    """It was to be killed, perhaps before it had a process id."""
    deadline: asyncio.TimerHandle | None = None
    """Kills it, while it retires and has a limit."""

    def cause_of_end(self, status: int) -> str:
        """Why it has ended, in its own words if there are any."""
        if self.failure is not None:
            return f"{self.failure['traceback']}{self.failure['message']}"
        cause = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if status == -signal.SIGKILL and not self.killed:
            cause += " (out of memory?)"
        when = "" if self.served else " before it served"
        return f"worker {self.pid} has ended{when}: {cause}{self._last_seen()}"

    def _last_seen(self) -> str:
        """What it had to do, and its memory."""
        condition = self.condition
        if condition is None:
            return ""
        memory, count = condition["rss"] >> 20, condition["in_flight"]
        shown = "".join(f"\n{request}" for request in condition["requests"])
        more = count - len(condition["requests"])
        shown += f"\nand {more} more" if more else ""
        requests = "1 request" if count == 1 else f"{count} requests"
        return f"; when it was last heard of, it had {memory} MiB of memory and {requests}{shown}"


class Owner(Protocol):
    """Is told what happens to the workers."""

    def worker_ready(self, worker: WorkerProcess, broken: str) -> None:
        """It serves; ``broken`` as in ``supervisor/channel.py``."""

    def worker_changed(self) -> None:
        """A worker should be replaced, or accepts no more."""

    def worker_reported(self, worker: WorkerProcess, message: Message) -> None:
        """It says what it does; see ``supervisor/channel.py``."""

    def worker_ended(self, worker: WorkerProcess, status: int) -> None:
        """It has ended; ``status`` is its exit status, or minus the signal that ended it."""


class WorkerGroup:
    """The workers that there are; on the running event loop."""

    def __init__(self, owner: Owner, children: Children, counts: ConnectionCounts) -> None:
        self._owner = owner
        self._children = children
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._workers: list[WorkerProcess] = []
        # Of the generations that are preloaded, by number.
        self._templates: dict[int, Template] = {}
        # Where the application keeps its Prometheus metrics; empty if it does not.
        self._metrics_directory = metrics_directory(os.environ)
        self._timer = self._loop.call_later(BEAT, self._watch)

    def close(self) -> None:
        """Kill the workers that are left, and watch none any more."""
        for worker in self:
            self.kill(worker)
        for template in self._templates.values():
            template.kill()
        self._timer.cancel()

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(tuple(self._workers))

    def __len__(self) -> int:
        return len(self._workers)

    def ready(self) -> list[WorkerProcess]:
        """The workers that serve and are to go on."""
        return [worker for worker in self if worker.state is WorkerState.READY]

    # Starting

    def start(self, generation: Generation) -> WorkerProcess:
        """Start a worker of ``generation``. Raises OSError."""
        taken = {worker.place for worker in self}
        place = next(place for place in count() if place not in taken)
        worker = WorkerProcess(0, generation.number, since=monotonic(), place=place)
        if generation.config.preload:
            self._fork_by_template(worker, generation)
        else:
            self._fork(worker, generation)
        self._workers.append(worker)
        return worker

    def _fork(self, worker: WorkerProcess, generation: Generation) -> None:
        assignment = generation.assignment
        worker.pid, sock = self._children.fork(
            partial(main, assignment, worker.place),
            partial(self._ended, worker),
            [one.fileno() for one in assignment.listeners.sockets],
            # Two processes cannot share a terminal's input: a debugger would get half of the keys.
            standard_input=generation.size == 1,
        )
        worker.channel = Channel(self._loop, sock, partial(self._hear, worker), lambda: None)
        logger.debug("worker %d is starting", worker.pid)

    def _fork_by_template(self, worker: WorkerProcess, generation: Generation) -> None:
        template = self._templates.get(generation.number)
        if template is None or not template.alive:
            template = Template(generation, self._children, self._ended, self._fork)
            self._templates[generation.number] = template
        ours, theirs = socket.socketpair()
        worker.channel = Channel(self._loop, ours, partial(self._hear, worker), lambda: None)
        template.start(worker, theirs)

    # Messages

    def hear_starting(self) -> None:
        """Read what starting workers have sent: to be called before any is retired.

        A worker that is ready may have accepted connections, and must not be killed.
        """
        for worker in self:
            if worker.state is WorkerState.STARTING:
                worker.channel.pump()

    def _hear(self, worker: WorkerProcess, message: Message) -> None:
        handle = self._HEARD.get(message["kind"])
        if handle is not None:
            handle(self, worker, message)

    def _on_ready(self, worker: WorkerProcess, message: Message) -> None:
        if worker.state is not WorkerState.STARTING:
            # It was killed, a moment too late to be told to retire.
            return
        logger.debug("worker %d is ready", worker.pid)
        worker.served = worker.accepting = True
        worker.state, worker.since = WorkerState.READY, monotonic()
        for kind in worker.held:
            worker.channel.send(kind)
        if message["metrics_directory"]:
            self._metrics_directory = message["metrics_directory"]
        self._owner.worker_ready(worker, message["broken"])

    def _on_failed(self, worker: WorkerProcess, message: Message) -> None:
        worker.failure = message

    def _on_beat(self, worker: WorkerProcess, message: Message) -> None:
        worker.missed = 0
        worker.condition = message

    def _on_expired(self, worker: WorkerProcess, message: Message) -> None:
        logger.info("worker %d will be replaced: %s", worker.pid, message["reason"])
        worker.expired = True
        if message["unfit"]:
            worker.unfit = message["reason"]
        self._owner.worker_changed()

    def _on_report(self, worker: WorkerProcess, message: Message) -> None:
        worker.condition = condition(message["report"])
        self._owner.worker_reported(worker, message)

    def _on_draining(self, worker: WorkerProcess, _: Message) -> None:
        worker.accepting = False
        self._counts.clear(worker.place)
        self._owner.worker_changed()

    _HEARD: Final = {
        "ready": _on_ready,
        "failed": _on_failed,
        "beat": _on_beat,
        "expired": _on_expired,
        "draining": _on_draining,
        "report": _on_report,
    }

    def tell_all(self, kind: str) -> None:
        """Send a message to every worker, or to one that is starting once it is ready."""
        for worker in self:
            if worker.served:
                worker.channel.send(kind)
            else:
                worker.held.append(kind)

    # Ending

    def retire(self, worker: WorkerProcess, grace: float | None) -> None:
        """Have it finish what has begun, within ``grace`` seconds, and exit. Idempotent."""
        if worker.state is WorkerState.STARTING:
            self.kill(worker)
        elif worker.state is WorkerState.READY:
            worker.channel.send("retire", grace=grace)
            if grace is not None:
                worker.deadline = self._loop.call_later(grace + KILL_MARGIN, self.kill, worker)
        worker.state = WorkerState.RETIRING

    def kill(self, worker: WorkerProcess) -> None:
        """End it at once."""
        worker.killed = True
        if worker.pid:
            self._send_signal(worker, signal.SIGKILL)
        else:
            self._templates[worker.generation].cancel(worker)

    @staticmethod
    def _send_signal(worker: WorkerProcess, number: int) -> None:
        # Until it has been waited for, its number cannot be another process's. If its template was
        # killed, process 1 has waited for it, and its channel says that it has ended.
        with suppress(ProcessLookupError):
            os.kill(worker.pid, number)

    def _watch(self) -> None:
        """Look for event loops that are stuck."""
        for worker in self:
            worker.missed += worker.served
            if worker.missed == SILENCE:
                logger.error(
                    "the event loop of worker %d has not answered for %d s; killing it",
                    *(worker.pid, SILENCE * BEAT),
                )
                self._send_signal(worker, signal.SIGABRT)
            elif worker.missed >= SILENCE + ABORT_MARGIN:
                self.kill(worker)
        self._timer = self._loop.call_later(BEAT, self._watch)

    def _close_templates(self) -> None:
        """End the templates of older generations that have no worker any more."""
        newest = max(self._templates, default=0)
        for number, template in tuple(self._templates.items()):
            if number < newest and not template.in_use:
                template.close()
                del self._templates[number]

    def _ended(self, worker: WorkerProcess, status: int) -> None:
        # What it sent last has come, but may not have been read yet.
        worker.channel.pump()
        worker.channel.close()
        if worker.deadline is not None:
            worker.deadline.cancel()
        self._workers.remove(worker)
        self._close_templates()
        self._counts.clear(worker.place)
        if self._metrics_directory:
            remove_live_gauges(self._metrics_directory, worker.pid)
        self._owner.worker_ended(worker, status)
