"""Limits how many threads a client or a route can have: the queue in front of the pool.

Without such options a request goes straight to the pool, whose queue is the queue. With them, every
request needs *permits*, and waits here while one of them is not available, without holding up
requests that do not need it:

======================  ==========================================  ==============================
option                  a permit of                                 number of permits
======================  ==========================================  ==============================
``limit_per_client``    the client's address                        the limit
``route_limit``         each rule whose patterns match the path     the rule's number
``reserve_threads``     each rule whose patterns do *not* match     all threads but the rule's
======================  ==========================================  ==============================

A permit is given back when the thread is free again, not when the response is sent: threads are
what is scarce. Requests that wait start in the order of arrival, as far as permits allow. A client
whose address is unknown (on a unix socket without trusted fields) needs no permit of its own. An
IPv6 client is known by the first bits of its address (``ipv6_client_prefix``), since one client
usually has a whole network of 64 bits (RFC 6177).

``queue_timeout`` applies to requests that wait here as to all others. They count in ``queue_size``
for requests that would wait here too, and not for others: a flood of requests for one route fills
the queue for that route.

On the event loop only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple, final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from aiowsgi.config.values import RouteLimit
    from aiowsgi.exchange.exchange import Exchange
    from aiowsgi.exchange.record import RequestRecord

__all__ = ["FairQueue", "QueueRules"]

IPV6_BITS: Final = 128


class RouteRule(NamedTuple):
    """A number of permits for the paths that match, or for those that do not."""

    paths: re.Pattern[str]
    matching: bool
    permits: int


class Permit(NamedTuple):
    """One of ``number`` permits of a client, or of the rule with that index."""

    of: Hashable
    number: int


class QueueRules(NamedTuple):
    """How many threads clients and routes can have at a time."""

    per_client: int = 0
    """Requests of one client that run or are queued in the pool; 0 for no limit."""
    rules: Sequence[RouteRule] = ()
    ipv6_prefix: int = 64
    """Bits of an IPv6 address that identify the client."""

    @classmethod
    def of(
        cls,
        *,
        threads: int,
        per_client: int,
        route_limits: Iterable[RouteLimit],
        reserved: Iterable[RouteLimit],
        ipv6_prefix: int = 64,
    ) -> QueueRules:
        """Make the rules from the options; ``threads`` is the number of worker threads."""
        limits = [(limit, True, limit.threads) for limit in route_limits]
        limits += [(lane, False, threads - lane.threads) for lane in reserved]
        rules = [
            RouteRule(_pattern(limit), matching, permits) for limit, matching, permits in limits
        ]
        return cls(per_client, rules, ipv6_prefix)

    def __bool__(self) -> bool:
        return bool(self.per_client or self.rules)


def _pattern(limit: RouteLimit) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{translate(pattern)})" for pattern in limit.patterns))


@lru_cache(maxsize=1024)
def client_network(address: str, ipv6_prefix: int) -> Hashable:
    """What identifies the client at ``address``: the address, or the network of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        return "IPv6", int(IPv6Address(address)) >> (IPV6_BITS - ipv6_prefix)
    except ValueError:
        # A name that a trusted proxy gave.
        return address


@final
class FairQueue:
    """Gives exchanges to the pool when their permits are available."""

    def __init__(
        self, rules: QueueRules, execute: Callable[[Callable[[], object]], object]
    ) -> None:
        """``execute`` hands a callable to a worker thread, or raises RuntimeError."""
        self._rules = rules
        self._execute = execute
        # Number of permits in use, and the requests that hold them.
        self._in_use: Counter[Hashable] = Counter()
        self._holders: dict[RequestRecord, list[Permit]] = {}
        # Exchanges that wait for permits, oldest first.
        self._waiting: dict[Exchange, list[Permit]] = {}

    def __len__(self) -> int:
        """Number of requests that wait here."""
        return len(self._waiting)

    def admits(self, exchange: Exchange) -> bool:
        """Whether the permits of ``exchange`` are available now."""
        return self._available(self._permits_for(exchange.record))

    def free_to_run(
        self, running: Iterable[RequestRecord], queued: Iterable[RequestRecord]
    ) -> Iterator[RequestRecord]:
        """Those of ``queued``, in order, that wait for a thread and not for a limit of their client
        or route, while ``running`` runs. A reserved thread counts as a thread."""
        rules = [rule for rule in self._rules.rules if rule.matching]
        limits = FairQueue(self._rules._replace(rules=rules), bool)
        for record in running:
            limits._take(limits._permits_for(record))
        for record in queued:
            permits = limits._permits_for(record)
            if limits._available(permits):
                limits._take(permits)
                yield record

    def submit(self, exchange: Exchange) -> None:
        """Give ``exchange`` to the pool, now or when its permits are available.

        Raises RuntimeError if the executor was shut down.
        """
        permits = self._permits_for(exchange.record)
        if self._available(permits):
            self._start(exchange, permits)
        else:
            self._waiting[exchange] = permits

    def withdraw(self, exchange: Exchange) -> bool:
        """Forget ``exchange``, which no thread has started.

        Returns whether it waited here, and not in the pool's queue.
        """
        if self._waiting.pop(exchange, None) is None:
            self.release(exchange.record)
            return False
        return True

    def release(self, record: RequestRecord) -> None:
        """The thread of a request is free again, or was replaced. Idempotent."""
        permits = self._holders.pop(record, ())
        # Another request can only have waited for a permit that was not available.
        wanted = [permit for permit in permits if self._in_use[permit.of] >= permit.number]
        for key, _ in permits:
            self._in_use[key] -= 1
            if not self._in_use[key]:
                del self._in_use[key]
        if wanted:
            self._start_waiting(wanted)

    def _start_waiting(self, wanted: list[Permit]) -> None:
        """Start waiting requests until the ``wanted`` permits are in use again."""
        for exchange, permits in list(self._waiting.items()):
            if not self._available(permits):
                continue
            del self._waiting[exchange]
            try:
                self._start(exchange, permits)
            except RuntimeError:
                # The executor was shut down: no request that waits will get a thread.
                exchange.abort()
            if not any(self._available([permit]) for permit in wanted):
                return

    def _permits_for(self, record: RequestRecord) -> list[Permit]:
        permits = []
        rules, address = self._rules, record.client[0]
        if rules.per_client and address:
            network = client_network(address, rules.ipv6_prefix)
            permits.append(Permit(network, rules.per_client))
        # Decoded as the application sees it: another spelling of a path does not evade a limit.
        assert record.request is not None
        path = unquote_to_bytes(record.request.path).decode("utf-8", "replace")
        for number, rule in enumerate(rules.rules):
            if (rule.paths.match(path) is not None) is rule.matching:
                permits.append(Permit(number, rule.permits))
        return permits

    def _available(self, permits: list[Permit]) -> bool:
        # Twice as fast as all(): during a flood this is called for a thousand waiting requests.
        for of, number in permits:  # noqa: SIM110
            if self._in_use[of] >= number:
                return False
        return True

    def _start(self, exchange: Exchange, permits: list[Permit]) -> None:
        """Raises RuntimeError if the executor was shut down; then no permit is taken."""
        self._execute(exchange.run)
        # The event loop is told later that the thread is free, so the permits are entered by then.
        self._holders[exchange.record] = permits
        self._take(permits)

    def _take(self, permits: list[Permit]) -> None:
        for permit in permits:
            self._in_use[permit.of] += 1
