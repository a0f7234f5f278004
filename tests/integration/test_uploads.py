"""Bodies of which the reading thread receives the greater part itself, end to end."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Event, Thread

import pytest
from conversing import POST, only_connection
from support import PATIENCE, UNIT, Client, Gate, eventually

from aiowsgi.exceptions import ClientDisconnected, RequestBodyError
from aiowsgi.exchange.output import ResponseOutput

SIZE = 4_000_000
"""Many times what is held for an application that does not read."""

BODY = random.Random(1).randbytes(SIZE)
LENGTH = b"Content-Length: %d\r\n\r\n" % SIZE


@pytest.fixture(autouse=True)
def received(monkeypatch):
    """How much the threads of the application received at a time."""
    sizes: list[int] = []
    original = ResponseOutput.receive_into

    def receive_into(self, buffer):
        sizes.append(0)
        sizes[-1] = original(self, buffer)
        return sizes[-1]

    monkeypatch.setattr(ResponseOutput, "receive_into", receive_into)
    return sizes


def digest(*sizes, gate=None):
    """An application that reads so much at a time, in turn, and answers with what it has got."""

    def app(environ, start_response):
        if gate is not None and environ["REQUEST_METHOD"] == "POST":
            gate.pass_through()
        stream, seen, turn = environ["wsgi.input"], sha256(), 0
        while block := stream.read(sizes[turn % len(sizes)]):
            seen.update(block)
            turn += 1
        start_response("200 OK", [])
        return [seen.hexdigest().encode()]

    return app


def held_back(server):
    """Wait until the loop reads no more of the only connection's socket."""
    connection = only_connection(server)
    eventually(lambda: not connection._transport.reading)
    return connection


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("sizes", [(65_536,), (1000, 200_000, 7), (-1,)])
def test_it_arrives_whole_and_the_next_request_is_served(serve, connect, received, mode, sizes):
    """Whatever the application reads at a time; and what follows the body is no part of it."""
    gate = Gate()
    server = serve(digest(*sizes, gate=gate), request_buffering=mode)
    client = connect(server)
    following = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.send, POST + LENGTH + BODY + following)
        gate.wait()
        held_back(server)
        gate.open()
        assert client.read_response()[2] == sha256(BODY).hexdigest().encode()
        assert client.read_response()[2] == sha256().hexdigest().encode()
        sending.result(PATIENCE)
    assert sum(received) > 0
    # And once more on the same connection.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(client.send, POST + LENGTH + BODY)
        assert client.read_response()[2] == sha256(BODY).hexdigest().encode()


def test_a_chunked_body_is_the_loops(serve_on_loops, connect, received):
    """How much is ahead is not known."""
    client = connect(serve_on_loops(digest(65_536)))
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, BODY)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(client.send, POST + b"Transfer-Encoding: chunked\r\n\r\n" + framed)
        assert client.read_response()[2] == sha256(BODY).hexdigest().encode()
    assert not received


@pytest.mark.parametrize("leave", [Client.close, Client.finish, Client.reset])
def test_a_client_that_goes_is_an_error_of_reading(serve_on_loops, connect, leave):
    """A part of a body is never taken for the whole; nothing is left behind."""
    gate, errors = Gate(), []

    def app(environ, start_response):
        gate.pass_through()
        try:
            while environ["wsgi.input"].read(65_536):
                pass
        except OSError as error:
            errors.append(error)
            raise
        raise AssertionError("the body was taken for a whole one")

    server = serve_on_loops(app)
    client = connect(server)
    client.send(POST + LENGTH + BODY[:1_000_000])
    gate.wait()
    held_back(server)
    leave(client)
    gate.open()
    eventually(lambda: not server._server._state.connections)
    assert isinstance(errors[0], ClientDisconnected)


def test_a_client_that_stops_sending_has_its_time(serve_on_loops, connect, received):
    """The thread took what there was; then the loop waits, and the limit counts."""
    client = connect(serve_on_loops(digest(65_536), body_timeout=0.3 * UNIT))
    client.send(POST + LENGTH + BODY[:1_000_000])
    assert client.read_response()[0] == 408
    assert client.read_to_end() == b""
    assert received


def test_who_was_answered_504_receives_no_more(serve_on_loops, connect, received):
    """The rest of the connection is not for a thread that came too late."""
    gate, errors, ended = Gate(), [], Event()

    def app(environ, start_response):
        stream = environ["wsgi.input"]
        stream.read(1)
        gate.pass_through()
        try:
            stream.read()
        except OSError as error:
            errors.append(error)
            raise
        finally:
            ended.set()

    server = serve_on_loops(app, request_timeout=0.2 * UNIT)
    client = connect(server)
    with ThreadPoolExecutor(1) as pool:
        # The client may find the connection closed before it could send everything.
        pool.submit(client.send, POST + LENGTH + BODY)
        assert client.read_response()[0] == 504
        before = len(received)
        gate.open()
        assert ended.wait(PATIENCE)
        client.close()
    assert isinstance(errors[0], ClientDisconnected)
    assert len(received) == before


def test_a_thread_that_reads_on_after_the_response_does_not_wait_for_ever(serve_on_loops, connect):
    """An application may hand ``wsgi.input`` to a thread of its own, and answer at once."""
    errors, readers, held = [], [], Event()

    def read(stream):
        try:
            stream.read()
        except OSError as error:
            errors.append(error)

    def app(environ, start_response):
        readers.append(Thread(target=read, args=(environ["wsgi.input"],)))
        readers[-1].start()
        assert held.wait(PATIENCE)
        start_response("200 OK", [])
        return [b"thank you"]

    server = serve_on_loops(app)
    client = connect(server)
    client.send(POST + LENGTH + BODY[:1_000_000])
    eventually(lambda: readers)
    connection = only_connection(server)
    # All that there was has been received, and the thread waits.
    eventually(lambda: (body := connection._body) is not None and body.stream.waits_for_client)
    held.set()
    code, fields, body = client.read_response()
    assert (code, fields["connection"], body) == (200, "close", b"thank you")
    readers[0].join(PATIENCE)
    assert isinstance(errors[0], ClientDisconnected | RequestBodyError)


def test_an_application_that_does_not_want_the_rest(serve_on_loops, connect):
    """The client, which still sends, can read its answer."""
    gate = Gate()

    def app(environ, start_response):
        environ["wsgi.input"].read(1)
        gate.pass_through()
        environ["wsgi.input"].read(1_000_000)
        start_response("200 OK", [])
        return [b"enough"]

    server = serve_on_loops(app)
    client = connect(server)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.send, POST + LENGTH + BODY)
        gate.wait()
        held_back(server)
        gate.open()
        code, fields, body = client.read_response()
        assert (code, fields["connection"], body) == (200, "close", b"enough")
        sending.result(PATIENCE)
    client.finish()
    assert client.read_to_end() == b""
