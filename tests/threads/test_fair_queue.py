"""Limits for clients and routes: permits, and the requests that wait for them."""

from __future__ import annotations

import pytest
from exchanges import an_exchange

from aiowsgi.config.values import parse_route_limit
from aiowsgi.threads.fair_queue import FairQueue, QueueRules, client_network


class Bench:
    """A queue, and what it gave to threads."""

    def __init__(self, *, threads=4, per_client=0, routes=(), lanes=(), ipv6_prefix=64):
        self.rules = QueueRules.of(
            threads=threads,
            per_client=per_client,
            route_limits=map(parse_route_limit, routes),
            reserved=map(parse_route_limit, lanes),
            ipv6_prefix=ipv6_prefix,
        )
        self.started = []
        self.shut_down = False
        self.queue = FairQueue(self.rules, self.execute)

    def execute(self, run):
        if self.shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self.started.append(run.__self__)

    def submit(self, *paths, client="192.0.2.1"):
        exchanges = [an_exchange(path, client)[0] for path in paths]
        for exchange in exchanges:
            self.queue.submit(exchange)
        return exchanges


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, False),
        ({"per_client": 1}, True),
        ({"routes": ["/a=1"]}, True),
        ({"lanes": ["/a=1"]}, True),
    ],
)
def test_fairness_is_something_or_nothing(options, wanted):
    """Without any option there is no queue before the pool."""
    assert bool(Bench(**options).rules) is wanted


def test_a_client_has_so_many_threads():
    """Further requests of the client wait, and other clients do not wait for them."""
    bench = Bench(per_client=2)
    first, second, third, fourth = bench.submit("/", "/", "/", "/")
    (other,) = bench.submit("/", client="192.0.2.2")
    assert bench.started == [first, second, other]
    assert len(bench.queue) == 2
    bench.queue.release(other.record)
    assert bench.started == [first, second, other]
    bench.queue.release(second.record)
    assert bench.started == [first, second, other, third]
    bench.queue.release(first.record)
    assert bench.started[-1] is fourth
    assert not len(bench.queue)


def test_a_client_without_an_address_is_nobody_in_particular():
    """On a unix socket without trusted fields, all would be one client."""
    bench = Bench(per_client=1)
    assert bench.submit("/", "/", client="") == bench.started


@pytest.mark.parametrize(
    ("path", "waits"),
    [
        ("/reports/a", True),
        ("/reports/a/b", True),
        ("/slow", True),
        ("/%73low", True),
        ("/reports/%C3%A9", True),
        ("/reports", False),
        ("/x/reports/a", False),
        ("/slow/a", False),
    ],
)
def test_a_route_has_so_many_threads(path, waits):
    """Patterns match the path as a whole, and share the threads of their rule."""
    bench = Bench(routes=["/reports/*,/slow=1"])
    bench.submit("/reports/z", path)
    assert len(bench.queue) == waits


def test_threads_are_reserved():
    """Other paths can have the threads that are left; the reserved paths can have any."""
    bench = Bench(threads=3, lanes=["/healthz,/login*=1"])
    _, second, third = bench.submit("/", "/", "/")
    lane = bench.submit("/login/form", "/healthz")
    assert bench.started[2:] == lane
    bench.queue.release(lane[0].record)
    assert third not in bench.started
    bench.queue.release(second.record)
    assert bench.started[-1] is third


def test_who_waits_is_served_in_the_order_of_arrival_as_far_as_tickets_allow():
    """Several rules apply at once; a request that lacks another permit is passed over."""
    bench = Bench(threads=3, routes=["/a=1"], lanes=["/l=1"])
    running, _, other_a, plain = bench.submit("/a", "/b", "/a", "/c")
    assert len(bench.queue) == 2
    bench.queue.release(bench.started[1].record)
    assert bench.started[-1] is plain
    bench.queue.release(running.record)
    assert bench.started[-1] is other_a


def test_one_ticket_given_back_starts_one():
    """However many requests wait; two that end start two."""
    bench = Bench(per_client=2)
    exchanges = bench.submit(*["/"] * 6)
    bench.queue.release(exchanges[0].record)
    assert bench.started == exchanges[:3]
    bench.queue.release(exchanges[1].record)
    bench.queue.release(exchanges[2].record)
    assert bench.started == exchanges[:5]


def test_a_ticket_is_given_back_once():
    """A detached thread is released when it is replaced, and again when it ends."""
    bench = Bench(per_client=1)
    first, second, third = bench.submit("/", "/", "/")
    bench.queue.release(first.record)
    bench.queue.release(first.record)
    assert bench.started == [first, second]
    assert third not in bench.started


def test_whoever_is_withdrawn_waits_no_longer():
    """It takes no permit; a request that was in the pool's queue gives its permits back."""
    bench = Bench(per_client=1)
    first, second, third = bench.submit("/", "/", "/")
    assert bench.queue.withdraw(second) is True
    assert not bench.queue.withdraw(first)
    assert bench.started == [first, third]


def test_whether_one_is_admitted():
    """A request whose permits are available does not wait."""
    bench = Bench(per_client=1)
    bench.submit("/")
    assert not bench.queue.admits(an_exchange()[0])
    assert bench.queue.admits(an_exchange(client="192.0.2.2")[0])


def test_who_waits_for_a_thread_alone():
    """Limits of clients and routes are given out in turn; a reserved thread is a thread too."""
    bench = Bench(threads=3, per_client=2, routes=["/a=1"], lanes=["/l=2"])
    make = lambda path, client: an_exchange(path, client)[0].record  # noqa: E731
    running = [make("/a", "192.0.2.1")]
    route, first, client, other = queued = [
        make("/a", "192.0.2.2"),
        make("/", "192.0.2.1"),
        make("/", "192.0.2.1"),
        make("/", "192.0.2.3"),
    ]
    assert list(bench.queue.free_to_run(running, queued)) == [first, other]
    assert list(bench.queue.free_to_run([], queued)) == queued
    assert list(bench.queue.free_to_run([first, client], queued)) == [route, other]


def test_an_executor_that_was_shut_down():
    """`submit` raises, and requests that wait are cut off."""
    bench = Bench(per_client=1)
    first, second, third = bench.submit("/", "/", "/")
    bench.shut_down = True
    with pytest.raises(RuntimeError):
        bench.submit("/", client="192.0.2.2")
    assert bench.queue.admits(an_exchange(client="192.0.2.2")[0])
    bench.queue.release(first.record)
    assert second.record.finished_at
    assert third.record.finished_at
    assert not len(bench.queue)


def test_what_has_ended_is_forgotten():
    """Nothing is kept of an address whose requests have ended."""
    bench = Bench(per_client=1)
    for number in range(10):
        (exchange,) = bench.submit("/", client=f"192.0.2.{number}")
        bench.queue.release(exchange.record)
    assert not bench.queue._in_use
    assert not bench.queue._holders


@pytest.mark.parametrize(
    ("one", "other", "prefix", "same"),
    [
        ("2001:db8::1", "2001:db8::2", 64, True),
        ("2001:db8::1", "2001:db8:0:0:ffff::", 64, True),
        ("2001:db8::1", "2001:db8:0:1::1", 64, False),
        ("2001:db8::1", "2001:db8:0:1::1", 56, True),
        ("2001:db8::1", "2001:db8::2", 128, False),
        ("2001:db8::1", "2001:DB8:0::1", 128, True),
        ("192.0.2.1", "192.0.2.2", 64, False),
        ("fe80::1%eth0", "fe80::2%eth0", 64, True),
        ("a:name", "a:name2", 64, False),
    ],
)
def test_an_ipv6_client_is_known_by_its_network(one, other, prefix, same):
    """One client has 2^64 addresses; one of IPv4 has one."""
    assert (client_network(one, prefix) == client_network(other, prefix)) is same


def test_addresses_of_one_network_share_a_limit():
    """The second request waits, and one of another network does not."""
    bench = Bench(per_client=1)
    bench.submit("/1", client="2001:db8::1")
    bench.submit("/2", client="2001:db8::2")
    bench.submit("/3", client="2001:db8:1::2")
    assert [exchange.record.request.path for exchange in bench.started] == ["/1", "/3"]
