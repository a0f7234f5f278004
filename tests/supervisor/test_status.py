"""Asking workers that the test speaks for."""

from __future__ import annotations

import asyncio

import pytest
from status_samples import a_report

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

    def __init__(self, census, pid, *, served=True):
        self.census = census
        self.pid = pid
        self.generation = 1
        self.state = WorkerState.READY if served else WorkerState.STARTING
        self.served = served
        self.worn = False
        self.unfit = ""
        self.channel = FakeChannel()

    def say(self, number=None, requests=1):
        """Report that so many requests were answered; for the last look, or that of a number."""
        report = a_report()
        report["counts"]["requests"]["2xx"] = requests
        last = self.channel.sent[-1][1]["number"] if number is None else number
        self.census.heard(self, {"number": last, "report": report})


class Crew:
    """Workers, and the census of them."""

    def __init__(self):
        self.workers = []
        self.reason = ""
        self.census = StatusCollector(lambda: self.workers, lambda: self.reason)

    def start(self, **more):
        """One more."""
        self.workers.append(FakeWorker(self.census, len(self.workers) + 1, **more))
        return self.workers[-1]

    def end(self, worker):
        """It has gone."""
        self.workers.remove(worker)
        self.census.ended(worker)

    async def look(self, *answering, requests=1, **options):
        """Look while these workers answer."""
        looking = asyncio.create_task(self.census.look(**options))
        await asyncio.sleep(0)
        for worker in answering:
            worker.say(requests=requests)
        return await looking


@pytest.fixture
def crew(monkeypatch):
    """Workers that have a moment to answer."""
    monkeypatch.setattr(module, "DEADLINE", 0.02)
    return Crew()


def served(tree):
    """Responses counted in all."""
    return tree["counts"]["requests"]["2xx"]


async def test_all_answer(crew):
    """Then nobody waits for the deadline, and what they say is added up."""
    one, other = crew.start(), crew.start()
    module.DEADLINE = 60.0  # restored by the fixture
    tree = await crew.look(one, other, requests=3)
    assert served(tree) == 6
    assert one.channel.sent == [("look", {"number": 1, "interest": Detail.FIGURES})]
    assert tree["worker_states"] == {"ready": 2}
    assert tree["uptime"] >= 0 < tree["time"]


async def test_nobody_there(crew):
    """Before a worker serves there is nothing to wait for."""
    crew.reason = "starting"
    crew.start(served=False)
    module.DEADLINE = 60.0  # restored by the fixture
    tree = await crew.look()
    assert (tree["unready"], tree["worker_states"]) == ("starting", {"starting": 1})
    assert crew.workers[0].channel.sent == []


async def test_one_is_silent(crew):
    """It is shown as that, and its counts of before stay in the sum."""
    one, silent = crew.start(), crew.start()
    await crew.look(one, silent, requests=5)
    tree = await crew.look(one, requests=6)
    assert [worker["state"] for worker in tree["workers"]] == ["ready", "unresponsive"]
    assert served(tree) == 11
    assert served(await crew.look(one, silent, requests=7)) == 14


async def test_a_late_report_is_of_no_other_look(crew):
    """What comes after the deadline counts for later, and is not taken for an answer."""
    worker = crew.start()
    await crew.look()
    worker.say(number=1, requests=4)
    tree = await crew.look()
    assert tree["worker_states"] == {"unresponsive": 1}
    assert served(tree) == 4


async def test_looks_may_overlap(crew):
    """Each gets its own answer."""
    worker = crew.start()
    looks = [
        asyncio.create_task(crew.census.look(interest))
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


async def test_one_ends_while_it_is_asked(crew):
    """Nobody waits for it any more."""
    one, other = crew.start(), crew.start()
    module.DEADLINE = 60.0  # restored by the fixture
    looking = asyncio.create_task(crew.census.look())
    await asyncio.sleep(0)
    one.say(requests=2)
    crew.end(other)
    tree = await looking
    assert (served(tree), len(tree["workers"])) == (2, 1)


async def test_counts_never_shrink(crew):
    """What a worker has said last stays when it has gone; a crash loses what was never shown."""
    one, other = crew.start(), crew.start()
    assert served(await crew.look(one, other, requests=10)) == 20
    one.say(number=0, requests=12)
    crew.end(one)
    assert served(await crew.look(other, requests=10)) == 22
    crew.end(other)
    assert served(await crew.look()) == 22


@pytest.mark.parametrize(
    ("state", "worn", "restarts"),
    [
        (WorkerState.READY, False, 1),
        (WorkerState.STARTING, False, 1),
        (WorkerState.RETIRING, True, 1),
        (WorkerState.RETIRING, False, 0),
    ],
)
async def test_restarts(crew, state, worn, restarts):
    """One that dies, or is worn, is a restart; one that was told to go otherwise is none."""
    worker = crew.start()
    worker.state, worker.worn = state, worn
    crew.end(worker)
    assert (await crew.look())["restarts"] == restarts


async def test_one_that_is_unfit(crew):
    """Its supervisor's judgement is shown with it, and counts where no other may be asked."""
    one, other = crew.start(), crew.start()
    one.unfit = "worn out"
    assert (await crew.look(one, other))["unready"] == ""
    other.state = WorkerState.RETIRING
    tree = await crew.look(one, other)
    assert tree["unready"] == tree["workers"][0]["unready"] == "worn out"


async def test_one_that_retires_is_asked_too(crew):
    """What keeps it is what one wants to see."""
    worker = crew.start()
    worker.state = WorkerState.RETIRING
    tree = await crew.look(worker)
    assert (tree["worker_states"], tree["in_flight"]) == ({"retiring": 1}, 2)
    assert (await crew.look())["worker_states"] == {"retiring": 1}
