"""Limits what all connections of a process hold in memory together (``--memory-budget``).

Each connection has limits of its own, but a thousand connections that stay just below them can
still fill the machine. So the buffers count what they hold here: request bodies that come before
the application starts, and response bytes that the client has not read. Any thread may call the
methods.

The buffers decide what to do when memory is scarce: above one half of the budget, bodies and
responses go to disk sooner; above all of it, new request bodies are refused (503).
"""

from __future__ import annotations

from io import BytesIO
from threading import Lock
from typing import Final, final

from aiowsgi.exchange.interrupts import outside_application

__all__ = ["CountedBytesIO", "MemoryBudget"]


@final
class MemoryBudget:
    """Counts the bytes that are held in memory."""

    __slots__ = ("_lock", "held", "limit")

    def __init__(self, limit: int = 0) -> None:
        """``limit`` in bytes; 0 is no limit."""
        self.limit: Final = limit
        # Bytes held now; read without the lock: a plain int, once too old by one change.
        self.held = 0
        self._lock = Lock()

    def add(self, size: int) -> None:
        """``size`` more bytes are held; a negative size is given back."""
        with self._lock:
            self.held += size

    @property
    def scarce(self) -> bool:
        """More than half is used: keep large pieces on disk."""
        return 0 < self.limit < 2 * self.held

    @property
    def exhausted(self) -> bool:
        """All of it is used: accept no new request body."""
        return 0 < self.limit <= self.held


@final
class CountedBytesIO(BytesIO):
    """A complete request body in memory, which counts until it is closed."""

    def __init__(self, data: bytes, budget: MemoryBudget) -> None:
        super().__init__(data)
        self._budget = budget
        # Bytes that are still counted.
        self._counted = len(data)
        budget.add(self._counted)

    def close(self) -> None:
        """Release the memory. Idempotent."""
        with outside_application():
            counted, self._counted = self._counted, 0
            super().close()
            self._budget.add(-counted)
