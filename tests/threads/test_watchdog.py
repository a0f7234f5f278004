"""When running requests are checked, and what happens to threads that hang: with fakes."""

from __future__ import annotations

import logging
from threading import get_ident

import pytest

from aiowsgi.exchange.app_context import AppContext
from aiowsgi.exchange.record import RequestRecord
from aiowsgi.http1.messages import Request
from aiowsgi.threads.watchdog import DetachPolicy, RequestWatchdog


def a_record(*, awaited=False, ended=False):
    """The record of a request that has run in this very thread since second 100."""
    request = Request("GET", "/slow", "/slow", "", "x", "HTTP/1.1", [], 0, True, False)
    record = RequestRecord(request, ("", 0), "id-1", 99.0, 99.5)
    record.thread_id, record.started_at = get_ident(), 100.0
    record.client_left, record.ended = not awaited, ended
    return record


class Scene:
    """A watchdog, and the requests that run."""

    def __init__(self, *running, request=30.0, slow=0.0, budget=1, willing=True):
        self.service = AppContext(None, {}, server="", send_date=False)
        self.willing = willing
        self.detached = []
        self.spent = []
        self.watchdog = RequestWatchdog(
            self.service,
            None if willing is None else self.detach,
            DetachPolicy(budget, spent=lambda: self.spent.append(True)),
            request_timeout=request,
            slow_request=slow,
        )
        self.given_back = []
        self.watchdog.replaced = self.given_back.append
        self.service.running.update(enumerate(running))

    def detach(self, ident):
        """What a pool does to a thread; it may have none to put into its place."""
        self.detached.append(ident)
        return self.willing


def test_without_limits_there_is_nothing_to_watch():
    """The server then does not have it called."""
    assert not Scene(request=0).watchdog.limited
    assert Scene(request=0, slow=1).watchdog.limited


@pytest.mark.parametrize(
    ("request_timeout", "slow", "looks"),
    [(30, 0, 130), (0, 5, 105), (30, 5, 105), (5, 30, 105)],
)
def test_it_looks_again_when_something_may_be_overdue(request_timeout, slow, looks):
    """The earliest time of all requests that run."""
    scene = Scene(a_record(), request=request_timeout, slow=slow)
    assert scene.watchdog.check_deadlines(101) == looks
    scene.service.running.clear()
    assert scene.watchdog.check_deadlines(101) == looks + 1


def test_a_slow_one_is_logged_once(caplog):
    """And it is checked again when it is overdue."""
    scene = Scene(a_record(awaited=True), slow=5)
    for now in (105, 106):
        assert scene.watchdog.check_deadlines(now) == min(now + 5, 130)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("GET /slow HTTP/1.1 has been running for 5.0 s;")
    assert record.request_id == "id-1"
    assert "in test_a_slow_one_is_logged_once" in record.getMessage()


def test_one_that_is_awaited_is_its_connections():
    """Its client is answered first; until then it is checked again and again."""
    record = a_record(awaited=True)
    scene = Scene(record)
    assert scene.watchdog.check_deadlines(130) == 130
    assert not scene.watchdog.detached
    record.client_left = True
    assert scene.watchdog.check_deadlines(130.5) == 130.5
    assert scene.watchdog.detached == [record]


def test_a_thread_is_replaced_once(caplog):
    """By the first that notices; its permits are given back."""
    record = a_record()
    scene = Scene(record)
    scene.watchdog.detach(record)
    scene.watchdog.detach(record)
    assert scene.watchdog.check_deadlines(131) == 161
    assert scene.detached == [get_ident()]
    assert scene.given_back == [record]
    assert not scene.spent
    (record,) = caplog.records
    assert "takes too long" in record.getMessage()


def test_one_that_has_ended_is_left_alone():
    """Its thread does something else by now."""
    scene = Scene()
    scene.watchdog.detach(a_record(ended=True))
    assert not scene.detached
    assert not scene.watchdog.detached


def test_one_that_ends_makes_room_in_the_budget():
    """The threads that hang at the same time count."""
    first, second, third = (a_record() for _ in range(3))
    scene = Scene(budget=1)
    scene.watchdog.detach(first)
    first.ended = True
    scene.watchdog.detach(second)
    assert not scene.spent
    scene.watchdog.detach(third)
    assert scene.spent == [True]
    assert len(scene.detached) == len(scene.given_back) == 2
    second.ended = third.ended = True
    scene.watchdog.check_deadlines(1000)
    assert scene.watchdog.detached == []


def test_one_that_cannot_be_replaced_spends_the_budget():
    """The system allows no more threads."""
    scene = Scene(willing=False)
    scene.watchdog.detach(a_record())
    assert scene.spent == [True]
    assert not scene.given_back


def test_an_executor_of_the_programs_keeps_its_threads():
    """Nothing is replaced, given back or spent."""
    record = a_record()
    scene = Scene(record, willing=None, budget=0)
    scene.watchdog.check_deadlines(131)
    assert scene.watchdog.detached == [record]
    assert not scene.given_back
    assert not scene.spent
