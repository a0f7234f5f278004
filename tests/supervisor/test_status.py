"""Asking workers that the test speaks for."""

from __future__ import annotations

import asyncio

import pytest
from status_samples import a_report
from support import UNIT

from aiowsgi.status.aggregate import Detail
from aiowsgi.supervisor import status as module
from aiowsgi.supervisor.plan import WorkerState
from aiowsgi.supervisor.status import StatusCollector


class FakeChannel:
    """Notes what is sent."""

    def __init__(self):
        self.sent = []

    def send(self, kind, **members):
        """Note it."""
        self.sent.append((kind, members))


class FakeWorker:
    """A worker that says what the test has it say."""

    def __init__(self, status, pid, *, served=True):
        self.status = status
        self.pid = pid
        self.generation = 1
        self.state = WorkerState.READY if served else WorkerState.STARTING
        self.served = served
        self.expired = False
        self.missed = 0
        self.unfit = ""
        self.channel = FakeChannel()

    def say(self, number=None, requests=1):
        """Report that so many requests were answered; for the last look, or that of a number."""
        report = a_report()
        report["counts"]["requests"]["2xx"] = requests
        last = self.channel.sent[-1][1]["number"] if number is None else number
        self.status.heard(self, {"number": last, "report": report})


class Group:
    """Workers, and the status of them."""

    def __init__(self):
        self.workers = []
        self.reason = ""
        self.status = StatusCollector(lambda: self.workers, lambda: self.reason)

    def start(self, **more):
        """One more."""
        self.workers.append(FakeWorker(self.status, len(self.workers) + 1, **more))
        return self.workers[-1]

    def end(self, worker):
        """It has gone."""
        self.workers.remove(worker)
        self.status.ended(worker)

    async def look(self, *answering, requests=1, **options):
        """Look while these workers answer."""
        looking = asyncio.create_task(self.status.look(**options))
        await asyncio.sleep(0)
        for worker in answering:
            worker.say(requests=requests)
        return await looking


@pytest.fixture
def group(monkeypatch):
    """Workers that have a moment to answer."""
    monkeypatch.setattr(module, "DEADLINE", 0.02)
    return Group()


def served(tree):
    """Responses counted in all."""
    return tree["counts"]["requests"]["2xx"]


async def test_all_answer(group):
    """Then nobody waits for the deadline, and what they say is added up."""
    one, other = group.start(), group.start()
    module.DEADLINE = 60.0  # restored by the fixture
    tree = await group.look(one, other, requests=3)
    assert served(tree) == 6
    assert one.channel.sent == [("look", {"number": 1, "interest": Detail.FIGURES})]
    assert tree["worker_states"] == {"ready": 2}
    assert tree["uptime"] >= 0 < tree["time"]


async def test_nobody_there(group):
    """Before a worker serves there is nothing to wait for."""
    group.reason = "starting"
    group.start(served=False)
    module.DEADLINE = 60.0  # restored by the fixture
    tree = await group.look()
    assert (tree["unready"], tree["worker_states"]) == ("starting", {"starting": 1})
    assert group.workers[0].channel.sent == []


async def test_one_is_silent(group):
    """It is shown as that, and its counts of before stay in the sum."""
    one, silent = group.start(), group.start()
    await group.look(one, silent, requests=5)
    tree = await group.look(one, requests=6)
    assert [worker["state"] for worker in tree["workers"]] == ["ready", "unresponsive"]
    assert served(tree) == 11
    assert served(await group.look(one, silent, requests=7)) == 14


async def test_a_late_report_is_of_no_other_look(group):
    """What comes after the deadline counts for later, and is not taken for an answer."""
    worker = group.start()
    await group.look()
    worker.say(number=1, requests=4)
    tree = await group.look()
    assert tree["worker_states"] == {"unresponsive": 1}
    assert served(tree) == 4


async def test_looks_may_overlap(group):
    """Each gets its own answer."""
    worker = group.start()
    looks = [
        asyncio.create_task(group.status.look(interest))
        for interest in (Detail.FIGURES, Detail.STACKS)
    ]
    await asyncio.sleep(0)
    assert [members for _, members in worker.channel.sent] == [
        {"number": 1, "interest": Detail.FIGURES},
        {"number": 2, "interest": Detail.STACKS},
    ]
    worker.say(number=2, requests=2)
    worker.say(number=1, requests=1)
    assert [served(await look) for look in looks] == [1, 2]


async def test_one_ends_while_it_is_asked(group):
    """Nobody waits for it any more."""
    one, other = group.start(), group.start()
    module.DEADLINE = 60.0  # restored by the fixture
    looking = asyncio.create_task(group.status.look())
    await asyncio.sleep(0)
    one.say(requests=2)
    group.end(other)
    tree = await looking
    assert (served(tree), len(tree["workers"])) == (2, 1)


async def test_counts_never_shrink(group):
    """What a worker has said last stays when it has gone; a crash loses what was never shown."""
    one, other = group.start(), group.start()
    assert served(await group.look(one, other, requests=10)) == 20
    one.say(number=0, requests=12)
    group.end(one)
    assert served(await group.look(other, requests=10)) == 22
    group.end(other)
    assert served(await group.look()) == 22


@pytest.mark.parametrize(
    ("state", "expired", "restarts"),
    [
        (WorkerState.READY, False, 1),
        (WorkerState.STARTING, False, 1),
        (WorkerState.RETIRING, True, 1),
        (WorkerState.RETIRING, False, 0),
    ],
)
async def test_restarts(group, state, expired, restarts):
    """One that dies, or has expired, is a restart; one that was told to go otherwise is none."""
    worker = group.start()
    worker.state, worker.expired = state, expired
    group.end(worker)
    assert (await group.look())["restarts"] == restarts


async def test_one_that_is_unfit(group):
    """Its supervisor's judgement is shown with it, and counts where no other may be asked."""
    one, other = group.start(), group.start()
    one.unfit = "too many threads hang"
    assert (await group.look(one, other))["unready"] == ""
    other.state = WorkerState.RETIRING
    tree = await group.look(one, other)
    assert tree["unready"] == tree["workers"][0]["unready"] == "too many threads hang"


async def test_one_that_retires_is_asked_too(group):
    """What keeps it is what one wants to see."""
    worker = group.start()
    worker.state = WorkerState.RETIRING
    tree = await group.look(worker)
    assert (tree["worker_states"], tree["in_flight"]) == ({"retiring": 1}, 2)
    assert (await group.look())["worker_states"] == {"retiring": 1}


async def test_a_probe_is_answered_soon(group):
    """A worker that is silent is unready to a probe when it has missed some beats, not before."""
    worker = group.start()
    for missed, unready in ((0, ""), (module.FORGIVEN, "worker 1 does not answer")):
        worker.missed = missed
        began = asyncio.get_running_loop().time()
        tree = await group.look(interest=Detail.HEALTH)
        assert tree["unready"].partition(";")[0] == unready
        assert asyncio.get_running_loop().time() - began < 0.1 * UNIT
