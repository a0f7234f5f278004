"""Limits on open file descriptors, and the number of connections that they allow."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from typing import Final

__all__ = ["connection_capacity", "raise_descriptor_limit"]

RESERVED_DESCRIPTORS: Final = 64
"""Descriptors reserved for the application, log files and spool files. A guess."""

DESCRIPTORS_PER_CONNECTION: Final = 2
"""A connection's descriptor, and the duplicate on which worker threads send."""


def raise_descriptor_limit() -> tuple[int, int]:
    """Raise the soft limit on open descriptors to the hard limit (getrlimit(2)).

    Returns the soft limit before and after; they are equal if the system refuses.
    ``resource.RLIM_INFINITY`` (-1) means no limit.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems refuse the hard limit that they report.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return before, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connection_capacity() -> int:
    """Return the number of connections that the descriptor limit (RLIMIT_NOFILE) allows; at least
    1."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = RESERVED_DESCRIPTORS
    return max(1, (limit - used - RESERVED_DESCRIPTORS) // DESCRIPTORS_PER_CONNECTION)
