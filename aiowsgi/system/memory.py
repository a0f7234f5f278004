"""Measures the memory of this process."""

from __future__ import annotations

import resource
import sys
from typing import Final

__all__ = ["resident_bytes"]

_PAGE: Final = resource.getpagesize()


def resident_bytes() -> int:
    """Return the resident memory in bytes; the peak if the system does not report the current
    value."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # getrusage(2) reports kilobytes, except on macOS.
        return peak if sys.platform == "darwin" else peak * 1024
