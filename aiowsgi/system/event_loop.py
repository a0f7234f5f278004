"""Selects the event loop; the only module that imports uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiowsgi.exceptions import ConfigError

__all__ = ["loop_factory"]


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of an event loop: ``auto``, ``uvloop`` or ``asyncio``.

    ``auto`` selects uvloop if it is installed. Raises ConfigError for ``uvloop`` if it is not.
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
