"""Running a coroutine in the background: in its own thread, on its own event loop."""

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
"""The coroutine: it calls its first argument once, when it is ready, and ends when the event is
set."""


@contextmanager
def in_background(
    main: Main[T], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> Iterator[T]:
    """Run ``main`` in the background until the block ends; yields what it says it is ready with.

    Raises whatever ``main`` raises, before it is ready or when it ends.
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
                ready.set_exception(RuntimeError("the coroutine ended before it was ready"))
            if not ended.done():
                ended.set_result(None)

    thread = Thread(target=work, name="aiowsgi-server", daemon=True)
    thread.start()
    value, loop, stop = ready.result()
    try:
        yield value
    finally:
        # If main has ended by itself, the loop is closed already.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        ended.result()
