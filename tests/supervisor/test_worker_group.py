"""Worker processes from the supervisor's side, with ``sleep`` in their place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator

import pytest

from aiowsgi.net.listeners import Listeners
from aiowsgi.supervisor import worker_group as module
from aiowsgi.supervisor.channel import encode
from aiowsgi.supervisor.plan import WorkerState
from aiowsgi.supervisor.worker_group import WorkerGroup, WorkerProcess

pytestmark = pytest.mark.slow("processes")


class Boss:
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


class Sleepers:
    """Starts processes that say nothing by themselves; the test speaks for them."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def spawn(self, charge: bytes, descriptors: Iterable[int]) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        self.sockets.append(theirs)
        # A process that ignores TERM and ends by ABRT and KILL.
        process = subprocess.Popen(["sleep", "60"], start_new_session=True)
        process.returncode = 0  # the crew waits for it, not this object
        return process.pid, ours

    def say(self, kind: str, **members: object) -> None:
        """Speak for the process that was started last."""
        self.sockets[-1].sendall(encode(kind, **members))


@pytest.fixture
def sleepers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleepers]:
    """In the place of workers, with beats that are due a hundred times a second."""
    sleepers = Sleepers()
    monkeypatch.setattr(module, "spawn", sleepers.spawn)
    monkeypatch.setattr(module, "BEAT", 0.01)
    monkeypatch.setattr(module, "SILENCE", 5)
    yield sleepers
    for sock in sleepers.sockets:
        sock.close()


async def started(sleepers: Sleepers) -> tuple[Boss, WorkerGroup, WorkerProcess]:
    """A crew of one that is ready."""
    boss = Boss()
    crew = WorkerGroup(boss)
    worker = crew.start(1, {}, Listeners())
    sleepers.say("ready", broken="")
    assert await boss.ready.get() is worker
    return boss, crew, worker


async def test_stuck(sleepers: Sleepers) -> None:
    """A worker whose loop is silent is ended by ABRT, so that it shows where it is stuck."""
    boss, crew, worker = await started(sleepers)
    assert await boss.ended.get() == (worker, -signal.SIGABRT)
    assert len(crew) == 0


async def test_stopped(sleepers: Sleepers) -> None:
    """One that ABRT does not reach is killed."""
    boss, _, worker = await started(sleepers)
    os.kill(worker.pid, signal.SIGSTOP)
    assert await boss.ended.get() == (worker, -signal.SIGKILL)


async def test_beats(sleepers: Sleepers, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that beats lives, however long it takes; one that is starting need not beat."""
    monkeypatch.setattr(module, "BEAT", 10**6)
    boss, crew, worker = await started(sleepers)
    starting = crew.start(1, {}, Listeners())
    for _ in range(20):
        sleepers.sockets[0].sendall(encode("beat"))
        worker.channel.pump()
        crew._watch()
    assert boss.ended.empty()
    assert (worker.state, starting.state) == (WorkerState.READY, WorkerState.STARTING)
    assert crew.ready() == [worker]
    for one in crew:
        crew.kill(one)
    await boss.ended.get()
    await boss.ended.get()


async def test_it_does_not_go(sleepers: Sleepers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that overruns its grace is killed; one without a limit is not."""
    monkeypatch.setattr(module, "KILL_MARGIN", 0.01)
    monkeypatch.setattr(module, "SILENCE", 10**6)
    boss, crew, worker = await started(sleepers)
    crew.retire(worker, None)
    assert worker.deadline is None
    worker.state = WorkerState.READY
    crew.retire(worker, 0.01)
    crew.retire(worker, 0.01)
    assert await boss.ended.get() == (worker, -signal.SIGKILL)


async def test_what_it_says(sleepers: Sleepers) -> None:
    """Wear and draining are passed on; what is unknown is passed over."""
    boss, crew, worker = await started(sleepers)
    sleepers.say("of-a-later-version")
    sleepers.say("worn", reason="tired", unfit=False)
    sleepers.say("draining")
    crew.kill(worker)
    await boss.ended.get()
    assert (worker.worn, worker.accepting, boss.changes) == (True, False, 2)


async def test_ready_too_late(sleepers: Sleepers) -> None:
    """One that is sent away before it is ready is killed, and stays on its way out."""
    boss = Boss()
    crew = WorkerGroup(boss)
    worker = crew.start(1, {}, Listeners())
    crew.retire(worker, 30)
    sleepers.say("ready", broken="")
    assert await boss.ended.get() == (worker, -signal.SIGKILL)
    assert worker.state is WorkerState.RETIRING


async def test_places(sleepers: Sleepers) -> None:
    """Each has a place on the board of its own; that of one that is gone is given out again."""
    boss = Boss()
    crew = WorkerGroup(boss)
    first, second = (crew.start(1, {}, Listeners()) for _ in range(2))
    crew.kill(first)
    await boss.ended.get()
    third = crew.start(1, {}, Listeners())
    assert [worker.place for worker in (first, second, third)] == [0, 1, 0]
    for worker in crew:
        crew.kill(worker)
        await boss.ended.get()
