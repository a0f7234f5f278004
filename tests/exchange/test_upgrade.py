"""Connections that applications take over: what they get, how that ends, and when it is refused."""

from __future__ import annotations

import logging
import ssl
from threading import Event

import pytest
import trustme
from support import PATIENCE, UNIT, eventually

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange.upgrade import KEYS, UpgradeSlots

ASK = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


def echo(environ, start_response):
    """Answer 101, and send back what comes until the client sends no more."""
    sock = environ["aiowsgi.socket"]
    sock.sendall(SWITCH)
    while data := sock.recv(100):
        sock.sendall(data)
    sock.sendall(b"bye")
    raise StopIteration


def keys(environ, start_response):
    """Say whether the connection can be taken, and do not take it."""
    start_response("200 OK", [])
    return [b"yes" if all(key in environ for key in KEYS) else b"no"]


def upgraded(client):
    """Ask for the echo, and read the server's 101."""
    client.send(ASK)
    assert read(client, len(SWITCH)) == SWITCH


def read(client, size):
    """So many bytes, exactly."""
    data = client.file.read(size)
    assert len(data) == size
    return data


def test_an_application_takes_the_connection(serve, connect, caplog):
    """It reads and writes by itself; the connection ends with it, and nothing is added."""
    caplog.set_level(logging.ERROR)
    client = connect(serve(echo, threads=2))
    upgraded(client)
    for number in range(5):
        client.send(b"message %d" % number)
        assert read(client, 9) == b"message %d" % number
    client.finish()
    assert client.read_to_end() == b"bye"
    assert caplog.text == ""


@pytest.mark.parametrize("size", [1, 150, 100_000])
def test_bytes_behind_the_request_are_handed_along(serve, connect, size):
    """What the event loop has received already comes first, and in order."""
    client = connect(serve(echo, threads=2))
    data = bytes(number % 251 for number in range(size))
    client.send(ASK + data)
    assert read(client, len(SWITCH)) == SWITCH
    assert read(client, size) == data
    client.send(b"later")
    assert read(client, 5) == b"later"


def test_received_into_a_buffer(serve_on_loops, connect):
    """recv_into() gives the first bytes too, and MSG_PEEK leaves them."""

    def app(environ, start_response):
        import socket

        sock = environ["aiowsgi.socket"]
        peeked = sock.recv(2, socket.MSG_PEEK)
        buffer = bytearray(3)
        count = sock.recv_into(buffer)
        rest = sock.recv_into(bytearray(10), 4)
        more = bytearray(5)
        sock.sendall(b"%b %d %b %d" % (peeked, count, buffer, rest))
        sock.recv_into(more)
        sock.sendall(bytes(more))

    client = connect(serve_on_loops(app, threads=2))
    client.send(ASK + b"abcdefg")
    assert read(client, 10) == b"ab 3 abc 4"
    client.send(b"hello")
    assert client.read_to_end() == b"hello"


def test_an_application_that_does_not_take_it_answers_as_ever(serve, connect):
    """The offer alone changes nothing; the connection is kept."""
    client = connect(serve(keys, threads=2))
    for _ in range(3):
        client.send(ASK)
        status, _, body = client.read_response()
        assert (status, body) == (200, b"yes")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ASK.replace(b"Upgrade: echo", b"Upgrade: h2c"),
        ASK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ASK[:-2] + b"Content-Length: 3\r\n\r\nabc",
    ],
    ids=["not asked for", "h2c", "HTTP/1.0", "body"],
)
def test_not_offered(serve_on_loops, connect, request_):
    """A request that cannot or does not ask for another protocol has no socket."""
    client = connect(serve_on_loops(keys, threads=2))
    client.send(request_)
    assert client.read_response()[2] == b"no"


def test_not_offered_over_tls(serve_on_loops, connect, tmp_path):
    """The bytes on an encrypted connection are of no use to an application."""
    authority, file = trustme.CA(), tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    client = connect(serve_on_loops(keys, threads=2, certfile=file))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with context.wrap_socket(client.socket, server_hostname="localhost") as encrypted:
        encrypted.sendall(ASK)
        assert b"no" in encrypted.recv(1000)


def test_as_many_as_are_allowed(serve_on_loops, connect):
    """Others are answered 503, until one has ended; other requests find a thread."""
    server = serve_on_loops(echo, threads=2)
    first, second, third = (connect(server) for _ in range(3))
    upgraded(first)
    second.send(ASK)
    status, fields, _ = second.read_response()
    assert (status, fields["retry-after"]) == (503, "1")
    first.finish()
    first.read_to_end()

    def again():
        third.send(ASK)
        status, fields = third.read_head()
        if status == 503:
            read(third, int(fields["content-length"]))
        return status == 101

    eventually(again)


def test_none_with_one_thread(serve_on_loops, connect):
    """The only thread is for requests, unless the option says otherwise."""
    client = connect(serve_on_loops(echo, threads=1))
    client.send(ASK)
    assert client.read_response()[0] == 503
    upgraded(connect(serve_on_loops(echo, threads=1, max_upgraded=1)))


def test_a_client_that_goes_ends_it(serve_on_loops, connect):
    """The application finds the end, or an error."""
    ended = Event()

    def app(environ, start_response):
        try:
            return echo(environ, start_response)
        except OSError:
            return []
        finally:
            ended.set()

    client = connect(serve_on_loops(app, threads=2))
    upgraded(client)
    client.reset()
    assert ended.wait(PATIENCE)


def test_time_limits_are_for_requests(serve_on_loops, connect):
    """Neither the limit for the application nor that of an idle connection ends it."""
    limit = 0.05 * UNIT
    options = {"request_timeout": limit, "keep_alive": limit, "slow_request_log": limit / 2}
    client = connect(serve_on_loops(echo, threads=2, **options))
    upgraded(client)
    client.socket.settimeout(6 * limit)
    with pytest.raises(TimeoutError):
        client.socket.recv(1)
    client.socket.settimeout(PATIENCE)
    client.send(b"still here")
    assert client.socket.recv(10) == b"still here"


@pytest.mark.parametrize(
    ("error", "logged"),
    [(ValueError("a bug"), True), (ClientDisconnected("gone"), False), (StopIteration(), False)],
)
def test_what_the_application_raises(serve_on_loops, connect, caplog, error, logged):
    """A fault is logged, and the connection ends without a response."""

    def app(environ, start_response):
        environ["gunicorn.socket"].sendall(SWITCH)
        raise error

    client = connect(serve_on_loops(app, threads=2))
    upgraded(client)
    assert client.read_to_end() == b""
    assert ("a bug" in caplog.text) is logged


def test_stop_iteration_without_a_socket_is_a_fault(serve_on_loops, connect, caplog):
    """It means something only for an application that has taken the connection."""

    def app(environ, start_response):
        raise StopIteration

    client = connect(serve_on_loops(app, threads=2))
    client.send(ASK)
    assert client.read_response()[0] == 500
    assert "StopIteration" in caplog.text


def test_what_it_returns_is_closed_and_dropped(serve_on_loops, connect):
    """An iterable with close() has that called (PEP 3333), and none of it is sent."""
    closed = Event()

    class Body(list):
        def close(self):
            closed.set()

    def app(environ, start_response):
        environ["aiowsgi.socket"].sendall(SWITCH)
        start_response("200 OK", [])
        return Body([b"never sent"])

    client = connect(serve_on_loops(app, threads=2))
    upgraded(client)
    assert client.read_to_end() == b""
    assert closed.wait(PATIENCE)


def test_the_socket_cannot_be_taken_later(serve_on_loops, connect):
    """An offer is for the call of the application; the response has priority afterwards."""
    offers = []

    def app(environ, start_response):
        offers.append(environ["aiowsgi.socket"])
        start_response("200 OK", [])
        return [b"response"]

    client = connect(serve_on_loops(app, threads=2))
    client.send(ASK)
    assert client.read_response()[2] == b"response"
    with pytest.raises(RuntimeError, match="only while the application is called"):
        offers[0].fileno()


def test_a_begun_response_keeps_the_connection(serve_on_loops, connect, caplog):
    """What write() has sent is a response, and is not followed by another protocol."""
    raised = []

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])(b"abcd")
        try:
            environ["aiowsgi.socket"].sendall(b"x")
        except ClientDisconnected as error:
            raised.append(error)
        return []

    client = connect(serve_on_loops(app, threads=2))
    client.send(ASK)
    assert client.read_response()[2] == b"abcd"
    eventually(lambda: raised)


def test_a_stop_tells_the_application(serve_on_loops, connect):
    """It finds the end of its input, can still send, and the stop waits for it."""
    server = serve_on_loops(echo, threads=2, graceful_timeout=PATIENCE)
    client = connect(server)
    upgraded(client)
    server._server._state.loop.call_soon_threadsafe(server._server.close)
    assert client.read_to_end() == b"bye"


def test_a_stop_does_not_wait_for_ever(serve_on_loops, connect):
    """After the time for requests in progress, the connection is cut and the thread is free."""
    began, ended = Event(), Event()

    def app(environ, start_response):
        sock = environ["aiowsgi.socket"]
        sock.sendall(SWITCH)
        while sock.recv(1):
            pass
        began.set()
        try:
            # The client does not read: this waits until the connection is cut.
            while True:
                sock.sendall(b"x" * 1_000_000)
        except OSError:
            ended.set()

    from aiowsgi import testing

    with testing.serve(app, threads=2) as server:
        client = connect(server, receive_buffer=4096)
        client.send(ASK)
        read(client, len(SWITCH))
        client.finish()
        assert began.wait(PATIENCE)
    assert ended.wait(PATIENCE)


def test_slots(caplog):
    """Each is taken once, and can be taken again when it was given back; the log says once that
    none was free."""
    slots = UpgradeSlots(2)
    assert [slots.enter() for _ in range(3)] == [True, True, False]
    slots.leave()
    assert [slots.enter() for _ in range(2)] == [True, False]
    assert [slots.enter() for _ in range(3)] == [False] * 3
    assert caplog.text.count("see --max-upgraded and --threads") == 1
