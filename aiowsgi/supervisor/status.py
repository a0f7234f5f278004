"""Asking all workers what they do, with a deadline, and keeping what they have counted.

Each look sends ``look`` to the workers that have begun to serve, and waits for their ``report``,
`DEADLINE` seconds at most. A worker that has not answered by then is shown as unresponsive: its
event loop is stuck, or the machine is. Looks that overlap are told apart by a number.

Counts of all workers are added up, and a sum must not shrink when a worker ends: Prometheus would
take that for a restart of the server. So a worker's counts are kept when it has ended. It sends the
last of them by itself; if it crashes, those of the last look are kept, and what it counted after
that was never shown.

This runs on the supervisor's event loop. Processes and channels belong to
``supervisor/worker_group.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from aiowsgi.status.aggregate import Detail, ServerFacts, WorkerReport, overview
from aiowsgi.status.metrics import merge
from aiowsgi.supervisor.plan import WorkerState

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree
    from aiowsgi.supervisor.channel import Message
    from aiowsgi.supervisor.worker_group import WorkerProcess

__all__ = ["StatusCollector"]

DEADLINE: Final = 0.5
"""Seconds. Less than the second after which a live view looks again and a probe gives up, far more
than a report takes."""


HEALTH_DEADLINE: Final = 0.08
"""Seconds that a probe waits: it is to be answered within 100 ms, whatever a worker does."""

FORGIVEN: Final = 3
"""Beats (`channel.BEAT`) that a worker may have missed without being unready: C code of the
application may hold the interpreter's lock for a moment. A guess."""

UNHEARD: Final = "unheard"
"""The state, in the eyes of a probe, of a worker that did not answer it in time, but lately."""


class _Look:
    """Reports that are waited for."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._missing = set(pids)
        self.reports: dict[int, Tree] = {}
        # Set when no more reports will come.
        self.complete = asyncio.Event()
        self.settle(0)

    def settle(self, pid: int) -> None:
        """The report of ``pid`` has come, or will not come any more."""
        self._missing.discard(pid)
        if not self._missing:
            self.complete.set()


class StatusCollector:
    """See the module's docstring."""

    def __init__(
        self, workers: Callable[[], Iterable[WorkerProcess]], unready: Callable[[], str]
    ) -> None:
        """``workers`` returns those that there are; ``unready`` says why no requests should come,
        as far as that is known without asking them."""
        self._workers = workers
        self._unready = unready
        # When the server began to serve, monotonic seconds.
        self._born = monotonic()
        # Of the last look; never `channel.LAST_REPORT`.
        self._number = 0
        self._looks: dict[int, _Look] = {}
        # The last counts of each worker, by process id, and the sum of those of ended workers.
        self._counts: dict[int, Tree] = {}
        self._gone: Tree = {}
        self._restarts = 0

    async def look(self, interest: Detail = Detail.FIGURES) -> Tree:
        """An overview of all workers; see ``status/aggregate.py``."""
        # Retiring workers are asked too: what keeps them is what an operator wants to see.
        asked = [worker for worker in self._workers() if worker.served]
        self._number = number = self._number + 1
        look = self._looks[number] = _Look(worker.pid for worker in asked)
        try:
            for worker in asked:
                worker.channel.send("look", number=number, interest=interest)
            async with asyncio.timeout(HEALTH_DEADLINE if interest is Detail.HEALTH else DEADLINE):
                await look.complete.wait()
        except TimeoutError:
            pass
        finally:
            del self._looks[number]
        return self._overview(look.reports, interest)

    def _overview(self, reports: dict[int, Tree], interest: Detail) -> Tree:
        rows = [
            WorkerReport(
                worker.pid,
                worker.generation,
                self._state(worker, reports, interest),
                reports.get(worker.pid),
                worker.unfit,
            )
            for worker in self._workers()
        ]
        # The counts of a worker that has not answered this time are still its own.
        silent = (counts for pid, counts in self._counts.items() if pid not in reports)
        gone = merge([self._gone, *silent])
        facts = ServerFacts(time(), monotonic() - self._born, self._unready(), self._restarts, gone)
        return overview(facts, rows)

    @staticmethod
    def _state(worker: WorkerProcess, reports: dict[int, Tree], interest: Detail) -> str:
        is_late = worker.pid not in reports and worker.missed < FORGIVEN and not worker.unfit
        if interest is Detail.HEALTH and worker.state is WorkerState.READY and is_late:
            return UNHEARD
        return worker.state.value

    def heard(self, worker: WorkerProcess, message: Message) -> None:
        """A worker has sent a report."""
        report: Tree = message["report"]
        self._counts[worker.pid] = report["counts"]
        look = self._looks.get(message["number"])
        if look is not None:
            look.reports[worker.pid] = report
            look.settle(worker.pid)

    def ended(self, worker: WorkerProcess) -> None:
        """A worker has ended, after what it sent last was heard."""
        for look in self._looks.values():
            look.settle(worker.pid)
        self._gone = merge([self._gone, self._counts.pop(worker.pid, {})])
        # A worker that retired for a reload or at the end was not restarted.
        self._restarts += worker.expired or worker.state is not WorkerState.RETIRING
