"""How connections end: clients that go, and time limits."""

from __future__ import annotations

import itertools
from queue import SimpleQueue
from threading import Event

import pytest
from conversing import BIG, GET, POST, echo, hello
from support import PATIENCE, UNIT, Client, Gate, eventually, small_buffers

from aiowsgi.connection.connection import Connection
from aiowsgi.connection.state import Timeouts


class Iterable:
    """Blocks, and an event for their end."""

    def __init__(self, blocks):
        self.blocks = iter(blocks)
        self.closed = Event()
        self.closes = 0

    def __iter__(self):
        return self.blocks

    def close(self):
        self.closes += 1
        self.closed.set()


# The end


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
def test_a_client_that_goes_ends_the_iteration(serve_on_loops, connect, leave):
    """The generator is stopped, `close` is called, and the only thread serves the next client."""
    returned = Iterable(b"x" * 10_000 for _ in itertools.count())

    def app(environ, start_response):
        if environ["PATH_INFO"] != "/":
            return hello(environ, start_response)
        start_response("200 OK", [])
        return returned

    server = serve_on_loops(app, threads=1, response_buffer=10_000, response_spool=100_000)
    client = connect(server)
    client.get("/")
    client.read_head()
    leave(client)
    assert returned.closed.wait(PATIENCE)
    other = connect(server)
    other.get("/other")
    assert other.read_response()[0] == 200
    assert returned.closes == 1


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
@pytest.mark.parametrize("how", ["wait", "callback"])
def test_the_application_hears_of_a_client_that_went(serve_on_loops, connect, leave, how):
    """``aiowsgi.disconnected`` is set while the application works."""
    gate, heard = Gate(), Event()

    def app(environ, start_response):
        disconnected = environ["aiowsgi.disconnected"]
        assert not disconnected.is_set()
        if how == "callback":
            disconnected.add_callback(heard.set)
        gate.reached.set()
        if disconnected.wait(PATIENCE) and how == "wait":
            heard.set()
        start_response("200 OK", [])
        return []

    client = connect(serve_on_loops(app))
    client.get()
    gate.wait()
    leave(client)
    assert heard.wait(PATIENCE)


def test_a_client_that_goes_while_it_waits_for_a_thread_costs_none(serve_on_loops, connect):
    """An exchange whose client has gone is not begun."""
    gate, called = Gate(), []

    def app(environ, start_response):
        called.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/first":
            gate.pass_through()
        return hello(environ, start_response)

    server = serve_on_loops(app, threads=1)
    first, second, third = connect(server), connect(server), connect(server)
    first.get("/first")
    gate.wait()
    second.get("/second")
    eventually(lambda: server._server._hub.waiting() == 1)
    second.reset()
    eventually(lambda: len(server._server._hub.connections) == 2)
    third.get("/third")
    gate.open()
    assert third.read_response()[0] == 200
    assert called == ["/first", "/third"]


def test_a_closing_transport_is_left_alone(make_connection):
    """Between the close and connection_lost, nothing is begun any more."""
    connection, transport, hub, _ = make_connection()
    connection.data_received(GET)
    connection.abort()
    connection.look(0.0)
    connection._attend()
    connection.drain()
    assert connection.idle_since() is None
    assert transport.calls == ["abort"]
    connection.connection_lost(None)
    connection._attend()
    assert connection.look(0.0) == float("inf")
    connection.connection_lost(None)
    assert not hub.connections


# Time limits


def test_a_header_section_has_its_time(serve_on_loops, connect):
    """408, though the client sends a byte now and then."""
    client = connect(serve_on_loops(hello, header_timeout=0.2 * UNIT))
    client.send(b"GET / HTTP/1.1\r\n")
    assert client.read_response()[0] == 408
    assert client.read_to_end() == b""


def test_a_connection_without_a_request_is_closed_silently(serve_on_loops, connect):
    """The first request has as long as a header section."""
    client = connect(serve_on_loops(hello, header_timeout=0.1 * UNIT))
    assert client.read_to_end() == b""


def test_a_kept_connection_is_closed_silently(serve_on_loops, connect):
    """Nobody waits for an answer: there is none."""
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

    def look(connection, now):
        looks.put(now)
        return original(connection, now)

    original = Connection.look
    monkeypatch.setattr(Connection, "look", look)

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
    returned = Iterable(BIG for _ in itertools.count())

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
    """After its last answer, a client has a while to take it and go."""
    server = serve_on_loops(hello)
    hub = server._server._hub
    hub.timeouts = hub.timeouts._replace(linger=0.1 * UNIT)
    client = connect(server)
    client.send(b"nonsense\r\n\r\n")
    assert client.read_to_end().startswith(b"HTTP/1.1 400 ")
    eventually(lambda: not hub.connections)


def test_limits_that_are_off_never_end(make_connection):
    """0 means for as long as it takes, in every state."""
    off = Timeouts(header=0, body=0, write=0, keep_alive=0, queue=0, linger=0.1)
    connection, transport, hub, _ = make_connection(timeouts=off)
    assert connection.look(1e12) == float("inf")
    connection.data_received(GET[:10])
    assert connection.look(1e12) == float("inf")
    connection.data_received(GET[10:])
    hub.loop.run_soon()
    assert connection.look(1e12) == float("inf")
    connection.data_received(POST + b"Content-Length: 5\r\n\r\n")
    assert connection.look(1e12) == float("inf")
    assert transport.calls == []
