"""What connections share: time limits, the queue's bound, and who hears of an end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_kernel import FakeLoop

from aiowsgi.connection.state import ServerState, Timeouts
from aiowsgi.exchange.app_context import AppContext
from aiowsgi.exchange.record import RequestRecord
from aiowsgi.threads.pool import WorkerPool


def make(executor, **more):
    """A hub on a loop that a test turns."""
    service = AppContext(None, {}, server="", send_date=False)
    return ServerState(FakeLoop(at_once=False), service, executor, None, **more)


class FakeExchange:
    """One that may be abandoned."""

    def __init__(self):
        self.given_up = 0
        self.record = RequestRecord(None, ("", 0), "id", 0.0, 0.0)

    def give_up(self):
        self.given_up += 1

    def run(self):
        """What a thread calls."""


def test_the_patrols_period_is_the_shortest_limit():
    """Limits that are off do not count."""
    assert Timeouts(header=0, body=5, linger=7).shortest() == 5
    assert Timeouts(0, 0, 0, 0, 0).shortest() > 0


def test_the_queue_of_our_own_pool_is_bounded():
    """Full when as many wait as may."""
    pool = WorkerPool(0)
    hub = make(pool, queue_size=2)
    assert not hub.refuses(FakeExchange())
    hub.execute(int)
    assert not hub.refuses(FakeExchange())
    hub.execute(int)
    # One of them is still on its way to the queue.
    assert hub.refuses(FakeExchange())
    hub.loop.run_soon()
    assert hub.refuses(FakeExchange())
    assert hub.waiting() == 2
    pool.shutdown(cancel_futures=True)


def test_what_was_abandoned_is_not_in_the_way():
    """It does not count, and of so much is kept as may wait; the rest of the queue stays."""
    pool, exchanges = WorkerPool(0), [FakeExchange() for _ in range(4)]
    hub = make(pool, queue_size=2)
    for exchange in exchanges:
        hub.execute(exchange.run)
    hub.loop.run_soon()
    hub.abandon(exchanges[0])
    assert hub.refuses(FakeExchange())
    hub.abandon(exchanges[1])
    hub.abandon(exchanges[1])
    assert hub.refuses(FakeExchange())
    hub.abandon(exchanges[3])
    assert hub.waiting() == 1
    assert not hub.service.abandoned
    assert not hub.refuses(FakeExchange())
    assert [exchange.given_up for exchange in exchanges] == [1, 2, 0, 1]
    pool.shutdown(cancel_futures=True)


def test_a_thread_may_have_found_it_meanwhile():
    """Then nothing is left to remember."""
    exchange = FakeExchange()
    hub = make(WorkerPool(0))
    exchange.record.ended = True
    hub.abandon(exchange)
    assert not hub.service.abandoned


def test_the_queue_of_a_programs_executor_is_its_own():
    """It is never full for us, and says by itself that it was shut down."""
    with ThreadPoolExecutor(1) as executor:
        hub = make(executor, queue_size=1)
        assert hub.execute(int).result() == 0
        assert not hub.refuses(FakeExchange())
    with pytest.raises(RuntimeError):
        hub.execute(int)


def test_watchers_hear_of_every_connection_that_goes():
    """Also of one that never became one."""
    hub, seen = make(WorkerPool(0)), []
    hub.watchers.append(lambda: seen.append(len(hub.connections)))

    class Connection:
        watched_at = 0

    one, two = Connection(), Connection()
    hub.connections.update((one, two))
    hub.leave(one)
    hub.notice()
    hub.leave(two)
    assert seen == [1, 1, 0]
