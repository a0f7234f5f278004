"""Threads that hang, queues that are full, clients that leave or dawdle: on real sockets."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import monotonic, time

import pytest
from support import PATIENCE, UNIT, Client, Gate, eventually

from aiowsgi import Config, Server
from aiowsgi.exceptions import RequestTimedOut

pytestmark = pytest.mark.slow("soak")

SOON = 0.5 * UNIT
"""Seconds of the time limits that are meant to pass."""

TRUSTING = {"proxy_headers": True, "forwarded_allow_ips": ("127.0.0.1",)}
"""The test is a proxy, and says who its clients are."""


class Site:
    """Answers at once, but waits at the gate under ``/wait``; remembers what it was asked."""

    def __init__(self):
        self.gate = Gate()
        self.asked = []

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        self.asked.append(path)
        if path.startswith("/wait"):
            self.wait_at_the_gate()
        start_response("200 OK", [])
        return [path.encode()]

    def wait_at_the_gate(self):
        self.gate.pass_through()


@pytest.fixture
def site():
    """Whoever waits at its gate is let go when the test is over."""
    made = Site()
    yield made
    made.gate.open()


def state_of(server):
    return server._server._state


def pool_of(server):
    return state_of(server).scheduler.executor


def asked(client, path="/", *fields):
    """The status of one request."""
    client.get(path, *fields)
    return client.read_response()[0]


def occupied(server, connect, site, count=1):
    """Clients that have all of the server's threads wait at the gate."""
    clients = [connect(server) for _ in range(count)]
    for client in clients:
        client.get("/wait")
    eventually(lambda: site.asked.count("/wait") == count)
    return clients


# The request timeout


def test_a_request_that_takes_too_long_is_answered_and_its_thread_replaced(
    serve_on_loops, connect, site, caplog
):
    """504 while the application hangs; the only thread of the pool serves the next request."""
    server = serve_on_loops(site, threads=1, request_timeout=SOON)
    client = connect(server)
    client.get("/wait?a=1")
    code, fields, _ = client.read_response()
    assert (code, "connection" in fields) == (504, False)
    assert asked(client) == 200
    assert not site.gate.opened.is_set()
    assert asked(connect(server)) == 200
    assert [exchange.request.path for exchange in state_of(server).scheduler.detached] == ["/wait"]
    assert (pool_of(server).size, pool_of(server).detached) == (1, 1)
    (record,) = (r for r in caplog.records if "takes too long" in r.getMessage())
    assert record.levelno == logging.ERROR
    assert "GET /wait?a=1 HTTP/1.1" in record.getMessage()
    assert "in wait_at_the_gate" in record.getMessage()
    site.gate.open()
    eventually(lambda: pool_of(server).detached == 0)
    assert state_of(server).scheduler.detached == []
    assert server._server.ready


def test_a_response_that_has_begun_is_torn(serve_on_loops, connect, site):
    """Nobody takes what came for the whole."""

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"the beginning"
        site.gate.pass_through()
        yield b"the end"

    server = serve_on_loops(app, threads=1, request_timeout=SOON)
    client = connect(server)
    client.get()
    assert client.read_head()[0] == 200
    with pytest.raises(ConnectionResetError):
        client.read_to_end()
    eventually(lambda: pool_of(server).detached == 1)


def test_late_results_go_nowhere_and_the_iterable_is_closed(serve_on_loops, connect, site):
    """The client has its one answer, of which the access log has one line."""
    closed, late, reports = Event(), Event(), []

    class Blocks:
        def __iter__(self):
            late.set()
            yield b"late"

        def close(self):
            closed.set()

    def app(environ, start_response):
        site.gate.pass_through()
        start_response("200 OK", [])
        return Blocks()

    server = serve_on_loops(app, threads=1, request_timeout=SOON)
    state_of(server).context.finished = lambda exchange, response, environ: reports.append(response)
    client = connect(server)
    client.get()
    assert client.read_response()[0] == 504
    site.gate.open()
    assert closed.wait(PATIENCE)
    assert late.is_set()
    client.finish()
    assert client.read_to_end() == b""
    eventually(lambda: pool_of(server).detached == 0)
    assert reports == []


def test_the_body_of_a_request_that_takes_too_long_ends(serve_on_loops, connect, site):
    """An application that waits for its client hears that nobody waits for the answer."""
    errors = []

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(error)
            raise

    server = serve_on_loops(app, request_buffering="off", request_timeout=SOON)
    client = connect(server)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc")
    assert client.read_response()[0] == 504
    eventually(lambda: len(errors) == 1)
    eventually(lambda: pool_of(server).detached == 0)


def test_a_thread_hangs_though_its_client_has_gone(serve_on_loops, connect, site):
    """It is lost to the others all the same, and replaced."""
    server = serve_on_loops(site, threads=1, request_timeout=SOON)
    client = connect(server)
    client.get("/wait")
    site.gate.wait()
    client.reset()
    assert asked(connect(server)) == 200
    assert pool_of(server).detached == 1


def test_a_thread_hangs_after_the_response(serve_on_loops, connect, site, caplog):
    """In close(), which nobody waits for; it is replaced, and the client keeps its answer."""

    class Blocks(list):
        def close(self):
            site.gate.pass_through()

    def app(environ, start_response):
        start_response("200 OK", [])
        return Blocks([b"whole"]) if environ["PATH_INFO"] == "/wait" else [b""]

    server = serve_on_loops(app, threads=1, request_timeout=SOON)
    client = connect(server)
    client.get("/wait")
    assert client.read_response()[2] == b"whole"
    assert asked(client) == 200
    assert pool_of(server).detached == 1
    assert "in close" in caplog.text


def test_the_budget_is_spent(serve_on_loops, connect, site, caplog):
    """So many threads are replaced; with the next the server says that it should be."""
    spent = []
    server = serve_on_loops(site, threads=2, request_timeout=SOON, max_detached_threads=1)
    server._server.spent = lambda: spent.append(server._server.ready)
    client = connect(server)
    assert asked(client, "/wait/1") == 504
    assert server._server.ready
    assert asked(connect(server), "/wait/2") == 504
    assert asked(connect(server)) == 200
    assert spent == [False]
    assert "hang" in server._server.unready_because
    assert (pool_of(server).size, pool_of(server).detached) == (2, 1)
    assert asked(connect(server), "/wait/3") == 504
    assert spent == [False]
    assert "2 threads hang" in caplog.text


def test_without_a_budget_the_first_one_spends_it(serve_on_loops, connect, site):
    """--max-detached-threads 0."""
    server = serve_on_loops(site, threads=2, request_timeout=SOON, max_detached_threads=0)
    assert asked(connect(server), "/wait") == 504
    assert not server._server.ready
    assert pool_of(server).detached == 0
    assert asked(connect(server)) == 200


def test_the_default_budget_is_the_number_of_threads(serve_once, site):
    """auto."""
    assert state_of(serve_once(site, threads=3)).scheduler.options.detaching.detached == 3


def test_a_thread_that_hangs_can_be_interrupted(serve_on_loops, connect, caplog):
    """An exception ends what is Python, and with it the detached thread."""
    caught = []

    def spin():
        while True:
            sum(range(1000))

    def app(environ, start_response):
        try:
            if environ["PATH_INFO"] == "/spin":
                spin()
        except RequestTimedOut as error:
            caught.append(error)
            raise
        start_response("200 OK", [])
        return []

    server = serve_on_loops(app, threads=1, request_timeout=SOON, interrupt_detached=True)
    assert asked(connect(server), "/spin") == 504
    eventually(lambda: pool_of(server).detached == 0)
    assert [type(error) for error in caught] == [RequestTimedOut]
    assert asked(connect(server)) == 200
    assert state_of(server).scheduler.detached == []


@pytest.mark.parametrize("timeout", [0, 30])
def test_the_application_knows_its_deadline(serve_once, connect, timeout):
    """Monotonic seconds, counted from when the thread began; None without a limit."""
    deadlines = []

    def app(environ, start_response):
        deadlines.append((environ["aiowsgi.deadline"], monotonic()))
        start_response("200 OK", [])
        return []

    assert asked(connect(serve_once(app, request_timeout=timeout))) == 200
    ((deadline, now),) = deadlines
    if timeout:
        assert now < deadline <= now + timeout
    else:
        assert deadline is None


def test_a_slow_request_is_logged_while_it_runs(serve_on_loops, connect, site, caplog):
    """Once, with its stack; it goes on, and so does a second one."""
    server = serve_on_loops(site, threads=2, slow_request_log=SOON)

    def lines(path):
        return [r for r in caplog.records if f"GET {path} " in r.getMessage()]

    first, second = connect(server), connect(server)
    first.get("/wait/1")
    eventually(lambda: lines("/wait/1"))
    second.get("/wait/2")
    eventually(lambda: lines("/wait/2"))
    (record,) = lines("/wait/1")
    assert record.levelno == logging.WARNING
    assert "has been running for" in record.getMessage()
    assert "in wait_at_the_gate" in record.getMessage()
    site.gate.open()
    assert first.read_response()[0] == second.read_response()[0] == 200
    assert asked(connect(server)) == 200
    assert pool_of(server).detached == 0


def test_a_slow_reader_is_no_slow_request(serve_on_loops, connect, caplog):
    """What the application has finished is not looked at again, however long its client takes."""
    begun = Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            begun.set()
            Event().wait(3 * SOON)
        start_response("200 OK", [])
        return [bytes(8_000_000)]

    server = serve_on_loops(app, threads=1, request_timeout=SOON * 100, slow_request_log=SOON)
    client = connect(server, receive_buffer=4096)
    client.get("/fast")
    client.read_head()
    assert asked(connect(server), "/slow") == 200
    assert begun.is_set()
    assert "GET /slow " in caplog.text
    assert "GET /fast " not in caplog.text
    assert len(client.file.read(8_000_000)) == 8_000_000


def test_an_executor_of_the_programs_is_left_as_it_is(site):
    """Its clients are answered in time; who hangs keeps the program's thread until it ends."""

    async def main(executor):
        config = Config(
            bind=("127.0.0.1:0",), access_log=False, request_timeout=SOON, interrupt_detached=True
        )
        async with Server(site, config, executor=executor) as server:
            with Client(server.port) as client, Client(server.port) as other:
                assert await asyncio.to_thread(asked, client, "/wait") == 504
                assert server.ready
                assert len(server._state.scheduler.detached) == 1
                other.get()
                site.gate.open()
                assert (await asyncio.to_thread(other.read_response))[0] == 200
                assert server._state.scheduler.detached == []

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(main(executor))


def test_a_system_without_another_thread_spends_the_budget(
    serve_on_loops, connect, site, monkeypatch
):
    """What cannot be replaced is not replaced, and the loop goes on."""
    server = serve_on_loops(site, threads=2, request_timeout=SOON)

    def fail():
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool_of(server), "_start_thread", fail)
    assert asked(connect(server), "/wait") == 504
    assert not server._server.ready
    assert asked(connect(server)) == 200


# The queue


def test_the_time_in_a_trusted_proxy_counts(serve_on_loops, connect, site):
    """A request that has waited there for too long is turned away at once."""
    server = serve_on_loops(site, queue_timeout=20, **TRUSTING)
    client = connect(server)
    assert asked(client, "/", f"X-Request-Start: t={time() - 5:.3f}") == 200
    assert asked(client, "/", f"X-Request-Start: t={time() - 25:.3f}") == 503
    assert asked(client, "/", f"X-Request-Start: {(time() - 25) * 1e6:.0f}") == 503
    assert site.asked == ["/"]


def test_a_client_cannot_say_how_long_it_has_waited(serve_on_loops, connect, site):
    """Nobody but a trusted proxy is believed."""
    for options in ({}, {"proxy_headers": True, "forwarded_allow_ips": ("192.0.2.1",)}):
        client = connect(serve_on_loops(site, queue_timeout=20, **options))
        assert asked(client, "/", f"X-Request-Start: t={time() - 25:.3f}") == 200


def test_what_waits_for_a_thread_is_bounded(serve_on_loops, connect, site):
    """Over the number or over the time: 503 with Retry-After, and the connection is kept."""
    server = serve_on_loops(site, threads=1, queue_size=1, queue_timeout=SOON)
    occupied(server, connect, site)
    late, over = connect(server), connect(server)
    late.get()
    eventually(lambda: state_of(server).scheduler.waiting() == 1)
    for client in (over, late):
        if client is over:
            client.get()
        code, fields, _ = client.read_response()
        assert (code, fields["retry-after"]) == (503, "1")
        assert "connection" not in fields
    site.gate.open()
    eventually(lambda: not state_of(server).scheduler.waiting())
    assert asked(over) == asked(late) == 200
    assert site.asked == ["/wait", "/", "/"]


def test_a_request_whose_client_has_gone_is_dropped_and_counted(serve_on_loops, connect, site):
    """No thread begins with it, and it takes no room in the queue."""
    server = serve_on_loops(site, threads=1, queue_size=2)
    occupied(server, connect, site)
    state = state_of(server)
    for number in range(1, 6):
        gone = connect(server)
        gone.send(b"POST /gone HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok")
        eventually(lambda: len(state.connections) == 2)
        eventually(lambda: state.scheduler.waiting() > len(state.context.abandoned))
        gone.reset()
        eventually(lambda n=number: state.scheduler.dropped == n)
        # It would have been full with the second, and would have grown for ever.
        assert state.scheduler.waiting() <= 3
    stays = connect(server)
    stays.get("/stays")
    eventually(lambda: len(state.connections) == 2)
    assert stays.nothing_came()
    site.gate.open()
    assert stays.read_response()[0] == 200
    assert site.asked == ["/wait", "/stays"]
    eventually(lambda: not state.context.abandoned)


def test_a_client_that_goes_while_its_request_runs_is_not_dropped(serve_on_loops, connect, site):
    """Only who waits is counted."""
    server = serve_on_loops(site, threads=1)
    (client,) = occupied(server, connect, site)
    client.reset()
    eventually(lambda: not state_of(server).connections)
    assert state_of(server).scheduler.dropped == 0
    assert not state_of(server).context.abandoned


# Fairness


def test_one_clients_flood_does_not_block_another(serve_on_loops, connect, site):
    """Beyond its limit it waits for itself, even where it fills the queue."""
    options = {"threads": 3, "limit_per_client": 2, "queue_size": 2}
    server = serve_on_loops(site, **options, **TRUSTING)
    same = "X-Forwarded-For: 192.0.2.66"
    flood = [connect(server) for _ in range(4)]
    for client in flood[:2]:
        client.get("/wait", same)
    eventually(lambda: len(site.asked) == 2)
    for client in flood[2:]:
        client.get("/wait", same)
    eventually(lambda: len(state_of(server).scheduler.fair_queue) == 2)
    assert asked(connect(server), "/wait", same) == 503
    assert asked(connect(server), "/other", "X-Forwarded-For: 192.0.2.7") == 200
    assert site.asked == ["/wait", "/wait", "/other"]
    site.gate.open()
    assert [client.read_response()[0] for client in flood] == [200] * 4


def test_what_waits_for_its_turn_is_given_up_like_all_else(serve_on_loops, connect, site):
    """By its client, or by the clock."""
    server = serve_on_loops(site, limit_per_client=1, queue_timeout=SOON)
    occupied(server, connect, site)
    gone, late = connect(server), connect(server)
    gone.send(b"POST /gone HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok")
    eventually(lambda: len(state_of(server).scheduler.fair_queue) == 1)
    gone.reset()
    eventually(lambda: state_of(server).scheduler.dropped == 1)
    assert len(state_of(server).scheduler.fair_queue) == 0
    assert asked(late) == 503
    assert len(state_of(server).scheduler.fair_queue) == 0
    assert not state_of(server).context.abandoned
    site.gate.open()
    eventually(lambda: state_of(server).scheduler.fair_queue._in_use == {})
    assert asked(late) == 200


def test_a_route_has_its_limit(serve_on_loops, connect, site):
    """What is slow has so many threads, and all else has the others."""
    server = serve_on_loops(site, threads=2, route_limit="/wait/*=1")
    first, second = connect(server), connect(server)
    first.get("/wait/1")
    site.gate.wait()
    second.get("/wait/2")
    eventually(lambda: len(state_of(server).scheduler.fair_queue) == 1)
    assert asked(connect(server)) == 200
    site.gate.open()
    assert first.read_response()[2] == b"/wait/1"
    assert second.read_response()[2] == b"/wait/2"


def test_a_reserved_lane_answers_while_all_else_hangs(serve_on_loops, connect, site):
    """Also when the queue is full."""
    server = serve_on_loops(site, threads=2, queue_size=1, reserve_threads="/healthz,/login*=1")
    occupied(server, connect, site)
    waiting, over = connect(server), connect(server)
    waiting.get("/waits")
    eventually(lambda: len(state_of(server).scheduler.fair_queue) == 1)
    assert asked(over) == 503
    for path in ("/healthz", "/login", "/login/form"):
        assert asked(connect(server), path) == 200
    site.gate.open()
    assert waiting.read_response()[0] == 200


def test_a_thread_that_was_replaced_gives_its_tickets_back(serve_on_loops, connect, site):
    """Whoever waited for them is served while it still hangs."""
    server = serve_on_loops(site, threads=2, route_limit="/*=1", request_timeout=SOON)
    hangs, waits = connect(server), connect(server)
    hangs.get("/wait")
    site.gate.wait()
    waits.get("/")
    assert hangs.read_response()[0] == 504
    assert waits.read_response()[0] == 200
    assert not site.gate.opened.is_set()


def test_an_executor_that_is_shut_down_under_those_who_wait(site, caplog):
    """They are cut off, and nothing reaches the loop's handler."""

    async def main(executor):
        config = Config(bind=("127.0.0.1:0",), access_log=False, limit_per_client=1)
        async with Server(site, config, executor=executor) as server:
            with Client(server.port) as first, Client(server.port) as second:
                first.get("/wait", "Connection: close")
                await asyncio.to_thread(site.gate.wait)
                second.get()
                await asyncio.to_thread(eventually, lambda: len(server._state.scheduler.fair_queue))
                executor.shutdown(wait=False)
                site.gate.open()
                assert (await asyncio.to_thread(first.read_response))[0] == 200
                with pytest.raises(ConnectionResetError):
                    await asyncio.to_thread(second.read_to_end)

    with ThreadPoolExecutor(2) as executor:
        asyncio.run(main(executor))
