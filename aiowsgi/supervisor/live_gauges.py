"""Gauges of ended workers that ``prometheus_client`` would go on counting.

With ``PROMETHEUS_MULTIPROC_DIR`` each process of an application keeps its metrics in files of that
directory, named with its process id. A gauge of a mode such as ``livesum`` is about processes that
live, but the library cannot know which do: ``mark_process_dead`` is to be called when one has
ended. In other servers that takes a hook (gunicorn's ``child_exit``); the supervisor does it here,
by the names of the files, without importing the library. Counters and other gauges stay, as the
library wants it.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["metrics_directory", "remove_live_gauges"]

logger = logging.getLogger("aiowsgi")


def metrics_directory(environ: Mapping[str, str]) -> str:
    """The absolute name of the directory; empty if ``environ`` names none."""
    name = environ.get("PROMETHEUS_MULTIPROC_DIR") or environ.get("prometheus_multiproc_dir", "")
    return os.path.abspath(name) if name else ""


def remove_live_gauges(directory: str, pid: int) -> None:
    """Remove the files of live gauges of an ended process from ``directory``."""
    for path in glob.glob(f"gauge_live*_{pid}.db", root_dir=directory):
        with suppress(FileNotFoundError):
            try:
                os.remove(os.path.join(directory, path))
            except PermissionError as error:
                logger.warning("gauges of worker %d stay: %s", pid, error)
