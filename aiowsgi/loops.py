"""Which event loop: the one module that knows uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["loop_factory"]


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop that ``name`` says: ``auto``, ``uvloop`` or ``asyncio``.

    ``auto`` is uvloop where it is installed. Raises ImportError for ``uvloop`` where it is not.
    """
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise
        else:
            factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
            return factory
    return asyncio.new_event_loop
