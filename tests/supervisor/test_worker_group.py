"""Worker processes as the supervisor sees them, with ``sleep`` in their place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest

from aiowsgi.config.options import Config
from aiowsgi.net.listeners import Listeners
from aiowsgi.supervisor import worker_group as module
from aiowsgi.supervisor.channel import encode
from aiowsgi.supervisor.children import Children, Origin
from aiowsgi.supervisor.connection_counts import ConnectionCounts
from aiowsgi.supervisor.generations import Generation
from aiowsgi.supervisor.plan import WorkerState
from aiowsgi.supervisor.worker import Assignment
from aiowsgi.supervisor.worker_group import WorkerGroup, WorkerProcess

pytestmark = pytest.mark.slow("processes")

COUNTS = ConnectionCounts()
GENERATION = Generation(1, Assignment(Config(app="shop:app"), Listeners(), COUNTS))


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[tuple[WorkerProcess, int]] = asyncio.Queue()
        self.ready: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        self.changes = 0

    def worker_ready(self, worker: WorkerProcess, broken: str) -> None:
        self.ready.put_nowait(worker)

    def worker_changed(self) -> None:
        self.changes += 1

    def worker_ended(self, worker: WorkerProcess, status: int) -> None:
        self.ended.put_nowait((worker, status))


class Sleepers(Children):
    """Starts processes that send nothing by themselves; the test sends for them."""

    def __init__(self) -> None:
        super().__init__(Origin.now())
        self.sockets: list[socket.socket] = []

    def fork(
        self, run: object, ended: Callable[[int], object], inherited: object = (), **_: object
    ) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        self.sockets.append(theirs)
        # A process that ignores TERM and ends by ABRT and KILL.
        process = subprocess.Popen(["sleep", "60"], start_new_session=True)
        process.returncode = 0  # the group waits for it, not this object
        self._ended[process.pid] = ended
        return process.pid, ours

    def say(self, kind: str, **members: object) -> None:
        """Send a message as the process that was started last."""
        self.sockets[-1].sendall(encode(kind, **members))


@pytest.fixture(autouse=True)
def fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats are due a hundred times a second."""
    monkeypatch.setattr(module, "BEAT", 0.01)
    monkeypatch.setattr(module, "SILENCE", 5)


@pytest.fixture
async def sleepers() -> AsyncIterator[Sleepers]:
    """In the place of workers."""
    sleepers = Sleepers()
    yield sleepers
    sleepers.close()
    for sock in sleepers.sockets:
        sock.close()


def group_of(sleepers: Sleepers) -> tuple[Owner, WorkerGroup]:
    """A group without workers."""
    owner = Owner()
    return owner, WorkerGroup(owner, sleepers, COUNTS)


async def started(sleepers: Sleepers) -> tuple[Owner, WorkerGroup, WorkerProcess]:
    """A group of one worker, which is ready."""
    owner, group = group_of(sleepers)
    worker = group.start(GENERATION)
    sleepers.say("ready", broken="", metrics_directory="")
    assert await owner.ready.get() is worker
    return owner, group, worker


async def test_stuck(sleepers: Sleepers) -> None:
    """A worker whose loop is silent is ended by ABRT, so that it shows where it is stuck."""
    owner, group, worker = await started(sleepers)
    assert await owner.ended.get() == (worker, -signal.SIGABRT)
    assert len(group) == 0


async def test_stopped(sleepers: Sleepers) -> None:
    """One that ABRT does not reach is killed."""
    owner, _, worker = await started(sleepers)
    os.kill(worker.pid, signal.SIGSTOP)
    assert await owner.ended.get() == (worker, -signal.SIGKILL)


async def test_beats(sleepers: Sleepers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that beats lives, however long it takes; one that is starting need not beat."""
    monkeypatch.setattr(module, "BEAT", 10**6)
    owner, group, worker = await started(sleepers)
    starting = group.start(GENERATION)
    for _ in range(20):
        sleepers.sockets[0].sendall(encode("beat", rss=1 << 20, in_flight=0, requests=[]))
        worker.channel.pump()
        group._watch()
    assert owner.ended.empty()
    assert (worker.state, starting.state) == (WorkerState.READY, WorkerState.STARTING)
    assert group.ready() == [worker]
    for one in group:
        group.kill(one)
    await owner.ended.get()
    await owner.ended.get()


async def test_it_does_not_go(sleepers: Sleepers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that overruns its grace is killed; one without a limit is not."""
    monkeypatch.setattr(module, "KILL_MARGIN", 0.01)
    monkeypatch.setattr(module, "SILENCE", 10**6)
    owner, group, worker = await started(sleepers)
    group.retire(worker, None)
    assert worker.deadline is None
    worker.state = WorkerState.READY
    group.retire(worker, 0.01)
    group.retire(worker, 0.01)
    assert await owner.ended.get() == (worker, -signal.SIGKILL)


async def test_what_it_says(sleepers: Sleepers) -> None:
    """That it should be replaced, and that it drains, is passed on; an unknown kind is ignored."""
    owner, group, worker = await started(sleepers)
    sleepers.say("of-a-later-version")
    sleepers.say("expired", reason="tired", unfit=False)
    sleepers.say("draining")
    group.kill(worker)
    await owner.ended.get()
    assert (worker.expired, worker.accepting, owner.changes) == (True, False, 2)


async def test_ready_too_late(sleepers: Sleepers) -> None:
    """A worker that is retired before it is ready is killed, and its ready comes too late."""
    owner, group = group_of(sleepers)
    worker = group.start(GENERATION)
    group.retire(worker, 30)
    sleepers.say("ready", broken="", metrics_directory="")
    assert await owner.ended.get() == (worker, -signal.SIGKILL)
    assert worker.state is WorkerState.RETIRING


async def test_places(sleepers: Sleepers) -> None:
    """Each worker has a place of its own; that of a worker that has ended is given out again."""
    owner, group = group_of(sleepers)
    first, second = (group.start(GENERATION) for _ in range(2))
    group.kill(first)
    await owner.ended.get()
    third = group.start(GENERATION)
    assert [worker.place for worker in (first, second, third)] == [0, 1, 0]
    for worker in group:
        group.kill(worker)
        await owner.ended.get()


async def test_messages_to_one_that_starts(sleepers: Sleepers) -> None:
    """A message to all reaches a worker that is importing once it is ready, and not before."""
    owner, group = group_of(sleepers)
    worker = group.start(GENERATION)
    group.tell_all("reopen")
    theirs = sleepers.sockets[-1]
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    sleepers.say("ready", broken="", metrics_directory="")
    await owner.ready.get()
    assert theirs.recv(100) == encode("reopen")
    group.kill(worker)
    await owner.ended.get()


async def test_ready_just_in_time(sleepers: Sleepers) -> None:
    """A worker that is ready, though nothing has read that yet, is told to retire, not killed."""
    owner, group = group_of(sleepers)
    worker = group.start(GENERATION)
    sleepers.say("ready", broken="", metrics_directory="")
    group.hear_starting()
    group.retire(worker, 30)
    assert worker.served
    assert sleepers.sockets[-1].recv(100) == encode("retire", grace=30)
    group.kill(worker)
    await owner.ended.get()
