"""A coroutine on an event loop of its own, in a thread of its own, for the length of a block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any, TypeAlias, TypeVar

__all__ = ["in_background"]

T = TypeVar("T")

Main: TypeAlias = Callable[[Callable[[T], None], asyncio.Event], Coroutine[Any, Any, None]]
"""Called with a function to say once that it is ready, and an event that tells it to end."""


@contextmanager
def in_background(
    main: Main[T], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> Iterator[T]:
    """Run ``main`` until the block ends; gives what it was ready with.

    Raises what ``main`` raises, be it before it was ready or when it ends.
    """
    ready: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    ended: Future[None] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        await main(lambda value: ready.set_result((value, loop, stop)), stop)

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(run())
        except BaseException as error:
            (ended if ready.done() else ready).set_exception(error)
        finally:
            if not ready.done():
                ready.set_exception(RuntimeError("it ended before it was ready"))
            if not ended.done():
                ended.set_result(None)

    thread = Thread(target=work, name="aiowsgi-server", daemon=True)
    thread.start()
    value, loop, stop = ready.result()
    try:
        yield value
    finally:
        # The loop is closed already where main has ended by itself.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        ended.result()
