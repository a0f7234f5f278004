"""Measures how fast a client sends a request body (``--min-body-rate``).

A client that sends a byte now and then exceeds no limit on pauses, and could keep its request as
long as it likes. The default rate and the grace are like those of Kestrel (240 bytes/s, 5 s).
"""

from __future__ import annotations

from math import inf
from typing import Final, final

__all__ = ["RATE_WINDOW", "BodyRate"]

RATE_GRACE: Final = 10.0
"""Seconds from the beginning of a body, or of a wait for it, until its rate is measured."""

RATE_WINDOW: Final = 10.0
"""Seconds over which the rate is measured, at least."""


@final
class BodyRate:
    """The rate of one request body. Times are monotonic seconds."""

    __slots__ = ("_minimum", "_received", "_since")

    def __init__(self, minimum: int, now: float) -> None:
        """``minimum`` in bytes a second; 0 for no limit."""
        self._minimum = minimum
        # When the present window began; before the first window, when the grace ends.
        self._since = now + RATE_GRACE
        # Bytes that had come when the window began; -1 before the first window.
        self._received = -1

    def check(self, received: int, now: float, *, waiting: bool) -> float:
        """Return when to check next; not later than ``now`` if the client was too slow.

        ``received`` is the number of bytes that have come; ``waiting`` says whether the server
        waits for more. While it does not, the client cannot be too slow.
        """
        if not self._minimum:
            return inf
        if not waiting:
            self._since, self._received = now + RATE_GRACE, -1
            return inf
        if self._received < 0:
            if now < self._since:
                return self._since
            self._since, self._received = now, received
        elif now >= self._since + RATE_WINDOW:
            if received - self._received < self._minimum * (now - self._since):
                return now
            self._since, self._received = now, received
        return self._since + RATE_WINDOW
