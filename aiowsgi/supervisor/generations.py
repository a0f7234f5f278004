"""Generations of workers: what each of them is to run, and how one follows another.

The first has the configuration that the process was started with. A later one begins with reading
that again, and comes in one of two ways: *on trial*, with one worker, whose generation becomes the
present one when that worker serves, and is forgotten otherwise; or *at once*, as in development.
What belongs to the supervising process rather than to its workers (`FIXED`) stays as it is.

Which workers are started and sent away for the sake of a generation is decided elsewhere
(``supervisor/plan.py``); so is what is told of it (``supervisor/supervisor.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.exceptions import ConfigError
from aiowsgi.supervisor.spawn import charge
from aiowsgi.system.cpu_count import usable_cpus

if TYPE_CHECKING:
    from aiowsgi.config.options import Config
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.supervisor.channel import Message
    from aiowsgi.supervisor.worker_group import WorkerGroup, WorkerProcess

__all__ = ["FIXED", "Generation", "Generations"]

logger = logging.getLogger("aiowsgi")

FIXED: Final = (
    *("bind", "backlog", "reuse_port", "umask", "uds_permissions"),
    *("admin", "admin_token_file", "pid", "user", "group"),
    *("reload", "reload_dir", "reload_include", "reload_exclude"),
)
"""Options that take a restart."""


class Generation(NamedTuple):
    """A configuration, and what its workers are told."""

    number: int
    """1 for the first; each has a greater one than those before it."""
    config: Config
    charge: Message

    @property
    def size(self) -> int:
        """Workers that it asks for."""
        return self.config.workers or usable_cpus()

    @property
    def grace(self) -> float | None:
        """Seconds that a worker has to finish; None for as long as it takes."""
        return self.config.graceful_timeout or None


class Generations:
    """The present one, and the one that is on trial."""

    def __init__(self, config: Config, listeners: Listeners, reread: Callable[[], Config]) -> None:
        """``config.app`` names the application. ``reread`` gives the configuration of now, and
        raises ConfigError."""
        self._listeners = listeners
        self._reread = reread
        # Of the newest, whatever became of it.
        self._number = 0
        self.present = self._make(config)
        """What workers are to be."""
        # The generation and the worker that are on trial.
        self._trial: tuple[Generation, WorkerProcess] | None = None

    def _make(self, config: Config) -> Generation:
        assert config.app is not None
        self._number += 1
        return Generation(self._number, config, charge(config.app, config, self._listeners))

    def _read_again(self) -> Config:
        old, new = self.present.config, self._reread()
        kept = {name: getattr(old, name) for name in FIXED}
        for name, value in kept.items():
            if getattr(new, name) != value:
                logger.warning("%s has changed, which takes a restart", name)
        if new.app is None:
            raise ConfigError("no application is named any more")
        return replace(new, **kept)

    # On trial

    @property
    def trying(self) -> bool:
        """Whether one is on trial."""
        return self._trial is not None

    def try_next(self, crew: WorkerGroup) -> None:
        """Start a worker with what there is now; it takes the place of one that is on trial.

        Raises ConfigError and OSError, and then none is on trial.
        """
        if self._trial is not None:
            (_, worker), self._trial = self._trial, None
            crew.retire(worker, 0.0)
        new = self._make(self._read_again())
        self._trial = new, crew.start(new.number, new.charge, self._listeners)

    def passed(self, worker: WorkerProcess) -> bool:
        """A worker serves: if it is the one on trial, its generation is now the present one."""
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
        """Go on to the next, with the old configuration where that of now is none."""
        try:
            config = self._read_again()
        except ConfigError as error:
            logger.error("the old configuration stays: %s", error)
            config = self.present.config
        self.present = self._make(config)
