"""The timer wheel, on a loop and a clock of the tests' own."""

from __future__ import annotations

import logging
from math import inf

import pytest

from aiowsgi.connection import timer_wheel as wheel_module
from aiowsgi.connection.timer_wheel import AT_ONCE, COARSEST, FINEST, TICKS, TimerWheel


class FakeTimer:
    """What call_later gives."""

    def __init__(self, when, callback):
        self.when, self.callback, self.cancelled = when, callback, False

    def cancel(self):
        self.cancelled = True


class FakeLoop:
    """A loop whose time passes when the test says so."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        self.timers = []
        self.calls = 0
        monkeypatch.setattr(wheel_module, "monotonic", lambda: self.now)

    def call_later(self, delay, callback):
        self.calls += 1
        timer = FakeTimer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    @property
    def pending(self):
        return [timer for timer in self.timers if not timer.cancelled]

    def run_until(self, until):
        """Let time pass; timers are called as they become due."""
        while self.pending and (timer := min(self.pending, key=lambda t: t.when)).when <= until:
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.callback()
        self.now = until


class Item:
    """Records when it was checked, and returns what a test says."""

    def __init__(self, loop, *answers, then=inf):
        self.watched_at = 0
        self.loop = loop
        self.answers = list(answers)
        self.then = then
        self.checks = []
        self.act = lambda: None

    def check_deadlines(self, now):
        assert now == self.loop.now
        self.checks.append(now)
        self.act()
        return self.answers.pop(0) if self.answers else self.then


@pytest.fixture
def loop(monkeypatch):
    """The test's loop."""
    return FakeLoop(monkeypatch)


def test_an_item_is_looked_at_once_a_period(loop):
    """Not before the first period is over, and then again and again, without a deadline."""
    wheel = TimerWheel(loop, 10.0)
    item = Item(loop)
    wheel.watch(item)
    loop.run_until(1009.9)
    assert item.checks == []
    loop.run_until(1040)
    assert len(item.checks) == 3
    for before, after in zip([1000, *item.checks], item.checks, strict=False):
        assert 10 <= after - before <= 10 + 2 * 10 / TICKS


def test_an_item_says_when_it_is_due(loop):
    """A deadline within the period is kept to a tick."""
    wheel = TimerWheel(loop, 10.0)
    item = Item(loop, 1013.0)
    wheel.watch(item)
    loop.run_until(1020)
    first, second = item.checks
    assert 1013 <= second <= 1013 + 2 * 10 / TICKS
    assert first < second


def test_an_overdue_item_waits_for_the_next_tick(loop):
    """An answer in the past does not make the walk go on for ever."""
    wheel = TimerWheel(loop, 10.0)
    item = Item(loop, then=0.0)
    wheel.watch(item)
    loop.run_until(1012)
    assert 2 <= len(item.checks) <= 5


@pytest.mark.parametrize(("period", "tick"), [(10, 0.5), (1000, COARSEST), (0.01, FINEST)])
def test_ticks_are_bounded(loop, period, tick):
    """Neither so fine as to spin nor so coarse as to be late."""
    wheel = TimerWheel(loop, period)
    wheel.watch(Item(loop))
    assert loop.pending[0].when == 1000 + tick


def test_many_items_are_looked_at_in_several_turns(loop):
    """Of thousands that are due together, a few are checked in a turn, and none twice."""
    wheel = TimerWheel(loop, 10.0)
    items = [Item(loop) for _ in range(2 * AT_ONCE + 1)]
    for item in items:
        wheel.watch(item)
    turns = []
    while not all(item.checks for item in items):
        loop.run_until(loop.pending[0].when)
        turns.append(sum(len(item.checks) for item in items) - sum(turns))
    assert turns[-3:] == [AT_ONCE, AT_ONCE, 1]
    assert not any(turns[:-3])
    assert max(item.checks[0] for item in items) <= 1010 + 2 * 10 / TICKS
    loop.run_until(1015)
    assert all(len(item.checks) == 1 for item in items)


def test_a_look_may_close_the_patrol(loop):
    """Nothing is checked after that, in this turn or in another."""
    wheel = TimerWheel(loop, 10.0)
    items = [Item(loop, then=0.0) for _ in range(AT_ONCE + 5)]
    for item in items:
        item.act = wheel.close
        wheel.watch(item)
    loop.run_until(1030)
    assert sum(len(item.checks) for item in items) == 1
    assert not loop.pending


def test_many_items_take_one_timer(loop):
    """However many objects there are."""
    wheel = TimerWheel(loop, 10.0)
    items = [Item(loop) for _ in range(100)]
    for item in items:
        wheel.watch(item)
    assert len(loop.pending) == 1
    loop.run_until(1011)
    assert all(len(item.checks) == 1 for item in items)
    assert len(loop.pending) == 1


def test_nothing_runs_while_nothing_is_watched(loop):
    """An idle server sets no timer."""
    wheel = TimerWheel(loop, 10.0)
    assert not loop.timers
    item = Item(loop)
    wheel.watch(item)
    wheel.forget(item)
    wheel.forget(item)
    loop.run_until(1100)
    assert item.checks == []
    assert not loop.pending
    wheel.watch(item)
    loop.run_until(1111)
    assert len(item.checks) == 1


def test_items_that_forget_each_other_in_a_look(loop):
    """An object that another's check forgets is not checked, and not scheduled again."""
    wheel = TimerWheel(loop, 10.0)
    items = [Item(loop) for _ in range(3)]

    def forget_others():
        for item in items:
            if not item.checks:
                wheel.forget(item)

    for item in items:
        item.act = forget_others
        wheel.watch(item)
    loop.run_until(1030)
    assert sorted(len(item.checks) for item in items) == [0, 0, 2]


def test_items_that_are_watched_in_a_look(loop):
    """A check may begin to watch another object."""
    wheel = TimerWheel(loop, 10.0)
    first, second = Item(loop), Item(loop)
    first.act = lambda: second.watched_at or wheel.watch(second)
    wheel.watch(first)
    loop.run_until(1025)
    assert len(first.checks) == 2
    assert len(second.checks) == 1
    assert len(loop.pending) == 1


def test_a_loop_that_was_busy_catches_up(loop):
    """Ticks that were missed are walked at the next."""
    wheel = TimerWheel(loop, 10.0)
    items = [Item(loop) for _ in range(5)]
    for item in items:
        wheel.watch(item)
        loop.now += 1
    loop.now = 1500
    loop.run_until(1500)
    assert all(len(item.checks) == 1 for item in items)


def test_closing_ends_it(loop):
    """No timer is left, and nothing is checked."""
    wheel = TimerWheel(loop, 10.0)
    item = Item(loop)
    wheel.watch(item)
    wheel.close()
    wheel.close()
    assert not loop.pending
    loop.run_until(1100)
    assert item.checks == []


def test_a_limit_shorter_than_the_period_is_hastened(loop):
    """An object can ask to be checked before the period is over."""
    wheel = TimerWheel(loop, 100.0)
    item = Item(loop)
    wheel.watch(item)
    wheel.hasten(item, loop.now + 2.0)
    loop.run_until(loop.now + 10.0)
    assert len(item.checks) == 1


def test_a_check_that_raises_ends_no_other(loop, caplog):
    """Others are checked, the same one is checked again, and the error is logged once."""
    wheel = TimerWheel(loop, 10.0)
    items = [Item(loop) for _ in range(5)]

    def fail():
        raise ValueError("in a check")

    for item in items:
        wheel.watch(item)
    items[0].act = items[1].act = fail
    loop.run_until(1100)
    assert all(len(item.checks) == len(items[4].checks) for item in items)
    assert len(items[0].checks) > 5
    (record,) = caplog.records
    assert "a check of time limits failed" in record.message
    assert "in a check" in str(record.exc_info[1])


def test_logging_that_raises_ends_no_check(loop, caplog):
    """A filter of the application's may fail for a record of the server's."""
    logger = logging.getLogger("aiowsgi.server")

    def fail(record):
        raise ValueError("in a filter")

    wheel, item = TimerWheel(loop, 10.0), Item(loop)
    item.act = lambda: 1 / 0
    wheel.watch(item)
    logger.addFilter(fail)
    try:
        loop.run_until(1100)
    finally:
        logger.removeFilter(fail)
    assert len(item.checks) > 5
