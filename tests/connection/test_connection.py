"""Requests and responses in turn: order, persistence, refusals, and how connections end."""

from __future__ import annotations

import itertools
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from conversing import GET, POST, ClosingIterable, chunked, echo, hello, only_connection
from support import PATIENCE, Client, Gate, eventually

from aiowsgi.connection.state import ConnectionState

# Order and persistence


def test_a_kept_connection_serves_one_request_after_another(serve, connect):
    """HTTP/1.1 connections persist without being asked to (RFC 9112 section 9.3)."""
    client = connect(serve(hello))
    for number in range(3):
        client.get(f"/{number}")
        code, fields, body = client.read_response()
        assert (code, body) == (200, f"hello /{number}".encode())
        assert "connection" not in fields


def test_pipelined_requests_are_answered_in_order(serve, connect):
    """Requests that come at once are answered one after another (RFC 9112 section 9.3.2)."""
    client = connect(serve(hello))
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)))
    for number in range(50):
        assert client.read_response()[2] == b"hello /%d" % number


@pytest.mark.parametrize(
    ("request_lines", "kept"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
    ],
)
def test_a_connection_is_kept_as_the_client_asks(serve, connect, request_lines, kept):
    """Persistence is HTTP/1.1's default and HTTP/1.0's option (RFC 9112 section 9.3)."""
    client = connect(serve(hello))
    client.send(request_lines)
    assert client.read_response()[2] == b"hello /"
    if kept:
        client.send(request_lines)
        assert client.read_response()[2] == b"hello /"
    else:
        assert client.read_to_end() == b""


def test_a_half_closed_client_gets_its_response(serve, connect):
    """A client may close its sending side after its request and still be answered."""
    client = connect(serve(hello))
    client.get("/half")
    client.finish()
    assert client.read_to_end().endswith(b"hello /half")


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
def test_pipelined_requests_with_bodies_are_answered_in_order(serve, connect, mode):
    """Each request is read behind the body before it, whatever its framing."""
    client = connect(serve(echo, request_buffering=mode))
    stream, expected = b"", []
    for number in range(20):
        body = b"%d" % number * (number % 5)
        if number % 2:
            stream += POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
        else:
            stream += POST + b"Transfer-Encoding: chunked\r\n\r\n"
            stream += (
                chunked(body[:3], body[3:]) if len(body) > 3 else chunked(*[body][: len(body)])
            )
        expected.append(body)
    client.send(stream)
    assert [client.read_response()[2] for _ in expected] == expected


def test_pipelined_requests_of_a_half_closed_client_are_all_answered(serve_on_loops, connect):
    """The end of input comes after requests that are still to be served."""
    client = connect(serve_on_loops(hello))
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(10)))
    client.finish()
    for number in range(10):
        assert client.read_response()[2] == b"hello /%d" % number
    assert client.read_to_end() == b""


def test_a_request_cut_short_is_dropped_without_a_word(serve_on_loops, connect):
    """A client that closes in the middle of a head or of a body waits for nothing."""
    server = serve_on_loops(hello)
    for cut in (b"GET / HT", POST + b"Content-Length: 5\r\n\r\nab"):
        client = connect(server)
        client.send(cut)
        client.finish()
        assert client.read_to_end() == b""


def test_later_requests_are_held_back_without_bound_on_memory(serve_on_loops, connect):
    """While one is served, the socket is not read beyond a bound; afterwards all are answered."""
    gate = Gate()
    server = serve_on_loops(gate.before(hello, "/first"))
    client = connect(server)
    client.get("/first")
    gate.wait()
    count = 4000
    with ThreadPoolExecutor(1) as pool:
        requests = b"GET /next HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % (b"y" * 900) * count
        sending = pool.submit(client.send, requests)
        connection = only_connection(server)
        eventually(lambda: not connection._transport.reading)
        assert connection._reader.buffered < 1_000_000
        gate.open()
        for _ in range(count + 1):
            assert client.read_response()[0] == 200
        sending.result(PATIENCE)


def test_responses_never_reach_another_client(serve_on_loops, connect):
    """Clients that come and go at any moment, each gets its own answers or none."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()] * 3

    server = serve_on_loops(app, threads=4)

    def hammer(seed):
        rng = random.Random(seed)
        for number in range(60):
            path = f"/{seed}-{number}"
            with Client(server.port) as client:
                client.get(path)
                if rng.random() < 0.3:
                    client.get(path)
                match rng.randrange(3):
                    case 0:
                        client.reset()
                    case 1:
                        client.finish()
                        assert client.read_response()[2] == path.encode() * 3
                    case 2:
                        assert client.read_response()[2] == path.encode() * 3

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hammer, range(4)))


# Responses


@pytest.mark.parametrize("kept", [True, False])
def test_a_head_request_has_a_head_and_nothing_else(serve, connect, kept):
    """HEAD, 204 and 304 break nothing on a kept connection."""

    def app(environ, start_response):
        start_response({"/204": "204 No", "/304": "304 No"}.get(environ["PATH_INFO"], "200 OK"), [])
        return [b"body"]

    client = connect(serve(app))
    client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.read_response(head_only=True)[1]["content-length"] == "4"
    client.get("/204")
    assert "content-length" not in client.read_response()[1]
    client.get("/304")
    assert client.read_response()[0] == 304
    client.get("/", *([] if kept else ["Connection: close"]))
    assert client.read_response()[2] == b"body"


def test_a_body_of_unknown_length_ends_with_the_connection_for_1_0(serve, connect):
    """HTTP/1.0 has no chunks; keep-alive is not offered then."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return iter([b"ab", b"cd"])

    client = connect(serve(app))
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    _, fields = client.read_head()
    assert fields["connection"] == "close"
    assert "transfer-encoding" not in fields
    assert client.read_to_end() == b"abcd"


def test_a_response_that_is_too_long_is_cut_and_the_connection_goes_on(
    serve_on_loops, connect, caplog
):
    """The excess is logged; nothing of it is taken for the next response."""

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "3")])
        return iter([b"ab", b"cdef", b"ghi"])

    client = connect(serve_on_loops(app))
    for _ in range(2):
        client.get()
        assert client.read_response()[2] == b"abc"
    eventually(lambda: caplog.text.count("longer than its Content-Length") == 2)


BASE_EXCEPTIONS = [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError]


@pytest.mark.parametrize("error", BASE_EXCEPTIONS)
def test_nothing_an_application_raises_costs_a_thread(serve_once, connect, error):
    """Each is one 500; the only thread serves the next request on the same connection."""

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/raise":
            raise error
        return hello(environ, start_response)

    client = connect(serve_once(app, threads=1))
    client.get("/raise")
    assert client.read_response()[0] == 500
    client.get("/next")
    assert client.read_response()[2] == b"hello /next"


def test_blocks_are_sent_as_they_come(serve_on_loops, connect):
    """A generator's block is with the client before the next one is made."""
    gate = Gate()

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"first"
        gate.pass_through()
        yield b"second"

    client = connect(serve_on_loops(app))
    client.get()
    client.read_head()
    assert client.file.readline() == b"5\r\n"
    assert client.file.read(7) == b"first\r\n"
    gate.wait()
    gate.open()
    assert client.read_chunked() == b"second"


def test_early_hints_come_before_the_response(serve_on_loops, connect):
    """103 is sent as soon as the application gives it (RFC 8297)."""
    gate = Gate()

    def app(environ, start_response):
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        gate.pass_through()
        return hello(environ, start_response)

    client = connect(serve_on_loops(app))
    client.get()
    assert client.read_head() == (103, {"link": "</a.css>; rel=preload"})
    gate.open()
    assert client.read_response()[0] == 200


def test_a_proxy_that_is_not_believed_is_reported_once(serve_once, connect, caplog):
    """Else redirects go to http:// and nothing says why; later requests say nothing more."""
    server = serve_once(hello)
    for _ in range(2):
        client = connect(server)
        client.get("/", "X-Forwarded-Proto: https")
        assert client.read_response()[0] == 200
    assert caplog.text.count("X-Forwarded-Proto: https, which is not used") == 1


def test_wsgi_errors_goes_to_logging(serve_once, connect, caplog):
    """What the application writes there is logged."""

    def app(environ, start_response):
        print("oh no", file=environ["wsgi.errors"])
        return hello(environ, start_response)

    client = connect(serve_once(app))
    client.get()
    client.read_response()
    assert ("aiowsgi.errors", logging.ERROR, "oh no") in caplog.record_tuples


# Refusals, and the last response


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"x" * 200 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 500 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: x\r\n" * 10 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 5000, 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (POST + b"Content-Length: 1000\r\n\r\n", 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n", 413),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", 417),
    ],
)
def test_a_request_beyond_a_limit_is_refused_with_its_status(serve, connect, sent, status):
    """The answer says why, has a date, and closes; the application sees nothing."""
    app = iter(())  # not callable: an application that is never to be called
    limits = {
        "limit_request_line": 100,
        "max_header_size": 300,
        "limit_request_fields": 5,
        "max_body_size": 999,
    }
    client = connect(serve(app, **limits))
    client.send(sent)
    code, fields, body = client.read_response()
    assert (code, fields["connection"]) == (status, "close")
    assert "date" in fields
    assert body.startswith(b"%d " % status)
    assert client.read_to_end() == b""


def test_a_request_that_finds_the_queue_full_is_turned_away(serve_on_loops, connect):
    """503 with Retry-After at once; the connection is kept, unless a body is still to come."""
    gate = Gate()
    server = serve_on_loops(gate.before(hello), threads=1, queue_size=1, request_buffering="off")
    clients = [connect(server) for _ in range(4)]
    clients[0].get()
    gate.wait()
    clients[1].get()
    eventually(lambda: server._server._state.scheduler.waiting() == 1)
    clients[2].get()
    code, fields, _ = clients[2].read_response()
    assert (code, fields["retry-after"], "connection" in fields) == (503, "1", False)
    clients[3].send(POST + b"Content-Length: 900000\r\n\r\n" + bytes(600_000))
    assert clients[3].read_response()[1]["connection"] == "close"
    gate.open()
    for client in clients[:2]:
        assert client.read_response()[0] == 200
    clients[2].get()
    assert clients[2].read_response()[0] == 200


def test_a_refusal_keeps_the_connection_if_the_end_of_the_request_is_known(serve_once, connect):
    """A trusted proxy's malformed field is a 400; the next request is served."""
    client = connect(serve_once(hello, proxy_headers=True))
    client.get("/", "X-Forwarded-Host: a b")
    code, fields, _ = client.read_response()
    assert (code, "connection" in fields) == (400, False)
    client.get("/next")
    assert client.read_response()[2] == b"hello /next"
    # Otherwise the rest of the body would be taken for a request.
    client.send(POST + b"X-Forwarded-Host: a b\r\nContent-Length: 600000\r\n\r\n" + bytes(550_000))
    code, fields, _ = client.read_response()
    assert (code, fields["connection"]) == (400, "close")


@pytest.mark.parametrize("expected", [413, 400])
def test_a_client_that_still_uploads_can_read_its_refusal(serve_on_loops, connect, expected):
    """What comes after the refusal is drained: no reset destroys it (RFC 9112 section 9.6)."""
    client = connect(serve_on_loops(echo, max_body_size=1000))
    if expected == 413:
        client.send(POST + b"Content-Length: 1000000\r\n\r\n")
    else:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(client.send, bytes(1_000_000)).result(PATIENCE)
    assert client.read_response()[0] == expected
    assert client.read_to_end() == b""


@pytest.mark.parametrize("asked", [b"", b"Connection: close\r\n"])
def test_a_client_that_still_uploads_can_read_its_answer(serve_on_loops, connect, asked):
    """An application that does not read a large body is heard all the same."""
    client = connect(serve_on_loops(hello, request_buffering="off"))
    client.send(POST + asked + b"Content-Length: 3000000\r\n\r\n" + bytes(100_000))
    eventually(lambda: not client.nothing_came())
    client.send(bytes(1_000_000))
    code, fields, _ = client.read_response()
    assert (code, fields["connection"]) == (200, "close")
    assert client.read_to_end() == b""


# Closing


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
def test_a_client_that_goes_ends_the_iteration(serve_on_loops, connect, leave):
    """The generator is stopped, `close` is called, and the only thread serves the next client."""
    returned = ClosingIterable(b"x" * 10_000 for _ in itertools.count())

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
    eventually(lambda: server._server._state.scheduler.waiting() == 1)
    second.reset()
    eventually(lambda: len(server._server._state.connections) == 2)
    third.get("/third")
    gate.open()
    assert third.read_response()[0] == 200
    assert called == ["/first", "/third"]


def test_a_closing_transport_is_left_alone(make_connection):
    """Between the close and connection_lost, nothing is begun any more."""
    connection, transport, state, _ = make_connection()
    connection.data_received(GET)
    connection.abort()
    connection.check_deadlines(0.0)
    connection._attend()
    connection.drain()
    assert connection.idle_since() is None
    assert transport.calls == ["abort"]
    connection.connection_lost(None)
    connection._attend()
    assert connection.check_deadlines(0.0) == float("inf")
    connection.connection_lost(None)
    assert not state.connections


# The table of states


class FakeSSL:
    """What TLS knows of a client without a certificate; what is sent can be held back then."""

    def cipher(self):
        return ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)

    def version(self):
        return "TLSv1.3"

    def getpeercert(self, **options):
        return None


NEVER = 1e12
"""Monotonic seconds at which every limit is exceeded."""

TABLE = {
    # state: what the client sends to get there, and then for each event the state, what the
    # transport was told, and the status that was sent.
    "IDLE": (b"", {"data": ("HEAD", [], None), "time": ("IDLE", ["close"], None)}),
    "HEAD": (b"GET /x", {"data": ("HEAD", [], None), "time": ("LINGERING", ["write_eof"], 408)}),
    "BODY": (
        POST + b"Content-Length: 9\r\n\r\n",
        {"data": ("BODY", [], None), "time": ("LINGERING", ["write_eof"], 408)},
    ),
    "SERVING": (GET, {"data": ("SERVING", [], None), "time": ("SERVING", ["abort"], None)}),
    "LINGERING": (
        b"nonsense\r\n\r\n",
        {"data": ("LINGERING", [], None), "time": ("LINGERING", ["abort"], None)},
    ),
    "CLOSED": (None, {"data": ("CLOSED", [], None), "time": ("CLOSED", [], None)}),
}


@pytest.mark.parametrize("event", ["data", "time", "eof"])
@pytest.mark.parametrize("name", TABLE)
def test_each_state_meets_each_event_as_the_table_says(make_connection, name, event):
    """The table in the docstring of ``connection/connection.py``, cell by cell."""
    sent, cells = TABLE[name]
    connection, transport, state, _ = make_connection(tls=FakeSSL())
    if name == "SERVING":
        connection.pause_writing()
    if sent is None:
        connection.connection_lost(None)
    elif sent:
        connection.data_received(sent)
        state.loop.run_soon()
    assert connection.current_state() is ConnectionState[name]
    transport.calls.clear()
    transport.written = b""
    if event == "eof":
        # Only a client that is served is waited for; asyncio closes the connection otherwise.
        assert connection.eof_received() is (name == "SERVING")
        assert (connection.state, transport.calls) == (ConnectionState[name], [])
        return
    after, calls, status = cells[event]
    if event == "data":
        connection.data_received(b"G")
    else:
        connection.check_deadlines(NEVER)
    state.loop.run_soon()
    if not calls or status:
        assert connection.current_state() is ConnectionState[after]
    assert transport.calls == calls
    assert transport.written.startswith(b"HTTP/1.1 %d " % status if status else b"")
    assert bool(transport.written) is bool(status)
