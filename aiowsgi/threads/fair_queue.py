"""Which request a thread gets next: the queue before the pool, on the loop.

Without options of fairness a request goes straight to the pool, whose queue is the queue. With
them, every request takes *tickets*, and waits here while one of them is sold out, without holding
up the others:

======================  ==========================================  ==============================
option                  a ticket of                                 of which there are
======================  ==========================================  ==============================
``limit_per_client``    the client's address                        that many
``route_limit``         each rule whose patterns match the path     the rule's number
``reserve_threads``     each rule whose patterns do *not* match     all threads but the rule's
======================  ==========================================  ==============================

A ticket is given back when the thread is free again, not when the response is sent: threads are
what is scarce. Whoever waits is served in the order of arrival, as far as tickets allow. A client
whose address is unknown, on a unix socket without trusted fields, takes no ticket of its own.

``queue_timeout`` applies to those who wait here as to all. They count into ``queue_size`` for who
would wait here too, and not for who has tickets: a flood on one route fills the queue for itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from fnmatch import translate
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from aiowsgi.config.values import RouteLimit
    from aiowsgi.exchange.exchange import Exchange
    from aiowsgi.exchange.record import RequestRecord

__all__ = ["FairQueue", "QueueRules"]


class RouteRule(NamedTuple):
    """So many tickets for the paths that match, or for those that do not."""

    paths: re.Pattern[str]
    matching: bool
    tickets: int


class Permit(NamedTuple):
    """One of ``number`` tickets of a thing: a client's address, or the number of a rule."""

    of: Hashable
    number: int


class QueueRules(NamedTuple):
    """Who may have how many threads at a time."""

    per_client: int = 0
    """Requests of one client's address that run or are queued; 0 for no limit."""
    rules: Sequence[RouteRule] = ()

    @classmethod
    def of(
        cls,
        *,
        threads: int,
        per_client: int,
        route_limits: Iterable[RouteLimit],
        reserved: Iterable[RouteLimit],
    ) -> QueueRules:
        """Make it of the options."""
        limits = [(limit, True, limit.threads) for limit in route_limits]
        limits += [(lane, False, threads - lane.threads) for lane in reserved]
        rules = [
            RouteRule(_pattern(limit), matching, tickets) for limit, matching, tickets in limits
        ]
        return cls(per_client, rules)

    def __bool__(self) -> bool:
        return bool(self.per_client or self.rules)


def _pattern(limit: RouteLimit) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{translate(pattern)})" for pattern in limit.patterns))


class FairQueue:
    """Gives exchanges to ``execute`` when their tickets are to be had. On the loop only."""

    def __init__(
        self, fairness: QueueRules, execute: Callable[[Callable[[], object]], object]
    ) -> None:
        """``execute`` hands a callable to a thread, or raises RuntimeError."""
        self._fairness = fairness
        self._execute = execute
        # Tickets that are out, by what they are of, and who has them.
        self._out: Counter[Hashable] = Counter()
        self._holders: dict[RequestRecord, list[Permit]] = {}
        # Exchanges that wait for tickets, oldest first, and for which.
        self._waiting: dict[Exchange, list[Permit]] = {}

    def __len__(self) -> int:
        """Number of requests that wait here."""
        return len(self._waiting)

    def admits(self, exchange: Exchange) -> bool:
        """Whether the tickets of ``exchange`` are to be had now."""
        return not self._sold_out(self._tickets(exchange.record))

    def free_to_run(
        self, running: Iterable[RequestRecord], queued: Iterable[RequestRecord]
    ) -> Iterator[RequestRecord]:
        """Those of ``queued``, in their order, that wait for a thread and not for a limit of their
        client's or route's, while ``running`` runs. Threads that are reserved are threads."""
        rules = [rule for rule in self._fairness.rules if rule.matching]
        limits = FairQueue(self._fairness._replace(rules=rules), bool)
        for record in running:
            limits._take(limits._tickets(record))
        for record in queued:
            tickets = limits._tickets(record)
            if not limits._sold_out(tickets):
                limits._take(tickets)
                yield record

    def submit(self, exchange: Exchange) -> None:
        """Give ``exchange`` to a thread, now or when its tickets are there.

        Raises RuntimeError where the executor is shut down.
        """
        tickets = self._tickets(exchange.record)
        if self._sold_out(tickets):
            self._waiting[exchange] = tickets
        else:
            self._start(exchange, tickets)

    def withdraw(self, exchange: Exchange) -> bool:
        """Nobody waits for ``exchange`` any more, with which no thread has begun.

        Returns whether it waited here, and not in the pool's queue.
        """
        if self._waiting.pop(exchange, None) is None:
            self.release(exchange.record)
            return False
        return True

    def release(self, record: RequestRecord) -> None:
        """The thread of a request is free again, or was replaced. Idempotent."""
        tickets = self._holders.pop(record, ())
        # Only where one was sold out can somebody have waited for it.
        wanted = [ticket for ticket in tickets if self._out[ticket.of] >= ticket.number]
        for key, _ in tickets:
            self._out[key] -= 1
            if not self._out[key]:
                del self._out[key]
        if wanted:
            self._start_waiting(wanted)

    def _start_waiting(self, wanted: list[Permit]) -> None:
        """Start who can be started, until the ``wanted`` tickets are sold out again."""
        for exchange, tickets in list(self._waiting.items()):
            if self._sold_out(tickets):
                continue
            del self._waiting[exchange]
            try:
                self._start(exchange, tickets)
            except RuntimeError:
                # The executor was shut down, and whoever still waits will be in vain.
                exchange.abort()
            if all(self._sold_out([ticket]) for ticket in wanted):
                return

    def _tickets(self, record: RequestRecord) -> list[Permit]:
        tickets = []
        address = record.client[0]
        if self._fairness.per_client and address:
            tickets.append(Permit(address, self._fairness.per_client))
        # As the application will see it: a limit cannot be dodged by another spelling.
        assert record.request is not None
        path = unquote_to_bytes(record.request.path).decode("utf-8", "replace")
        for number, rule in enumerate(self._fairness.rules):
            if (rule.paths.match(path) is not None) is rule.matching:
                tickets.append(Permit(number, rule.tickets))
        return tickets

    def _sold_out(self, tickets: list[Permit]) -> bool:
        # Twice as fast as any(): a flood has this called for a thousand that wait.
        for of, number in tickets:  # noqa: SIM110
            if self._out[of] >= number:
                return True
        return False

    def _start(self, exchange: Exchange, tickets: list[Permit]) -> None:
        """Raises RuntimeError where the executor is shut down; then no ticket is taken."""
        self._execute(exchange.run)
        # The loop hears of the end later, so that these are there by then.
        self._holders[exchange.record] = tickets
        self._take(tickets)

    def _take(self, tickets: list[Permit]) -> None:
        for ticket in tickets:
            self._out[ticket.of] += 1
