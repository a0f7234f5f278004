"""Which event loop: the one module that knows uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiowsgi.exceptions import ConfigError

__all__ = ["loop_factory"]


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop that ``name`` says: ``auto``, ``uvloop`` or ``asyncio``.

    ``auto`` is uvloop where it is installed. Raises ConfigError for ``uvloop`` where it is not.
    """
    if name != "asyncio":
        try:
            import uvloop
        except ImportError as error:
            if name == "uvloop":
                raise ConfigError("loop: uvloop is not installed") from error
        else:
            factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
            return factory
    return asyncio.new_event_loop
