"""Who is to start and who is to go."""

from __future__ import annotations

import random

import pytest

from aiowsgi.supervisor.plan import STEADY, Backoff, Member, WorkerState, plan, surge_of

STATES = {"s": WorkerState.STARTING, "r": WorkerState.READY, "x": WorkerState.RETIRING}


def crew(text: str) -> list[Member]:
    """Members from words such as ``r1``: the state, the generation, and ``w`` if it is expired."""
    return [
        Member(pid, int(word[1]), STATES[word[0]], float(pid), expired=word.endswith("w"))
        for pid, word in enumerate(text.split())
    ]


@pytest.mark.parametrize(
    ("members", "size", "start", "retire"),
    [
        pytest.param("", 3, 3, [], id="all start together"),
        pytest.param("r2 r2 r2", 3, 0, [], id="as it should be"),
        pytest.param("r2 s2", 3, 1, [], id="one is missing"),
        pytest.param("r2 x2", 2, 1, [], id="who retires does not count"),
        pytest.param("r2 r2 r2", 1, 0, [2, 1], id="the newest go"),
        pytest.param("r2 s2", 1, 0, [1], id="who has not served goes before them"),
        pytest.param("r1 r1", 2, 1, [], id="one at a time"),
        pytest.param("r1 r1 s2", 2, 0, [], id="it is waited for"),
        pytest.param("r1 r1 r2", 2, 1, [0], id="the longest-serving is replaced"),
        pytest.param("r1 r2 s2", 2, 0, [], id="and so on"),
        pytest.param("r1 r2 r2", 2, 0, [0], id="to the last"),
        pytest.param("s1 r1 r2", 2, 1, [0], id="an old start is given up"),
        pytest.param(" ".join(["r1"] * 8), 8, 2, [], id="a quarter at a time"),
        pytest.param("r2w", 1, 1, [], id="expired, and still needed"),
        pytest.param("r2w r2", 1, 0, [0], id="expired, and replaced"),
        pytest.param("r2w r2w r2w r2w", 4, 1, [], id="all expired at once"),
        pytest.param("r2 s3", 1, 0, [], id="who is on trial is no part of it"),
        pytest.param("s3", 1, 1, [], id="nor a replacement"),
    ],
)
def test_plan(members: str, size: int, start: int, retire: list[int]) -> None:
    """One step towards members that are all ready and of the present generation, 2."""
    step = plan(crew(members), size, 2)
    assert step.start == start
    assert [member.pid for member in step.retire] == retire


@pytest.mark.parametrize("seed", range(50))
def test_it_converges(seed: int) -> None:
    """Whatever happens, the plan comes to its end, and never takes away what serves."""
    rng = random.Random(seed)
    size, generation, pids = rng.randint(1, 9), 1, iter(range(10_000))
    members: list[Member] = []
    for step in range(400):
        if step < 200 and rng.random() < 0.1:
            size = rng.randint(1, 9)
        if step < 200 and rng.random() < 0.05:
            generation += 1
        if step < 200 and members and rng.random() < 0.1:
            rng.choice(members).expired = True
        serving = sum(member.state is WorkerState.READY for member in members)
        todo = plan(members, size, generation)
        for member in todo.retire:
            member.state = WorkerState.RETIRING
        left = sum(member.state is WorkerState.READY for member in members)
        assert left >= min(serving, size)
        members += [Member(next(pids), generation, since=step) for _ in range(todo.start)]
        active = sum(member.state is not WorkerState.RETIRING for member in members)
        assert not todo.start or active <= size + surge_of(size)
        for member in [m for m in members if rng.random() < 0.3]:
            if member.state is WorkerState.RETIRING:
                members.remove(member)
            elif member.state is WorkerState.STARTING:
                member.state, member.since = WorkerState.READY, step
    assert plan(members, size, generation) == (0, [])
    fresh = [m for m in members if m.state is WorkerState.READY and m.generation == generation]
    assert len(fresh) == size


@pytest.mark.parametrize(("size", "surge"), [(1, 1), (4, 1), (7, 1), (8, 2), (100, 25)])
def test_surge(size: int, surge: int) -> None:
    """A quarter more than there should be, one at least."""
    assert surge_of(size) == surge


def test_backoff() -> None:
    """The first death is replaced at once, others in a row after longer and longer pauses."""
    backoff = Backoff()
    young = Member(1, 1, WorkerState.READY, since=100.0)
    pauses = []
    for _ in range(9):
        backoff.died(young, 100.0)
        pauses.append(round(backoff.pause(100.0), 3))
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.pause(104.0) == 1.0
    assert backoff.pause(106.0) == 0.0


def test_backoff_forgets() -> None:
    """A member that has served for a while makes up for the failures before it."""
    backoff = Backoff()
    for _ in range(5):
        backoff.failed(100.0)
    backoff.died(Member(1, 1, WorkerState.READY, since=200.0), 200.0 + STEADY)
    backoff.failed(202.0)
    assert backoff.pause(202.0) == 0.0
