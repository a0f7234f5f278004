"""When a worker has served long enough: ``--max-requests``, ``--max-rss``, ``--max-lifetime``.

A worker looks at itself about once a second and, when it is worn, says so; it goes on serving until
its replacement is up, which is the supervisor's part. So a limit is overrun by what a second brings
and by the time that a start takes: these are limits of wear, not of a sandbox.

No process is started or stopped here, and no clock is read: what is measured comes as arguments.
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
    """How much a worker may wear; 0 for no limit."""

    requests: int = 0
    rss: int = 0
    """Bytes of resident memory."""
    lifetime: float = 0.0
    """Seconds."""

    @classmethod
    def of(cls, config: Config, random: Random) -> RecyclingLimits:
        """One worker's limits: the jitter is drawn, so that workers do not all retire at once."""
        jitter = random.randint(0, config.max_requests_jitter) if config.max_requests else 0
        return cls(config.max_requests + jitter, config.max_rss, config.max_lifetime)

    def reason(self, *, requests: int, rss: int, age: float) -> str | None:
        """Why a worker should be replaced that has served so much; None where it should not."""
        if self.requests and requests >= self.requests:
            return f"{requests} requests served"
        if self.rss and rss > self.rss:
            return f"{rss >> 20} MiB of memory"
        if self.lifetime and age >= self.lifetime:
            return f"{age:.0f} s of service"
        return None
