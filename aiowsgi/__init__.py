"""An asyncio-based HTTP/1.1 WSGI server.

The names below are the whole public interface for programs that embed the server::

    aiowsgi.serve(app, bind="127.0.0.1:8000", threads=8)     # blocks, takes signals
    aiowsgi.run("module:app", workers=4)                     # what the command line calls

    async with aiowsgi.Server(app, aiowsgi.Config(bind=("127.0.0.1:0",))) as server:
        print(server.url)
        await server.wait_closed()

    with aiowsgi.testing.serve(app) as server:               # in a thread, for tests
        requests.get(server.url)

They are imported when first used, so that ``import aiowsgi`` and ``aiowsgi --help`` cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiowsgi import testing
    from aiowsgi.config.options import Config
    from aiowsgi.exceptions import (
        AiowsgiError,
        ApplicationLoadError,
        BindError,
        ClientDisconnected,
        ConfigError,
        RequestBodyError,
        RequestTimedOut,
    )
    from aiowsgi.server.server import Server
    from aiowsgi.supervisor.runner import run, serve

__all__ = [
    "AiowsgiError",
    "ApplicationLoadError",
    "BindError",
    "ClientDisconnected",
    "Config",
    "ConfigError",
    "RequestBodyError",
    "RequestTimedOut",
    "Server",
    "run",
    "serve",
    "testing",
]

_HOMES = {
    "Config": "aiowsgi.config.options",
    "Server": "aiowsgi.server.server",
    "run": "aiowsgi.supervisor.runner",
    "serve": "aiowsgi.supervisor.runner",
}


def __getattr__(name: str) -> Any:
    if name == "testing":
        return import_module("aiowsgi.testing")
    if name not in __all__:
        raise AttributeError(f"module 'aiowsgi' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "aiowsgi.exceptions")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
