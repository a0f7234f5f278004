"""How many connections there can be, and what happens to more: on real sockets."""

from __future__ import annotations

import os
import resource
import socket

import pytest
from support import PATIENCE, Gate, eventually

from aiowsgi.connection import connection
from aiowsgi.server import accept as accept_module
from aiowsgi.system.descriptors import (
    DESCRIPTORS_PER_CONNECTION,
    RESERVED_DESCRIPTORS,
    connection_capacity,
)


def hello(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]


@pytest.fixture
def room(monkeypatch):
    """Let there be room for so many connections."""

    def limit(count):
        monkeypatch.setattr(accept_module, "connection_capacity", lambda: count)

    return limit


def state_of(server):
    return server._server._state


def asked(client, path="/"):
    client.get(path)
    return client.read_response()[0]


@pytest.mark.parametrize(
    ("limit", "room"),
    [
        (RESERVED_DESCRIPTORS + 10 + 30 * DESCRIPTORS_PER_CONNECTION, 30),
        (RESERVED_DESCRIPTORS + 10 + 30 * DESCRIPTORS_PER_CONNECTION - 1, 29),
        (10, 1),
        (resource.RLIM_INFINITY, None),
    ],
)
def test_the_room_is_what_the_limit_on_descriptors_leaves(monkeypatch, limit, room):
    """A reserve is kept, and one connection can always be served."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    monkeypatch.setattr(os, "listdir", lambda path: ["fd"] * 10)
    if room is None:
        assert connection_capacity() > 1_000_000
    else:
        assert connection_capacity() == room


def test_a_system_that_does_not_list_descriptors(monkeypatch):
    """The reserve is taken for the number in use."""
    monkeypatch.setattr(
        resource,
        "getrlimit",
        lambda which: (2 * RESERVED_DESCRIPTORS + 7 * DESCRIPTORS_PER_CONNECTION, 0),
    )

    def fail(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", fail)
    assert connection_capacity() == 7


def test_idle_connections_make_room_the_oldest_first(serve_on_loops, connect, room):
    """No client waits while another connection is idle; the others stay."""
    room(4)
    server = serve_on_loops(hello)
    clients = [connect(server) for _ in range(3)]
    for client in (*clients, clients[0]):
        assert asked(client) == 200
        # The client may have its response before the thread has noted the time.
        eventually(lambda: all(c.exchange is None for c in tuple(state_of(server).connections)))
    for _ in range(2):
        assert asked(connect(server)) == 200
    assert clients[1].read_to_end() == b""
    assert asked(clients[0]) == 200


def test_one_that_becomes_idle_makes_room(serve_on_loops, connect, room):
    """No thread reports it: while a client waits, idle connections are searched for."""
    room(2)
    gate = Gate()
    server = serve_on_loops(gate.before(hello), threads=2)
    clients = [connect(server), connect(server)]
    for client in clients:
        client.get()
    late = connect(server)
    late.get()
    eventually(lambda: len(state_of(server).connections) == 2)
    gate.open()
    for client in clients:
        assert client.read_response()[0] == 200
    assert late.read_response()[0] == 200


def test_the_first_request_is_waited_for(serve_on_loops, connect, room, monkeypatch):
    """A new connection is not closed as an idle one would be."""
    monkeypatch.setattr(connection, "DRAIN_IDLE", PATIENCE)
    room(2)
    server = serve_on_loops(hello)
    kept, new = connect(server), connect(server)
    assert asked(kept) == 200
    late = connect(server)
    assert asked(late) == 200
    assert kept.read_to_end() == b""
    assert asked(new) == 200


def test_who_comes_too_late_waits_in_the_kernel(serve_on_loops, connect, room):
    """While all are busy no client is accepted; when one goes, the next is."""
    room(2)
    gate = Gate()
    server = serve_on_loops(gate.before(hello, "/wait"), threads=1)
    busy, waiting, late = connect(server), connect(server), connect(server)
    busy.get("/wait", "Connection: close")
    gate.wait()
    waiting.get("/wait", "Connection: close")
    late.get()
    eventually(lambda: len(state_of(server).connections) == 2)
    assert late.nothing_came()
    gate.open()
    assert busy.read_response()[0] == 200
    assert waiting.read_response()[0] == 200
    assert late.read_response()[0] == 200


def test_beyond_max_connections_one_is_told_so(serve_on_loops, connect):
    """503 with Retry-After, and the connection ends; when one goes there is room again."""
    server = serve_on_loops(hello, max_connections=2)
    first, second = connect(server), connect(server)
    assert asked(first) == asked(second) == 200
    third = connect(server)
    code, fields, _ = third.read_response()
    assert (code, fields["retry-after"], fields["connection"]) == (503, "1", "close")
    assert third.read_to_end() == b""
    third.close()
    first.close()
    eventually(lambda: len(state_of(server).connections) == 1)
    assert asked(connect(server)) == 200


def test_stopping_and_starting_are_idempotent(serve_on_loops, connect):
    """While it is stopped, connections are served and new clients wait."""
    server = serve_on_loops(hello)
    here = connect(server)
    assert asked(here) == 200
    call = state_of(server).loop.call_soon_threadsafe
    for _ in range(2):
        call(server._server.stop_accepting)
    eventually(lambda: not server._server.ready)
    late = connect(server)
    late.get()
    assert asked(here) == 200
    assert late.nothing_came()
    for _ in range(2):
        call(server._server.start_accepting)
    assert late.read_response()[0] == 200


def test_one_that_goes_does_not_open_what_was_closed(serve_on_loops, connect, room):
    """A server that was stopped does not begin again when a connection goes."""
    room(2)
    server = serve_on_loops(hello)
    clients = [connect(server), connect(server)]
    for client in clients:
        client.send(b"GET")
    eventually(lambda: len(state_of(server).connections) == 2)
    state_of(server).loop.call_soon_threadsafe(server._server.stop_accepting)
    eventually(lambda: not server._server.ready)
    clients[0].close()
    eventually(lambda: len(state_of(server).connections) == 1)
    late = connect(server)
    late.get()
    clients[1].send(b" / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert clients[1].read_response()[0] == 200
    assert late.nothing_came()


def test_a_connection_that_cannot_be_set_up_is_logged(serve_on_loops, connect, monkeypatch, caplog):
    """Its client is cut off, and the next one is served."""
    server = serve_on_loops(hello)

    class Failing:
        def __init__(self, *args, **options):
            raise RuntimeError("no memory, say")

    with monkeypatch.context() as patch:
        patch.setattr(accept_module, "Connection", Failing)
        client = connect(server)
        eventually(lambda: "could not be set up: no memory, say" in caplog.text)
    client.close()
    assert asked(connect(server)) == 200


def test_it_is_told_apart_whether_a_socket_is_of_an_address(serve_on_loops, tmp_path):
    """Unix sockets are accepted like others."""
    server = serve_on_loops(hello, bind=(f"unix:{tmp_path}/socket",))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/socket")
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"hello")
    assert server.port == 0
