"""When a worker should be replaced: ``--max-requests``, ``--max-rss``, ``--max-lifetime``.

A worker compares itself with its limits about once a second and tells the supervisor if it is over
one. It goes on serving until the supervisor has started another. So a limit is exceeded by what
happens within that time: these limits recycle processes, and do not protect the machine.

No process is started or stopped here, and no clock is read: measured values are arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from random import Random

    from aiowsgi.config.options import Config

__all__ = [
    "RecyclingLimits",
]


class RecyclingLimits(NamedTuple):
    """One worker's limits; 0 for no limit."""

    requests: int = 0
    rss: int = 0
    """Bytes of resident memory."""
    lifetime: float = 0.0
    """Seconds."""

    @classmethod
    def of(cls, config: Config, random: Random) -> RecyclingLimits:
        """The limits in ``config``, with a jitter so that workers do not all retire at once."""
        jitter = random.randint(0, config.max_requests_jitter) if config.max_requests else 0
        return cls(config.max_requests + jitter, config.max_rss, config.max_lifetime)

    def reason(self, *, requests: int, rss: int, age: float) -> str | None:
        """Why a worker with these values should be replaced; None if it should not."""
        if self.requests and requests >= self.requests:
            return f"{requests} requests served"
        if self.rss and rss > self.rss:
            return f"{rss >> 20} MiB of memory"
        if self.lifetime and age >= self.lifetime:
            return f"{age:.0f} s of service"
        return None
