"""Time limits of a connection: which one applies in which state, and when it is exceeded.

The functions here read facts and decide nothing else: `Connection.check_deadlines` asks for the
next `Deadline` and acts on it if its time has come. All times are monotonic seconds.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.connection.body_rate import RATE_WINDOW

if TYPE_CHECKING:
    from aiowsgi.connection.body_receiver import BodyReceiver
    from aiowsgi.exchange.exchange import Exchange
    from aiowsgi.exchange.output import ResponseOutput
    from aiowsgi.threads.scheduler import SchedulerOptions

__all__ = [
    "DRAIN_IDLE",
    "NEVER",
    "Deadline",
    "Limit",
    "Timeouts",
    "after",
    "shortest",
    "while_collecting",
    "while_idle",
    "while_serving",
]

LINGER: Final = 2.0
"""Seconds that a client has to read the last response and close, before the connection is aborted.
nginx's lingering_timeout is 5; a proxy on the same network needs less. A guess."""

DRAIN_IDLE: Final = 1.0
"""Seconds without a request after which a kept connection is closed when the server stops. The next
request of a busy client is on its way already; it is answered with ``Connection: close``."""


class Timeouts(NamedTuple):
    """Time limits for the client in seconds; 0 is no limit. See `SchedulerOptions` for threads."""

    header: float = 10.0
    """For a header section, from its first byte; and for the first byte of a connection."""
    body: float = 30.0
    """For the next bytes of a request body."""
    write: float = 60.0
    """For the client to read some of the response bytes that wait for it."""
    keep_alive: float = 75.0
    """For the next request on a kept connection."""
    linger: float = LINGER
    """For the client to close, once the connection's last response is sent."""


def shortest(timeouts: Timeouts, options: SchedulerOptions, *, min_rate: int = 0) -> float:
    """The shortest limit that may begin at any time and is not off, in seconds."""
    limits = (
        RATE_WINDOW if min_rate else 0.0,
        *timeouts._replace(linger=0.0),
        options.queue_timeout,
        options.request_timeout,
        options.slow_request,
    )
    return min((limit for limit in limits if limit > 0), default=timeouts.linger)


class Limit(Enum):
    """The limit that a `Deadline` belongs to."""

    NONE = "none"
    KEEP_ALIVE = "keep_alive"
    HEADER = "header"
    BODY = "body"
    BODY_RATE = "body_rate"
    """The client sends its body, but too slowly."""
    WRITE = "write"
    QUEUE = "queue"
    REQUEST = "request"
    LINGER = "linger"


class Deadline(NamedTuple):
    """When a limit is exceeded."""

    when: float
    limit: Limit


NEVER: Final = Deadline(inf, Limit.NONE)


def after(since: float, timeout: float, limit: Limit) -> Deadline:
    """The deadline ``timeout`` seconds after ``since``; `NEVER` if ``timeout`` is 0."""
    return Deadline(since + timeout, limit) if timeout else NEVER


def while_collecting(timeouts: Timeouts, since: float, body: BodyReceiver, now: float) -> Deadline:
    """The limit for the next bytes of a body, or for its rate; ``since`` is when bytes came."""
    rate = Deadline(body.rate.check(body.received, now, waiting=True), Limit.BODY_RATE)
    return min(after(since, timeouts.body, Limit.BODY), rate, key=_when)


def while_idle(timeouts: Timeouts, since: float, *, is_new: bool, draining: bool) -> Deadline:
    """The limit of a connection that waits for a request.

    A connection that has had no request yet (``is_new``) is held to the limit for its first byte.
    """
    if draining:
        return after(since, DRAIN_IDLE, Limit.KEEP_ALIVE)
    return after(since, timeouts.header if is_new else timeouts.keep_alive, Limit.KEEP_ALIVE)


def while_serving(
    timeouts: Timeouts,
    options: SchedulerOptions,
    output: ResponseOutput,
    exchange: Exchange | None,
    body: BodyReceiver | None,
    now: float,
) -> Deadline:
    """The next limit of the client and of the worker thread, whichever comes first."""
    deadline = _of_client(timeouts, output, body, now)
    if exchange is not None:
        deadline = min(deadline, _of_thread(options, exchange), key=_when)
    return deadline


def _of_client(
    timeouts: Timeouts, output: ResponseOutput, body: BodyReceiver | None, now: float
) -> Deadline:
    """The limit for the client to read its response or to send its body."""
    if output.pending:
        return after(output.progress_at, timeouts.write, Limit.WRITE)
    if body is not None:
        since = body.waiting_since
        check = body.rate.check(body.received, now, waiting=since < inf)
        rate = Deadline(check, Limit.BODY_RATE)
        return min(after(since, timeouts.body, Limit.BODY), rate, key=_when)
    return NEVER


def _of_thread(options: SchedulerOptions, exchange: Exchange) -> Deadline:
    """The limit for the request to get a worker thread, then for the application to answer."""
    record = exchange.record
    if not record.started_at:
        since = record.queued_at - record.waited_before
        return after(since, options.queue_timeout, Limit.QUEUE)
    if record.finished_at or record.upgraded:
        # The client still has to read, and the thread to call close(); or the application has the
        # connection for as long as it likes.
        return NEVER
    return after(record.started_at, options.request_timeout, Limit.REQUEST)


def _when(deadline: Deadline) -> float:
    return deadline.when
