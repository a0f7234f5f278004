"""A coroutine in a background thread: what it gives, and what it raises where."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aiowsgi.threads.background import in_background


def test_it_runs_for_the_length_of_the_block():
    """The block gets what main was ready with; main is told to end, and has ended behind it."""
    seen = []

    async def main(ready, stop):
        ready("value")
        await stop.wait()
        seen.append("stopped")

    with in_background(main, asyncio.new_event_loop) as value:
        assert value == "value"
        assert not seen
    assert seen == ["stopped"]
    assert "aiowsgi-server" not in {thread.name for thread in threading.enumerate()}


def test_a_failure_before_it_is_ready_is_raised_on_entry():
    """The block does not begin."""

    async def main(ready, stop):
        raise ValueError("start")

    with pytest.raises(ValueError, match="start"), in_background(main, asyncio.new_event_loop):
        pytest.fail("the block began")


def test_a_failure_afterwards_is_raised_on_exit():
    """The block ends before it is raised."""
    seen = []

    async def main(ready, stop):
        ready(None)
        await stop.wait()
        raise ValueError("end")

    with (
        pytest.raises(ValueError, match="end"),
        in_background(main, asyncio.new_event_loop),
    ):
        seen.append("block")
    assert seen == ["block"]


def test_main_may_end_by_itself():
    """Ending a block whose loop is closed already is no error."""
    ended = threading.Event()

    async def main(ready, stop):
        ready(None)

    def loop():
        made = asyncio.new_event_loop()
        close = made.close

        def close_and_tell():
            close()
            ended.set()

        made.close = close_and_tell
        return made

    with in_background(main, loop):
        assert ended.wait(10)


def test_main_that_ends_without_being_ready_is_an_error():
    """Nobody waits for ever for what will not come."""

    async def main(ready, stop):
        pass

    with (
        pytest.raises(RuntimeError, match="ready"),
        in_background(main, asyncio.new_event_loop),
    ):
        pytest.fail("the block began")
