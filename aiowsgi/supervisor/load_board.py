"""Who has how many connections: a few numbers in memory that all workers of a supervisor share.

Workers that accept from one socket are all woken by a connection, and the quickest gets it. That is
often the same one again: of sixty connections that a proxy opens and keeps, one worker may get
fifty. So a worker that has more than another gives way for a moment
(`ConnectionCounts.is_my_turn`), in which the other takes the connection; if that is stuck, nobody
waits for it.

Each worker writes one number, its own, and reads all. Nothing is locked: a number that is a moment
old costs a connection that might have been better placed. The supervisor makes the board, gives out
the places, and clears that of a worker that is gone.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Final

__all__ = ["ConnectionCounts"]

PLACES: Final = 256
"""Workers that can take part; others accept whenever they can."""

_FREE: Final = 0
"""Of a place that nobody has. A worker writes one more than it has connections."""


class ConnectionCounts:
    """The shared numbers, and one's own place among them."""

    def __init__(self, descriptor: int, place: int = -1) -> None:
        """``descriptor`` is a `make`'s, and stays the caller's; ``place`` is one's own."""
        self._place = place
        self._numbers = memoryview(mmap.mmap(descriptor, PLACES * 4)).cast("I")

    @staticmethod
    def make() -> int:
        """A descriptor of the memory, all of it free. Raises OSError."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("aiowsgi")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, PLACES * 4)
        return descriptor

    # The supervisor

    def clear(self, place: int) -> None:
        """Its worker is gone."""
        if 0 <= place < PLACES:
            self._numbers[place] = _FREE

    # A worker

    def is_my_turn(self, connections: int) -> bool:
        """Whether nobody has fewer; ``connections`` are one's own, which the others may see now."""
        if not 0 <= self._place < PLACES:
            return True
        mine = connections + 1
        self._numbers[self._place] = mine
        return not any(_FREE < number < mine for number in self._numbers.tolist())
