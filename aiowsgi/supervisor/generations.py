"""Generations of workers: what each of them serves, and how one follows another.

The first has the configuration that the process was started with. A later one begins with reading
the configuration again, and comes in one of two ways: *on trial*, with one worker, so that it
becomes the present generation when that worker serves, and is forgotten otherwise; or *at once*, as
in development. Options that belong to the supervising process (`FIXED`) stay as they are.

Which workers are started and retired for a generation is decided elsewhere
(``supervisor/plan.py``), and so is what is reported of it (``supervisor/supervisor.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.exceptions import ConfigError
from aiowsgi.supervisor.worker import Assignment
from aiowsgi.system.cpu_count import usable_cpus

if TYPE_CHECKING:
    from aiowsgi.config.options import Config
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.supervisor.connection_counts import ConnectionCounts
    from aiowsgi.supervisor.worker_group import WorkerGroup, WorkerProcess

__all__ = ["FIXED", "Generation", "Generations"]

logger = logging.getLogger("aiowsgi")

FIXED: Final = (
    *("bind", "backlog", "reuse_port", "umask", "uds_permissions"),
    *("admin", "admin_token_file", "pid", "user", "group"),
    *("reload", "reload_dir", "reload_include", "reload_exclude"),
)
"""Options that need a restart to change."""


class Generation(NamedTuple):
    """A configuration, and what its workers serve."""

    number: int
    """1 for the first; each has a greater one than those before it."""
    assignment: Assignment

    @property
    def config(self) -> Config:
        """Its options."""
        return self.assignment.config

    @property
    def size(self) -> int:
        """Number of workers that it asks for."""
        return self.config.workers or usable_cpus()

    @property
    def grace(self) -> float | None:
        """Seconds that a worker has to finish; None for as long as it takes."""
        return self.config.grace


class Generations:
    """The present one, and the one that is on trial."""

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        counts: ConnectionCounts,
        reread: Callable[[], Config],
    ) -> None:
        """``config.app`` names the application. ``reread`` returns the configuration as it is now,
        and raises ConfigError."""
        self._listeners = listeners
        self._counts = counts
        self._reread = reread
        # Number of the newest one, whether it has failed or not.
        self._number = 0
        self.present = self._make(config)
        """What workers are to serve."""
        # The generation and the worker that are on trial; None if there are none.
        self._trial: tuple[Generation, WorkerProcess] | None = None

    def _make(self, config: Config) -> Generation:
        self._number += 1
        return Generation(self._number, Assignment(config, self._listeners, self._counts))

    def _read_again(self) -> Config:
        old, new = self.present.config, self._reread()
        kept = {name: getattr(old, name) for name in FIXED}
        for name, value in kept.items():
            if getattr(new, name) != value:
                logger.warning("%s has changed; restart the server for it to take effect", name)
        if new.app is None:
            raise ConfigError("no application is named any more")
        return replace(new, **kept)

    # On trial

    @property
    def trying(self) -> bool:
        """Whether one is on trial."""
        return self._trial is not None

    def try_next(self, workers: WorkerGroup) -> None:
        """Start a worker with what there is now; it replaces one that is on trial.

        Raises ConfigError and OSError, and then none is on trial.
        """
        workers.hear_starting()
        if self._trial is not None:
            (_, worker), self._trial = self._trial, None
            workers.retire(worker, 0.0)
        new = self._make(self._read_again())
        self._trial = new, workers.start(new)

    def passed(self, worker: WorkerProcess) -> bool:
        """A worker serves: if it is the one on trial, its generation is the present one now."""
        if self._trial is None or self._trial[1] is not worker:
            return False
        self.present, self._trial = self._trial[0], None
        return True

    def failed(self, worker: WorkerProcess) -> bool:
        """A worker has ended: if it is the one on trial, its generation is forgotten."""
        if self._trial is None or self._trial[1] is not worker:
            return False
        self._trial = None
        return True

    # At once

    def renew(self) -> None:
        """Go on to the next, with the old configuration if the present one is wrong."""
        try:
            config = self._read_again()
        except ConfigError as error:
            logger.error("the old configuration stays: %s", error)
            config = self.present.config
        self.present = self._make(config)
