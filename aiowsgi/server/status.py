"""What one process is doing right now, read from its hub: the *report* of a worker.

It is made on the event loop, when somebody asks, and costs nothing before. Nothing is stopped for
it: threads go on while their times are read, so that a request may be shown a moment longer than it
lasted. The tree is JSON, to be sent to the supervisor; ``status/aggregate.py`` says what becomes of
it.

A request in flight is in one of these phases:

===============  =================================================================================
``reading``      its body is being collected
``queued``       it waits for a thread
``application``  a thread is busy with it, be it that its client has gone
``writing``      its response is complete, and waits for the client to read
``detached``     its client was answered 504, and its thread hangs still
===============  =================================================================================

A process in which requests wait too long for a thread is *unready*: further ones are better sent
elsewhere while those that are here can still be served. Too long is half of what ``queue_timeout``
lets them wait (`PATIENCE`); without that limit there is no bound. Only the present wait of the
oldest counts, so that a process is ready again as soon as nobody waits that long: who asks decides
how many answers in a row it takes to believe them. A proxy's own queue (X-Request-Start) is not
counted: it would only grow if its requests were sent nowhere. Nor is a request that waits for a
limit of its client's or its route's: it would wait though all threads were free, and a client that
floods shall not make the whole unready.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.connection.state import ConnectionState
from aiowsgi.status.aggregate import MOST, Detail
from aiowsgi.system.memory import resident_bytes
from aiowsgi.threads.pool import WorkerPool
from aiowsgi.threads.stacks import stacks, thread_names

if TYPE_CHECKING:
    from aiowsgi.connection.state import ServerState
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.http1.messages import Request
    from aiowsgi.status.collector import MetricsCollector
    from aiowsgi.status.metrics import Tree

__all__ = ["worker_report"]

LONGEST: Final = 200
"""Characters shown of a target, which a client can make as long as the request line may be."""

PATIENCE: Final = 0.5
"""Of ``queue_timeout``, how much a request may have waited in a process that is ready: early enough
to be heeded before clients get 503, and late enough for a short peak. A guess."""


# Looking a member up on its enum costs as much as a call in Python 3.11, hence names of our own.
_BODY, _SERVING = ConnectionState.BODY, ConnectionState.SERVING


class _Flight(NamedTuple):
    """A request in flight."""

    request: Request
    client: str
    received_at: float
    phase: str
    record: RequestRecord | None = None
    """None while its body is read."""

    @property
    def thread(self) -> int:
        """Identity of the thread that is busy with it; 0 for none."""
        record = self.record
        return 0 if record is None or record.ended else record.thread_id


def worker_report(
    hub: ServerState, tally: MetricsCollector, born: float, interest: Detail = Detail.FIGURES
) -> Tree:
    """What the process does; ``born`` is when it began to serve, monotonic seconds."""
    now = monotonic()
    if interest > Detail.HEALTH:
        tally.watch()
    flights = sorted(_flights(hub, tally), key=lambda flight: flight.received_at)
    shown, names = flights[:MOST], thread_names()
    busy = sum(1 for flight in flights if flight.thread and flight.phase != "detached")
    detached = sum(1 for flight in flights if flight.phase == "detached")
    pool = hub.scheduler.executor
    size = pool.size if isinstance(pool, WorkerPool) else busy
    waited = max((now - record.queued_at for record in _waiting(hub, flights)), default=0.0)
    tree: Tree = {
        "pid": os.getpid(),
        "uptime": now - born,
        "unready": _unready(waited, hub.scheduler.options.queue_timeout),
        "rss": resident_bytes(),
        "counts": {**tally.snapshot(), "dropped": hub.scheduler.dropped},
        "threads": {"busy": busy, "idle": max(0, size - busy), "detached": detached},
        "connections": _states(hub),
        "phases": Counter(flight.phase for flight in flights),
        "queued": sum(1 for flight in flights if flight.phase == "queued"),
        "waited": waited,
        "in_flight": len(flights),
        "requests": [_row(flight, names, now) for flight in shown],
    }
    if interest is Detail.STACKS:
        tree["stacks"] = list(_stacks(shown, names))
    return tree


def _states(hub: ServerState) -> dict[str, int]:
    counts = Counter(connection.current_state() for connection in tuple(hub.connections))
    return {state.name.lower(): count for state, count in counts.items()}


def _flights(hub: ServerState, tally: MetricsCollector) -> Iterator[_Flight]:
    detached = set(hub.scheduler.detached)
    records = tally.orphans() | detached
    # A copy: noticing the end of a response may close the connection.
    for connection in tuple(hub.connections):
        state = connection.current_state()
        if state is _BODY:
            yield _Flight(*connection.incoming, "reading")
        # Most are idle, and not asked: thousands of them shall not hold up the loop.
        elif state is _SERVING and (exchange := connection.exchange) is not None:
            records.add(exchange.record)
    for record in records:
        yield _of(record, "detached" if record in detached else _phase(record))


def _of(record: RequestRecord, phase: str) -> _Flight:
    assert record.request is not None
    address, port = record.client
    client = f"{address}:{port}" if port else address
    return _Flight(record.request, client, record.received_at, phase, record)


def _phase(record: RequestRecord) -> str:
    if not record.started_at:
        return "queued"
    if record.upgraded:
        return "upgraded"
    return "writing" if record.finished_at else "application"


def _waiting(hub: ServerState, flights: list[_Flight]) -> Iterator[RequestRecord]:
    """Those that wait for a thread and for nothing else."""
    queued = [each.record for each in flights if each.record and each.phase == "queued"]
    if hub.scheduler.fair_queue is None:
        yield from queued
        return
    running = [
        each.record for each in flights if each.record and each.thread and each.phase != "detached"
    ]
    queued.sort(key=lambda record: record.queued_at)
    yield from hub.scheduler.fair_queue.free_to_run(running, queued)


def _unready(waited: float, queue_timeout: float) -> str:
    """Why no requests should come; empty if they may."""
    bound = queue_timeout * PATIENCE
    # The words stay the same while it waits on: who cannot see the page has changes read out.
    return f"a request has waited more than {bound:g} s for a thread" if 0 < bound < waited else ""


def _row(flight: _Flight, names: dict[int, str], now: float) -> Tree:
    target = flight.request.target
    return {
        "id": "" if flight.record is None else flight.record.request_id,
        "worker": os.getpid(),
        "thread": names.get(flight.thread, ""),
        "client": flight.client,
        "method": flight.request.method,
        "path": target if len(target) <= LONGEST else f"{target[: LONGEST - 1]}…",
        "age": now - flight.received_at,
        "phase": flight.phase,
    }


def _stacks(flights: list[_Flight], names: dict[int, str]) -> Iterator[Tree]:
    busy = {flight.thread: flight for flight in flights if flight.thread}
    for ident, text in stacks(busy).items():
        record = busy[ident].record
        assert record is not None
        yield {
            "request": record.request_id,
            "worker": os.getpid(),
            "thread": names.get(ident, ""),
            "what": record.describe()[:LONGEST],
            "age": monotonic() - record.received_at,
            "text": text,
        }
