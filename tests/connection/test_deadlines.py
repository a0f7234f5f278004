"""The time limits of a connection, each seen from the client."""

from __future__ import annotations

import itertools
from queue import SimpleQueue
from threading import Event

import pytest
from conversing import BIG, GET, POST, ClosingIterable, echo, hello
from support import PATIENCE, UNIT, Gate, eventually, small_buffers

from aiowsgi.connection import body_rate, deadlines
from aiowsgi.connection.connection import Connection
from aiowsgi.connection.deadlines import Timeouts, shortest
from aiowsgi.threads.scheduler import SchedulerOptions


def test_a_header_section_has_its_time(serve_on_loops, connect):
    """408, though the client sends a byte now and then."""
    client = connect(serve_on_loops(hello, header_timeout=0.2 * UNIT))
    client.send(b"GET / HTTP/1.1\r\n")
    assert client.read_response()[0] == 408
    assert client.read_to_end() == b""


def test_a_connection_without_a_request_is_closed_silently(serve_on_loops, connect):
    """The first byte has the same limit as a header section."""
    client = connect(serve_on_loops(hello, header_timeout=0.1 * UNIT))
    assert client.read_to_end() == b""


def test_a_kept_connection_is_closed_silently(serve_on_loops, connect):
    """The client expects no response."""
    client = connect(serve_on_loops(hello, keep_alive=0.1 * UNIT))
    client.get()
    assert client.read_response()[0] == 200
    assert client.read_to_end() == b""


def test_a_held_body_has_its_time(serve_on_loops, connect):
    """408 for a body that stops coming before the application has begun."""
    client = connect(serve_on_loops(echo, body_timeout=0.2 * UNIT))
    client.send(POST + b"Content-Length: 10\r\n\r\nabc")
    assert client.read_response()[0] == 408
    assert client.read_to_end() == b""


def test_a_streamed_body_has_its_time(serve_on_loops, connect):
    """The application's read raises; unhandled, that is a 408."""
    client = connect(serve_on_loops(echo, body_timeout=0.2 * UNIT, request_buffering="off"))
    client.send(POST + b"Content-Length: 10\r\n\r\nabc")
    assert client.read_response()[0] == 408
    assert client.read_to_end() == b""


def test_a_client_that_waits_to_be_asked_is_not_timed(serve_on_loops, connect, monkeypatch):
    """The time for a body begins when the client is asked for it."""
    gate, looks = Gate(), SimpleQueue()

    def check_deadlines(connection, now):
        looks.put(now)
        return original(connection, now)

    original = Connection.check_deadlines
    monkeypatch.setattr(Connection, "check_deadlines", check_deadlines)

    def app(environ, start_response):
        gate.pass_through()
        return echo(environ, start_response)

    server = serve_on_loops(app, body_timeout=0.1 * UNIT)
    client = connect(server)
    client.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    gate.wait()
    for _ in range(4):
        looks.get(timeout=PATIENCE)
    gate.open()
    assert client.read_head()[0] == 100
    client.send(b"abc")
    assert client.read_response()[2] == b"abc"


def test_a_client_that_reads_nothing_is_cut(serve_on_loops, connect):
    """No progress for the write timeout: the connection is reset, and the thread is free."""
    returned = ClosingIterable(BIG for _ in itertools.count())

    def app(environ, start_response):
        start_response("200 OK", [])
        return returned

    server = serve_on_loops(
        app, write_timeout=0.2 * UNIT, response_spool=0, response_buffer=1000, **small_buffers()
    )
    client = connect(server, receive_buffer=4096)
    client.get()
    assert returned.closed.wait(PATIENCE)
    with pytest.raises(ConnectionResetError):
        client.read_to_end()


def test_a_request_that_waits_too_long_for_a_thread_is_turned_away(serve_on_loops, connect):
    """503 with Retry-After; the connection is kept."""
    gate = Gate()
    server = serve_on_loops(gate.before(hello), threads=1, queue_timeout=0.1 * UNIT)
    first, second = connect(server), connect(server)
    first.get()
    gate.wait()
    second.get()
    code, fields, _ = second.read_response()
    assert (code, fields["retry-after"]) == (503, "1")
    assert "connection" not in fields
    gate.open()
    assert first.read_response()[0] == 200
    second.get()
    assert second.read_response()[0] == 200


def test_a_client_that_does_not_close_is_cut_in_the_end(serve_on_loops, connect):
    """After the last response, a client has a limited time to read it and close."""
    server = serve_on_loops(hello)
    state = server._server._state
    state.timeouts = state.timeouts._replace(linger=0.1 * UNIT)
    client = connect(server)
    client.send(b"nonsense\r\n\r\n")
    assert client.read_to_end().startswith(b"HTTP/1.1 400 ")
    eventually(lambda: not state.connections)


def test_limits_that_are_off_never_end(make_connection):
    """0 is no limit, in every state."""
    off = Timeouts(header=0, body=0, write=0, keep_alive=0, linger=0.1)
    options = SchedulerOptions(queue_timeout=0)
    connection, transport, state, _ = make_connection(timeouts=off, options=options)
    assert connection.check_deadlines(1e12) == float("inf")
    connection.data_received(GET[:10])
    assert connection.check_deadlines(1e12) == float("inf")
    connection.data_received(GET[10:])
    state.loop.run_soon()
    assert connection.check_deadlines(1e12) == float("inf")
    connection.data_received(POST + b"Content-Length: 5\r\n\r\n")
    assert connection.check_deadlines(1e12) == float("inf")
    assert transport.calls == []


def test_the_timer_wheels_period_is_the_shortest_limit():
    """Limits that are off do not count."""
    assert shortest(Timeouts(header=0, body=5, linger=7), SchedulerOptions()) == 5
    assert shortest(Timeouts(), SchedulerOptions(slow_request=1.5)) == 1.5
    assert shortest(Timeouts(0, 0, 0, 0), SchedulerOptions(queue_timeout=0)) > 0


@pytest.mark.parametrize("buffering", ["auto", "off"])
def test_a_client_that_drips_its_body_is_ended(serve_once, connect, monkeypatch, buffering):
    """408, though no pause between two bytes is as long as the body timeout."""
    monkeypatch.setattr(body_rate, "RATE_GRACE", 0.1 * UNIT)
    monkeypatch.setattr(body_rate, "RATE_WINDOW", 0.2 * UNIT)
    monkeypatch.setattr(deadlines, "RATE_WINDOW", 0.2 * UNIT)
    client = connect(serve_once(echo, min_body_rate=1000, request_buffering=buffering))
    client.send(POST + b"Content-Length: 1000000\r\n\r\n")
    while client.nothing_came():
        client.send(b"x")
        Event().wait(0.01 * UNIT)
    assert client.read_response()[0] == 408
    assert client.read_to_end() == b""
