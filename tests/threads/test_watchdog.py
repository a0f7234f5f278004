"""When threads are looked at, and what is done about those that hang: with fakes, in no time."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from threading import get_ident

import pytest

from aiowsgi.exchange.app_context import AppContext
from aiowsgi.threads.pool import WorkerPool
from aiowsgi.threads.watchdog import DetachPolicy, RequestWatchdog


class FakeExchange:
    """One that runs in this very thread since second 100."""

    request_id = "id-1"

    def __init__(self, *, awaited=False, ended=False):
        self.thread_id = get_ident()
        self.started_at = 100.0
        self.awaited = awaited
        self.ended = ended

    def describe(self):
        return "GET /slow HTTP/1.1"


class FakePool(WorkerPool):
    """Has no threads, and replaces them."""

    def __init__(self, *, willing=True):
        super().__init__(0)
        self.willing = willing
        self.replaced = []

    def detach(self, ident):
        self.replaced.append(ident)
        return self.willing


class Scene:
    """What runs, and who looks at it."""

    def __init__(self, *running, request=30.0, slow=0.0, budget=1, executor=None):
        self.service = AppContext(None, {}, server="", send_date=False)
        self.executor = executor or FakePool()
        self.spent = []
        self.overtime = RequestWatchdog(
            self.service,
            self.executor,
            DetachPolicy(budget, spent=lambda: self.spent.append(True)),
            request_timeout=request,
            slow_request=slow,
        )
        self.given_back = []
        self.overtime.replaced = self.given_back.append
        if self.service.running is not None:
            self.service.running.update(enumerate(running))


def test_without_limits_nobody_is_entered():
    """What runs is noted only where somebody looks."""
    scene = Scene(request=0)
    assert not scene.overtime.limited
    assert scene.service.running is None


@pytest.mark.parametrize(
    ("request_timeout", "slow", "looks"),
    [(30, 0, 130), (0, 5, 105), (30, 5, 105), (5, 30, 105)],
)
def test_it_looks_again_when_something_may_be_overdue(request_timeout, slow, looks):
    """Of what runs already; what begins later is not overdue sooner."""
    scene = Scene(FakeExchange(), request=request_timeout, slow=slow)
    assert scene.overtime.look(101) == looks
    scene.service.running.clear()
    assert scene.overtime.look(101) == looks + 1


def test_a_slow_one_is_logged_once(caplog):
    """And looked at again when it is overdue."""
    scene = Scene(FakeExchange(awaited=True), slow=5)
    for now in (105, 106):
        assert scene.overtime.look(now) == min(now + 5, 130)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("GET /slow HTTP/1.1 (id-1) has been running for 5.0 s;")
    assert "in test_a_slow_one_is_logged_once" in record.getMessage()


def test_one_that_is_awaited_is_its_connections():
    """It is answered first; until that has happened, it is looked at again and again."""
    exchange = FakeExchange(awaited=True)
    scene = Scene(exchange)
    assert scene.overtime.look(130) == 130
    assert not scene.overtime.detached
    exchange.awaited = False
    assert scene.overtime.look(130.5) == 130.5
    assert scene.overtime.detached == [exchange]


def test_a_thread_is_replaced_once(caplog):
    """By whoever comes first; what it held is given back."""
    exchange = FakeExchange()
    scene = Scene(exchange)
    scene.overtime.detach(exchange)
    scene.overtime.detach(exchange)
    assert scene.overtime.look(131) == 161
    assert scene.executor.replaced == [get_ident()]
    assert scene.given_back == [exchange]
    assert not scene.spent
    (record,) = caplog.records
    assert "takes too long" in record.getMessage()


def test_one_that_has_ended_is_left_alone():
    """Its thread does something else by now."""
    scene = Scene()
    scene.overtime.detach(FakeExchange(ended=True))
    assert not scene.executor.replaced
    assert not scene.overtime.detached


def test_one_that_ends_makes_room_in_the_budget():
    """Those count that hang at a time."""
    first, second, third = (FakeExchange() for _ in range(3))
    scene = Scene(budget=1)
    scene.overtime.detach(first)
    first.ended = True
    scene.overtime.detach(second)
    assert not scene.spent
    scene.overtime.detach(third)
    assert scene.spent == [True]
    assert len(scene.executor.replaced) == len(scene.given_back) == 2
    second.ended = third.ended = True
    scene.overtime.look(1000)
    assert scene.overtime.detached == []


def test_one_that_cannot_be_replaced_spends_the_budget():
    """The system has no thread left."""
    scene = Scene(executor=FakePool(willing=False))
    scene.overtime.detach(FakeExchange())
    assert scene.spent == [True]
    assert not scene.given_back


def test_an_executor_of_the_programs_keeps_its_threads():
    """Nothing is replaced, given back or spent."""
    exchange = FakeExchange()
    scene = Scene(exchange, executor=Executor(), budget=0)
    scene.overtime.look(131)
    assert scene.overtime.detached == [exchange]
    assert not scene.given_back
    assert not scene.spent
