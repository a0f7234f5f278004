"""Limits on open file descriptors, and how many connections they leave room for."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from typing import Final

__all__ = ["connection_capacity", "raise_descriptor_limit"]

RESERVED_DESCRIPTORS: Final = 64
"""Descriptors left to the application, log files and spools. A guess."""

DESCRIPTORS_PER_CONNECTION: Final = 2
"""A connection's own descriptor and the duplicate that worker threads send on."""


def raise_descriptor_limit() -> tuple[int, int]:
    """Raise the soft limit on open descriptors to the hard one (getrlimit(2)).

    Returns the soft limit before and after; they are equal where the system allows no more.
    ``resource.RLIM_INFINITY`` (-1) means that there is none.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems refuse a hard limit that they report themselves: keep what there is.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return before, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connection_capacity() -> int:
    """How many connections the limit on descriptors (RLIMIT_NOFILE) leaves room for; at least 1."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = RESERVED_DESCRIPTORS
    return max(1, (limit - used - RESERVED_DESCRIPTORS) // DESCRIPTORS_PER_CONNECTION)
