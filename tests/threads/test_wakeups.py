"""Wake-ups: coalesced, in order, never lost, harmless to a closed loop."""

from __future__ import annotations

import asyncio
from threading import Thread

from support import PATIENCE

from aiowsgi.threads.wakeups import Wakeups


class FakeLoop:
    """Keeps what it is asked to call."""

    def __init__(self):
        self.asked = []
        self.closed = False

    def call_soon_threadsafe(self, callback):
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.asked.append(callback)

    def run(self):
        asked, self.asked = self.asked, []
        for callback in asked:
            callback()


def test_a_burst_asks_the_loop_once():
    """However many callbacks come before the loop runs, one system call is made."""
    loop, seen = FakeLoop(), []
    wakeups = Wakeups(loop)
    for number in range(5):
        wakeups.call(lambda number=number: seen.append(number))
    assert len(loop.asked) == 1
    loop.run()
    assert seen == [0, 1, 2, 3, 4]
    wakeups.call(lambda: seen.append(5))
    assert len(loop.asked) == 1
    loop.run()
    assert seen[-1] == 5


def test_a_callback_that_asks_again_waits_for_its_turn():
    """The loop sees to its sockets between two runs."""
    loop, seen = FakeLoop(), []
    wakeups = Wakeups(loop)

    def again():
        seen.append("again")
        if len(seen) < 3:
            wakeups.call(again)

    wakeups.call(again)
    for expected in (1, 2, 3):
        loop.run()
        assert len(seen) == expected
    assert not loop.asked


def test_a_closed_loop_is_no_error():
    """A worker that outlives the loop gets no exception, and does not do the loop's work."""
    loop, called = FakeLoop(), []
    loop.closed = True
    wakeups = Wakeups(loop)
    for number in range(2):
        wakeups.call(lambda number=number: called.append(number))
    assert not called
    # Nothing was kept of it either.
    loop.closed = False
    wakeups.call(lambda: called.append(2))
    loop.run()
    assert called == [2]


async def test_no_callback_is_lost_between_threads():
    """Of many callbacks from several threads, each is called once, those of a thread in order."""
    loop = asyncio.get_running_loop()
    wakeups, seen, done = Wakeups(loop), [], asyncio.Event()

    def saw(item):
        seen.append(item)
        if len(seen) == 4 * 2000:
            done.set()

    def work(name):
        for number in range(2000):
            wakeups.call(lambda item=(name, number): saw(item))

    threads = [Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    for thread in threads:
        thread.join()
    for name in range(4):
        assert [item for item in seen if item[0] == name] == [(name, n) for n in range(2000)]
