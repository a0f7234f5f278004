"""Which requests are queued, refused and taken back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from exchanges import an_exchange
from fake_kernel import FakeLoop

from aiowsgi.exchange.app_context import AppContext
from aiowsgi.threads.pool import WorkerPool
from aiowsgi.threads.scheduler import RequestScheduler, SchedulerOptions
from aiowsgi.threads.wakeups import Wakeups


class Scheduler:
    """A scheduler on an event loop that a test turns."""

    def __init__(self, executor, **options):
        self.loop = FakeLoop(at_once=False)
        self.context = AppContext(None, {}, server="", send_date=False)
        self.scheduler = RequestScheduler(
            self.loop, self.context, executor, Wakeups(self.loop), SchedulerOptions(**options)
        )


def test_the_queue_of_our_own_pool_is_bounded():
    """It is full when ``queue_size`` requests wait."""
    pool = WorkerPool(0)
    bench = Scheduler(pool, queue_size=2)
    assert not bench.scheduler.refuses(an_exchange()[0])
    bench.scheduler._execute(int)
    assert not bench.scheduler.refuses(an_exchange()[0])
    bench.scheduler._execute(int)
    # One of them is still on its way to the queue.
    assert bench.scheduler.refuses(an_exchange()[0])
    bench.loop.run_soon()
    assert bench.scheduler.refuses(an_exchange()[0])
    assert bench.scheduler.waiting() == 2
    pool.shutdown(cancel_futures=True)


def test_what_was_abandoned_is_not_in_the_way():
    """It does not count; more than ``queue_size`` entries are removed, and the others stay."""
    pool, bodies = WorkerPool(0), [BytesIO(b"body") for _ in range(4)]
    exchanges = [an_exchange()[0].set_body(body, 4) for body in bodies]
    bench = Scheduler(pool, queue_size=2)
    for exchange in exchanges:
        bench.scheduler._execute(exchange.run)
    bench.loop.run_soon()
    bench.scheduler.abandon(exchanges[0])
    assert bench.scheduler.refuses(an_exchange()[0])
    bench.scheduler.abandon(exchanges[1])
    bench.scheduler.abandon(exchanges[1])
    assert bench.scheduler.refuses(an_exchange()[0])
    bench.scheduler.abandon(exchanges[3])
    assert bench.scheduler.waiting() == 1
    assert not bench.context.abandoned
    assert not bench.scheduler.refuses(an_exchange()[0])
    assert [body.closed for body in bodies] == [True, True, False, True]
    pool.shutdown(cancel_futures=True)


def test_a_thread_may_have_found_it_meanwhile():
    """Then the scheduler does not keep it."""
    exchange = an_exchange()[0]
    bench = Scheduler(WorkerPool(0))
    exchange.record.ended = True
    bench.scheduler.abandon(exchange)
    assert not bench.context.abandoned


def test_the_queue_of_a_programs_executor_is_its_own():
    """It is never full, and says by itself that it was shut down."""
    with ThreadPoolExecutor(1) as executor:
        bench = Scheduler(executor, queue_size=1)
        assert bench.scheduler._execute(int).result() == 0
        assert not bench.scheduler.refuses(an_exchange()[0])
    with pytest.raises(RuntimeError):
        bench.scheduler._execute(int)
