"""Request bodies: collected or streamed, asked for, cut short, and refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from conversing import BIG, POST, chunked, echo, hello, only_connection
from support import PATIENCE, Client, Gate, eventually, small_buffers

from aiowsgi.connection.body_receiver import BodyPolicy
from aiowsgi.exceptions import ClientDisconnected, RequestBodyError
from aiowsgi.exchange.output_buffer import SCARCE_MEMORY


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
@pytest.mark.parametrize("size", [0, 1, 100_000, 1_000_000])
def test_a_body_arrives_whole_in_every_mode(serve_on_loops, connect, mode, size):
    """By length or in chunks, held, spooled or streamed, the application reads what was sent."""
    client = connect(serve_on_loops(echo, request_buffering=mode))
    body = BIG[:size]
    with ThreadPoolExecutor(1) as pool:
        for head, framed, length in (
            (b"Content-Length: %d" % size, body, str(size)),
            (
                b"Transfer-Encoding: chunked",
                chunked(*[body[n : n + 7000] for n in range(0, size, 7000)]),
                "chunked" if mode == "off" else str(size),
            ),
        ):
            sending = pool.submit(client.send, POST + head + b"\r\n\r\n" + framed)
            code, fields, seen = client.read_response()
            sending.result(PATIENCE)
            assert (code, fields["x-length"], seen == body) == (200, length, True)


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_slow_small_upload_holds_no_thread(serve_on_loops, connect, mode):
    """With one thread, another client is served while a body comes slowly."""
    server = serve_on_loops(echo, threads=1, request_buffering=mode)
    slow, quick = connect(server), connect(server)
    slow.send(POST + b"Content-Length: 6\r\n\r\nabc")
    quick.get()
    assert quick.read_response()[0] == 200
    slow.send(b"def")
    assert slow.read_response()[2] == b"abcdef"


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_waiting_client_is_asked_for_its_body_at_the_first_read(serve_on_loops, connect, mode):
    """100 (Continue) comes when the application reads, and not before."""
    gate = Gate()
    client = connect(serve_on_loops(gate.before(echo), request_buffering=mode))
    client.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    gate.wait()
    assert client.nothing_came()
    gate.open()
    assert client.read_head()[0] == 100
    client.send(b"abc")
    assert client.read_response()[2] == b"abc"
    client.get()
    assert client.read_response()[0] == 200


def test_a_waiting_client_is_asked_at_once_where_bodies_are_held(serve_on_loops, connect):
    """With buffering on, the application is not asked whether it wants the body."""
    client = connect(serve_on_loops(echo, request_buffering="on"))
    client.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert client.read_head()[0] == 100
    client.send(b"abc")
    assert client.read_response()[2] == b"abc"


def test_a_client_that_goes_while_it_is_asked_for_its_body(make_connection):
    """With buffering on the loop itself sends the 100; a failure stays inside."""
    connection, transport, state, client = make_connection()
    state.bodies = BodyPolicy("on")
    client.close()
    connection.data_received(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    state.loop.run_soon()
    assert transport.calls == ["abort"]


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_body_that_is_not_wanted_is_not_asked_for(serve_on_loops, connect, mode):
    """A final status without reading sends no 100, and the connection is closed."""
    client = connect(serve_on_loops(hello, request_buffering=mode))
    client.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    code, fields, _ = client.read_response()
    assert (code, fields["connection"]) == (200, "close")
    assert client.read_to_end() == b""


def test_an_upload_waits_for_an_application_that_does_not_read(serve_on_loops, connect):
    """Above the high-water mark the socket is not read; the client waits, and memory is bounded."""
    gate = Gate()

    def app(environ, start_response):
        first = environ["wsgi.input"].read(1)
        gate.pass_through()
        rest = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [str(len(first + rest)).encode()]

    server = serve_on_loops(app)
    client = connect(server)
    size = 30_000_000
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(
            client.send, POST + b"Content-Length: %d\r\n\r\n" % size + bytes(size)
        )
        gate.wait()
        connection = only_connection(server)
        eventually(lambda: not connection._transport.reading)
        assert connection._body.stream._size < 2_000_000
        assert not sending.done()
        gate.open()
        assert client.read_response()[2] == b"%d" % size
        sending.result(PATIENCE)


def test_a_client_that_goes_is_noticed_behind_a_large_body(serve_on_loops, connect):
    """Backpressure ends with the body: the socket is read again, if only to see its end."""
    heard = Event()

    def app(environ, start_response):
        while environ["wsgi.input"].read(100_000):
            pass
        if environ["aiowsgi.disconnected"].wait(PATIENCE):
            heard.set()
        start_response("200 OK", [])
        return []

    client = connect(serve_on_loops(app))
    client.send(POST + b"Content-Length: 5000000\r\n\r\n" + bytes(5_000_000))
    client.close()
    assert heard.wait(PATIENCE)


def test_a_fault_at_the_end_of_a_small_body_keeps_the_application_out(serve, connect):
    """With auto buffering the application never sees a small body that is malformed."""
    called = []

    def app(environ, start_response):
        called.append(environ)
        return echo(environ, start_response)

    client = connect(serve(app))
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n")
    code, fields, _ = client.read_response()
    assert (code, fields["connection"]) == (400, "close")
    assert client.read_to_end() == b""
    assert not called


@pytest.mark.parametrize("handled", [False, True])
def test_a_fault_in_a_streamed_body_is_an_error_of_reading(serve, connect, handled):
    """The application gets an OSError, never a short body; the connection is closed."""
    seen = []

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            seen.append(error)
            if not handled:
                raise
        start_response("418 Teapot", [])
        return [b"handled"]

    client = connect(serve(app, request_buffering="off"))
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n")
    code, fields, _ = client.read_response()
    assert (code, fields["connection"]) == (418 if handled else 400, "close")
    assert client.read_to_end() == b""
    assert isinstance(seen[0], RequestBodyError)


def test_a_client_that_goes_in_the_middle_of_a_streamed_body_is_an_error(serve_on_loops, connect):
    """A body cut short by the end of the connection is no shorter body; nothing is left behind."""
    seen, begun, ended = [], Event(), Event()

    def app(environ, start_response):
        begun.set()
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            seen.append(error)
            raise
        finally:
            ended.set()

    server = serve_on_loops(app, request_buffering="off")
    for leave in (Client.close, Client.finish, Client.reset):
        begun.clear()
        ended.clear()
        client = connect(server)
        client.send(POST + b"Content-Length: 10\r\n\r\nabc")
        # A reset that comes too early takes the request away, too.
        assert begun.wait(PATIENCE)
        leave(client)
        assert ended.wait(PATIENCE)
        assert isinstance(seen.pop(), ClientDisconnected)
        eventually(lambda: not server._server._state.connections)


def test_a_full_disk_is_a_507(serve_once, connect, monkeypatch, caplog):
    """A body that cannot be stored is refused, and nothing of it is left."""

    def full(**options):
        return open("/dev/full", "w+b", buffering=0)

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    client = connect(serve_once(echo, request_buffering="on"))
    client.send(POST + b"Content-Length: 600000\r\n\r\n" + bytes(600_000))
    code, fields, _ = client.read_response()
    assert (code, fields["connection"]) == (507, "close")
    assert "cannot be stored: [Errno 28]" in caplog.text


# Slow clients and worker threads


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize("size", [5, 600_000])
def test_a_chunked_body_has_a_length_in_auto(serve_on_loops, connect, expect, size):
    """Applications that read CONTENT_LENGTH bytes see all of it (RFC 9112 section 7.1.3)."""

    def app(environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [])
        return [b"%d %r" % (len(body), "HTTP_TRANSFER_ENCODING" in environ)]

    client = connect(serve_on_loops(app))
    client.send(POST + expect + b"Transfer-Encoding: chunked\r\n\r\n")
    if expect:
        assert client.read_head()[0] == 100
    client.send(chunked(BIG[:size]))
    assert client.read_response()[2] == b"%d False" % size


STALLED = {
    "expect": (b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n", b""),
    "large": (b"Content-Length: 2000000\r\n\r\n", bytes(524_288)),
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n", b"80000\r\n" + bytes(524_288)),
    "small": (b"Content-Length: 1000\r\n\r\n", b"x"),
}
"""Requests whose clients stop sending: the fields after Host, and what follows them."""


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("kind", STALLED)
def test_stalled_bodies_leave_threads_to_others(serve_once, connect, kind, threads):
    """At most half of the threads wait for clients; the other bodies are collected."""
    server = serve_once(echo, threads=threads)
    head, body = STALLED[kind]
    stalled = [connect(server) for _ in range(3 * threads)]
    for client in stalled:
        client.send(POST + head + body)
    good = connect(server)
    policy = server._server._state.bodies
    eventually(lambda: len(server._server._state.connections) == len(stalled) + 1)
    for _ in range(3):
        good.get()
        assert good.read_response()[0] == 200
    assert policy._streams <= threads // 2
    if kind in ("expect", "large"):
        eventually(lambda: policy._streams == threads // 2)
    for client in stalled:
        client.close()
    eventually(lambda: policy._streams == 0)


def test_a_client_that_waits_is_asked_by_the_loop_if_enough_threads_wait(serve_once, connect):
    """With one thread no body is streamed: 100 (Continue) does not wait for the application."""
    client = connect(serve_once(echo, threads=1))
    client.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert client.read_head()[0] == 100
    client.send(b"abc")
    assert client.read_response()[2] == b"abc"


def test_a_thread_is_free_for_the_next_body_when_the_one_before_is_complete(serve_once, connect):
    """However often bodies are streamed, and however they end."""
    server = serve_once(echo, threads=2)
    policy = server._server._state.bodies
    for _ in range(3):
        client = connect(server)
        client.send(POST + b"Content-Length: 600000\r\n\r\n" + bytes(600_000))
        assert client.read_response()[2] == bytes(600_000)
        eventually(lambda: policy._streams == 0)
        broken = connect(server)
        broken.send(POST + b"Content-Length: 600000\r\n\r\n" + bytes(550_000))
        eventually(lambda: policy._streams == 1)
        broken.reset()
        eventually(lambda: policy._streams == 0)


# Memory


def test_bodies_beyond_the_memory_budget_are_refused(serve_once, connect):
    """503 for a new body; a request without one is served, and a body in progress goes on."""
    server = serve_once(echo, memory_budget=100_000)
    first = connect(server)
    first.send(POST + b"Content-Length: 110000\r\n\r\n" + bytes(45_000))
    budget = server._server._state.bodies.budget
    eventually(lambda: budget.held == 45_000)
    budget.add(60_000)
    second = connect(server)
    second.send(POST + b"Content-Length: 5\r\n\r\nabcde")
    code, fields, _ = second.read_response()
    assert (code, fields["retry-after"], fields["connection"]) == (503, "1", "close")
    third = connect(server)
    third.get()
    assert third.read_response()[0] == 200
    first.send(bytes(65_000))
    assert first.read_response()[2] == bytes(110_000)
    eventually(lambda: budget.held == 60_000)


def test_what_a_client_does_not_read_counts_and_goes_to_disk_sooner(serve_once, connect):
    """Responses have the same budget; what is on disk does not count."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [BIG] * 10

    server = serve_once(app, memory_budget=100_000, **small_buffers())
    budget = server._server._state.bodies.budget
    client = connect(server, receive_buffer=4096)
    budget.add(60_000)
    client.get()
    _, fields = client.read_head()
    connection = only_connection(server)
    eventually(lambda: (buffer := connection._output._buffer) is not None and buffer.spooled)
    assert budget.held < 60_000 + SCARCE_MEMORY + 1
    assert client.file.read(int(fields["content-length"])) == BIG * 10
    eventually(lambda: budget.held == 60_000)


def test_a_stream_that_is_not_read_counts_until_it_is_closed(serve_once, connect):
    """The application that leaves its body alone still gives the memory back."""
    gate = Gate()
    server = serve_once(gate.before(hello), request_buffering="off")
    budget = server._server._state.bodies.budget
    client = connect(server)
    client.send(POST + b"Content-Length: 100000\r\n\r\n" + bytes(50_000))
    gate.wait()
    eventually(lambda: budget.held == 50_000)
    gate.open()
    assert client.read_response()[0] == 200
    eventually(lambda: budget.held == 0)


def test_later_and_incomplete_requests_count(serve_once, connect):
    """What the reader holds while a request is served, and a head that is not complete."""
    gate = Gate()
    server = serve_once(gate.before(hello))
    budget = server._server._state.bodies.budget
    client = connect(server)
    client.get()
    gate.wait()
    later = b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n"
    client.send(later)
    eventually(lambda: budget.held == len(later))
    gate.open()
    assert client.read_response()[0] == 200
    assert client.read_response()[2] == b"hello /later"
    eventually(lambda: budget.held == 0)
    client.send(later[:20])
    eventually(lambda: budget.held == 20)
    client.close()
    eventually(lambda: budget.held == 0)


def test_an_incomplete_head_beyond_the_budget_is_refused(serve_once, connect):
    """503: heads can be as large as bodies are."""
    server = serve_once(hello, memory_budget=1000)
    budget = server._server._state.bodies.budget
    budget.add(995)
    client = connect(server)
    client.send(b"GET /abcdefgh")
    code, fields, _ = client.read_response()
    assert (code, fields["connection"]) == (503, "close")
    eventually(lambda: budget.held == 995)
