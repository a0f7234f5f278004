"""Imports everything that a server may import later.

A process that has dropped its privileges may not be able to read the modules of its environment,
for example below ``/root``. So everything is imported before.
"""

from __future__ import annotations

import pkgutil
from contextlib import suppress
from importlib import import_module
from typing import Final

__all__ = ["import_everything"]

_NOT_FOR_SERVERS: Final = (
    *("aiowsgi.__main__", "aiowsgi.cli", "aiowsgi.frameworks", "aiowsgi.pytest_plugin"),
)
"""Modules, and packages with their modules, that no running server needs."""

_IMPORTED_LATE: Final = (
    *("ctypes", "encodings.idna", "importlib.metadata", "logging.config", "ssl", "tempfile"),
    *("tomllib", "traceback"),
    # Extras.
    *("httptools", "uvloop", "watchfiles"),
)
"""Modules that functions of the server import when they are first called."""


def import_everything() -> None:
    """Import all modules that functions of the server import; takes about 100 ms.

    Modules that are not installed are skipped.
    """
    package = import_module("aiowsgi")
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, "aiowsgi.")]
    for name in (*_IMPORTED_LATE, *modules):
        if not name.startswith(_NOT_FOR_SERVERS):
            with suppress(ImportError):
                import_module(name)
