"""The memory that this process occupies."""

from __future__ import annotations

import resource
import sys
from typing import Final

__all__ = ["resident_bytes"]

_PAGE: Final = resource.getpagesize()


def resident_bytes() -> int:
    """Memory of this process that is in RAM now; its peak where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # getrusage(2): kilobytes everywhere but on macOS.
        return peak if sys.platform == "darwin" else peak * 1024
