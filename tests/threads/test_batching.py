"""Hands requests over: one that comes alone at once, those of a busy turn together."""

from __future__ import annotations

import pytest
from fake_kernel import FakeLoop

from aiowsgi.threads import batching as handover_module
from aiowsgi.threads.batching import BATCH_INTERVAL, BatchedSubmit


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def end_turn(loop):
    """Call back what asked for it before."""
    for _ in range(len(loop.ready)):
        loop.ready.popleft()()


@pytest.fixture
def clock(monkeypatch):
    """In place of the system's."""
    clock = Clock()
    monkeypatch.setattr(handover_module, "monotonic", clock)
    return clock


def test_tasks_that_come_alone_are_handed_over_at_once(clock):
    """However many there are."""
    loop, given = FakeLoop(at_once=False), []
    handover = BatchedSubmit(loop, given.append)
    for task in range(3):
        clock.now += BATCH_INTERVAL * 1.01
        handover.submit(task)
        assert given == list(range(task + 1))
        assert len(handover.held) == 0
    assert not loop.ready


def test_tasks_that_come_close_are_handed_over_together(clock):
    """In the order in which they came, when the turn ends; the first is not held up."""
    loop, given = FakeLoop(at_once=False), []
    handover = BatchedSubmit(loop, given.append)
    for task in range(4):
        handover.submit(task)
        clock.now += BATCH_INTERVAL * 0.99
    assert given == [0]
    assert len(handover.held) == 3
    clock.now += 1
    handover.submit(4)
    assert len(loop.ready) == 1
    end_turn(loop)
    assert given == [0, 1, 2, 3, 4]
    assert len(handover.held) == 0


def test_it_lasts_until_a_turn_has_brought_one(clock):
    """Between the last task of a busy turn and the first of the next the threads have worked."""
    loop, given = FakeLoop(at_once=False), []
    handover = BatchedSubmit(loop, given.append)
    for tasks in ([0, 1, 2], [3, 4], [5]):
        clock.now += 1
        for task in tasks:
            handover.submit(task)
        assert len(handover.held) == len(tasks) - (tasks[0] == 0)
        end_turn(loop)
        assert given == list(range(tasks[-1] + 1))
    clock.now += 1
    handover.submit(6)
    assert given[-1] == 6


def test_what_comes_while_others_are_handed_over_has_a_turn_of_its_own(clock):
    """A task that is executed may lead to another one."""
    loop, given = FakeLoop(at_once=False), []

    def execute(task):
        given.append(task)
        if task == 1:
            handover.submit(9)

    handover = BatchedSubmit(loop, execute)
    for task in range(3):
        handover.submit(task)
    end_turn(loop)
    assert given == [0, 1, 2]
    end_turn(loop)
    assert given == [0, 1, 2, 9]
