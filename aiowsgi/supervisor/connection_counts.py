"""How many connections each worker has: a few numbers in memory that all workers share.

Workers that accept from one socket are all woken by a connection, and the quickest gets it. That is
often the same one again: of sixty connections that a proxy opens and keeps, one worker may get
fifty. So a worker that has more connections than another waits for a moment
(`ConnectionCounts.is_my_turn`), in which the other takes the connection. If the other is stuck, the
worker takes it after all.

Each worker writes one number, its own, and reads all of them, without a lock: a number that is a
moment old costs one connection that might have been better placed. The supervisor maps the memory
before it forks, gives each worker a place in it, and clears the place of a worker that has ended.
"""

from __future__ import annotations

import mmap
from typing import Final

__all__ = ["PLACES", "ConnectionCounts"]

PLACES: Final = 256
"""Workers that can take part; the others accept whenever they can."""

_FREE: Final = 0
"""A place without a worker. A worker writes one more than it has connections."""


class ConnectionCounts:
    """The shared numbers, and the place of this process among them."""

    def __init__(self) -> None:
        """Map the memory, all of it free. Processes that are forked later share it."""
        self.place = -1
        """Index of this process's number; -1 in the supervisor, which has none."""
        self._numbers = memoryview(mmap.mmap(-1, PLACES * 4)).cast("I")

    # For the supervisor

    def clear(self, place: int) -> None:
        """Free the place of a worker that has ended or accepts no more."""
        if 0 <= place < PLACES:
            self._numbers[place] = _FREE

    # For a worker

    def is_my_turn(self, connections: int) -> bool:
        """Publish our number of connections; return whether no other worker has fewer."""
        if not 0 <= self.place < PLACES:
            return True
        mine = connections + 1
        self._numbers[self.place] = mine
        return not any(_FREE < number < mine for number in self._numbers.tolist())
