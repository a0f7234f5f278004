"""The *report* of one process: what it is doing now and has counted so far, as a tree of JSON.

It is made on the event loop when it is asked for. Threads run on while their times are read, so a
request may be in it a moment longer than it lasted. The supervisor receives it;
``status/aggregate.py`` adds the reports of several processes up.

A request in flight is in one of these phases:

===============  =================================================================================
``reading``      its body is being collected
``queued``       it waits for a thread
``application``  a thread runs it, whether its client is still connected or not
``writing``      its response is complete and waits for the client to read it
``detached``     its client was answered 504, and its thread is still running it
===============  =================================================================================

A process is *unready* if further requests are better sent elsewhere while it can still serve those
that it has:

* It is saturated (``threads/saturation.py``): no thread has been free for ``--saturation-log``
  while requests waited. It is ready again when a thread is free or takes a request.
* A request has waited for a thread for more than half of ``queue_timeout`` (`PATIENCE`); without
  that limit there is no bound. Only the present wait of the oldest counts. The time in a proxy's
  queue (X-Request-Start) does not: it would only grow if requests were sent elsewhere. Nor does the
  wait for a limit of a client or a route: it would be as long if all threads were free, and one
  client's flood must not make the process unready.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.connection.state import ConnectionState
from aiowsgi.status.aggregate import MOST, Detail
from aiowsgi.system.memory import resident_bytes
from aiowsgi.system.usage import open_descriptors, processor_seconds
from aiowsgi.threads.pool import WorkerPool
from aiowsgi.threads.stacks import CodeLine, code_lines, stacks, thread_names

if TYPE_CHECKING:
    from aiowsgi.connection.state import ServerState
    from aiowsgi.exchange.record import RequestRecord
    from aiowsgi.http1.messages import Request
    from aiowsgi.status.collector import MetricsCollector
    from aiowsgi.status.metrics import Tree

__all__ = ["worker_report"]

LONGEST: Final = 200
"""Characters of a target, which a client can make as long as the request line may be."""

PATIENCE: Final = 0.5
"""Share of ``queue_timeout`` that a request may have waited in a ready process: early enough for a
load balancer to react before clients get 503, and late enough for a short peak. A guess."""

STALL: Final = 1.0
"""Seconds without a free thread, while requests wait, from which a process counts as saturated. It
is unready only after ``--saturation-log``. A guess."""


SETTLING: Final = 0.1
"""Seconds after the end of a response in which its thread is taken to be free: it has only to close
the application's iterable and to log. A thread that takes longer is shown. A guess."""


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
        """Identity of the thread that runs it; 0 for none."""
        record = self.record
        return 0 if record is None or record.ended else record.thread_id


def worker_report(
    state: ServerState,
    metrics: MetricsCollector,
    born: float,
    detail: Detail = Detail.FIGURES,
    *,
    certificate_expiry: float = 0.0,
) -> Tree:
    """Make the report; ``born`` is when the process began to serve, monotonic seconds."""
    now = monotonic()
    scheduler = state.scheduler
    flights = sorted(_flights(state), key=lambda flight: flight.received_at)
    busy = sum(1 for flight in flights if flight.thread and flight.phase != "detached")
    pool = scheduler.executor
    size = pool.size if isinstance(pool, WorkerPool) else busy
    waited = max((now - record.queued_at for record in _waiting(state, flights)), default=0.0)
    phases = Counter(flight.phase for flight in flights)
    stalled = _stalled(state, now)
    tree: Tree = {
        "pid": os.getpid(),
        "uptime": now - born,
        "unready": _unready(state, waited, size),
        "stalled": stalled,
        "certificate_expiry": certificate_expiry,
        "rss": resident_bytes(),
        "cpu": processor_seconds(),
        "descriptors": open_descriptors(),
        "counts": {**metrics.snapshot(), "dropped": scheduler.dropped},
        "threads": {
            "busy": busy,
            "idle": max(0, size - busy),
            "detached": phases["detached"],
        },
        "connections": _connection_states(state),
        "phases": phases,
        "queued": phases["queued"],
        "waited": waited,
        "in_flight": len(flights),
        "requests": [],
    }
    if detail > Detail.HEALTH:
        shown, names = flights[:MOST], thread_names()
        lines = code_lines(flight.thread for flight in shown if flight.thread)
        tree["requests"] = [_row(flight, names, lines, now) for flight in shown]
        if detail is Detail.STACKS:
            tree["stacks"] = list(_stacks(shown, names))
    return tree


def _connection_states(state: ServerState) -> dict[str, int]:
    counts = Counter(connection.current_state() for connection in tuple(state.connections))
    return {each.name.lower(): count for each, count in counts.items()}


# Looking a member up on its enum costs as much as a call in Python 3.11, hence names of our own.
_BODY, _SERVING = ConnectionState.BODY, ConnectionState.SERVING


def _flights(state: ServerState) -> Iterator[_Flight]:
    detached = set(state.scheduler.detached)
    # With those whose clients have left.
    running = state.context.running.copy().values()
    just_now = monotonic() - SETTLING
    records = {each for each in running if each.finished_at < just_now} | detached
    # A copy: noticing the end of a response may close the connection.
    for connection in tuple(state.connections):
        doing = connection.current_state()
        if doing is _BODY:
            yield _Flight(*connection.incoming, "reading")
        # Most connections are idle; thousands of them must not hold the event loop up here.
        elif doing is _SERVING and (exchange := connection.exchange) is not None:
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
    return "writing" if record.ended else "application"


def _waiting(state: ServerState, flights: list[_Flight]) -> Iterator[RequestRecord]:
    """Requests that wait for a thread, and not for a limit of their client or route."""
    queued = [each.record for each in flights if each.record and each.phase == "queued"]
    fair_queue = state.scheduler.fair_queue
    if fair_queue is None:
        yield from queued
        return
    running = [
        each.record for each in flights if each.record and each.thread and each.phase != "detached"
    ]
    queued.sort(key=lambda record: record.queued_at)
    yield from fair_queue.free_to_run(running, queued)


def _stalled(state: ServerState, now: float) -> float:
    """Seconds for which no thread has been free while requests wait, from `STALL` on; else 0.0."""
    saturation = state.scheduler.saturation
    if saturation is None or not saturation.stalled_since:
        return 0.0
    stalled = now - saturation.stalled_since
    return stalled if stalled >= STALL or saturation.saturated else 0.0


def _unready(state: ServerState, waited: float, threads: int) -> str:
    """The reason why no requests should come; empty for none."""
    # The words stay the same while the reason lasts: the page has changes read out to the blind.
    scheduler = state.scheduler
    if scheduler.saturation is not None and scheduler.saturation.saturated:
        after = scheduler.options.saturation.after
        return f"all {threads} threads have been busy for more than {after:g} s and requests wait"
    bound = scheduler.options.queue_timeout * PATIENCE
    return f"a request has waited more than {bound:g} s for a thread" if 0 < bound < waited else ""


def _row(
    flight: _Flight, names: Mapping[int, str], lines: Mapping[int, CodeLine], now: float
) -> Tree:
    target = flight.request.target
    return {
        "id": "" if flight.record is None else flight.record.request_id,
        "worker": os.getpid(),
        "thread": names.get(flight.thread, ""),
        "where": str(lines.get(flight.thread, "")),
        "client": flight.client,
        "method": flight.request.method,
        "path": target if len(target) <= LONGEST else f"{target[: LONGEST - 1]}…",
        "age": now - flight.received_at,
        "phase": flight.phase,
    }


def _stacks(flights: list[_Flight], names: Mapping[int, str]) -> Iterator[Tree]:
    busy = {flight.thread: flight for flight in flights if flight.thread}
    for ident, stack in stacks(busy).items():
        record = busy[ident].record
        assert record is not None
        yield {
            "request": record.request_id,
            "worker": os.getpid(),
            "thread": names.get(ident, ""),
            "what": record.describe()[:LONGEST],
            "age": monotonic() - record.received_at,
            **stack._asdict(),
        }
