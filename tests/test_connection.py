"""Connections: persistence, pipelining, closing, limits and time limits, over real sockets."""

from __future__ import annotations

import errno
import io
import itertools
import logging
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from queue import SimpleQueue
from threading import Event, current_thread

import pytest
from kernel import FakeLoop, FakeTransport, service_for
from support import PATIENCE, UNIT, Client, Gate, eventually, small_buffers

from aiowsgi.bridge import outlet as outlet_module
from aiowsgi.bridge import ports as ports_module
from aiowsgi.bridge.ports import SocketPort
from aiowsgi.connection import Connection
from aiowsgi.dialogue import State
from aiowsgi.exceptions import ClientDisconnected, RequestBodyError
from aiowsgi.file_wrapper import FileWrapper
from aiowsgi.http1 import head_parser
from aiowsgi.hub import Hub, Timeouts


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {environ['PATH_INFO']}".encode()]


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


def echo(environ, start_response):
    """Answers with the body, and with what the environ says of its length."""
    length = environ.get("CONTENT_LENGTH", environ.get("HTTP_TRANSFER_ENCODING", "none"))
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Length", length)])
    return [body]


def chunked(*blocks):
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in (*blocks, b""))


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
BIG = b"0123456789" * 100_000  # more than any threshold, and than a small socket buffer holds


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


def only_connection(server):
    """The one connection that the server has."""
    (connection,) = server._server._hub.connections
    return connection


# Persistence and order, with bodies


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
        eventually(lambda: not connection._reading)
        assert connection._reader.buffered < 1_000_000
        gate.open()
        for _ in range(count + 1):
            assert client.read_response()[0] == 200
        sending.result(PATIENCE)


# Request bodies


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
                "chunked" if mode == "off" or (mode == "auto" and size > 524288) else str(size),
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
        eventually(lambda: not connection._reading)
        assert connection._streamed._size < 2_000_000
        assert not sending.done()
        gate.open()
        assert client.read_response()[2] == b"%d" % size
        sending.result(PATIENCE)


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
        eventually(lambda: not server._server._hub.connections)


# Clients that go


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


# Clients that read slowly


def as_list(start_response, path):
    start_response("200 OK", [])
    return [BIG * 3]


def as_generator(start_response, path):
    start_response("200 OK", [])
    return (BIG[n : n + 10_000] for _ in range(3) for n in range(0, len(BIG), 10_000))


def as_file(start_response, path):
    path.write_bytes(BIG * 3)
    start_response("200 OK", [])
    return FileWrapper(path.open("rb"))


def as_other_file(start_response, path):
    start_response("200 OK", [])
    return FileWrapper(io.BytesIO(BIG * 3))


@pytest.mark.parametrize("make", [as_list, as_generator, as_file, as_other_file])
def test_a_slow_reader_holds_no_thread(serve_on_loops, connect, make, tmp_path):
    """Three megabytes that nobody reads leave the only thread free for the next client."""

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            return make(start_response, tmp_path / "file")
        return hello(environ, start_response)

    server = serve_on_loops(app, threads=1, **small_buffers())
    slow, quick = connect(server, receive_buffer=4096), connect(server)
    slow.get("/slow")
    slow.read_head()
    quick.get("/quick")
    assert quick.read_response()[2] == b"hello /quick"
    slow.get("/next")
    body = (
        slow.read_chunked() if make in (as_generator, as_other_file) else slow.file.read(3_000_000)
    )
    assert body == BIG * 3
    assert slow.read_response()[2] == b"hello /next"


def test_a_thread_waits_for_a_slow_reader_once_memory_and_disk_are_full(serve_on_loops, connect):
    """Beyond both bounds the application is held up, and goes on as the client reads."""
    sent = []

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "3000000")])
        for n in range(300):
            sent.append(n)
            yield BIG[:10_000]

    server = serve_on_loops(app, response_buffer=50_000, response_spool=200_000, **small_buffers())
    client = connect(server, receive_buffer=4096)
    client.get()
    client.read_head()
    connection = only_connection(server)
    eventually(lambda: connection._outlet._room is not None)
    assert len(sent) < 200
    assert client.file.read(3_000_000) == BIG[:10_000] * 300


def test_the_spool_is_given_back_with_the_response(serve_on_loops, connect):
    """A kept connection does not keep the disk."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [BIG]

    server = serve_on_loops(app, response_buffer=50_000, **small_buffers())
    client = connect(server, receive_buffer=4096)
    client.get()
    client.read_head()
    outlet = only_connection(server)._outlet
    eventually(lambda: outlet._backlog is not None and outlet._backlog.spool is not None)
    assert client.file.read(len(BIG)) == BIG
    eventually(lambda: outlet._backlog is None)


# Responses that go wrong


def too_short(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    yield b"abc"


def raising(environ, start_response):
    start_response("200 OK", [])
    yield b"abc"
    raise ValueError("in the middle")


def str_in_the_middle(environ, start_response):
    start_response("200 OK", [])
    yield b"abc"
    yield "def"


@pytest.mark.parametrize("app", [too_short, raising, str_in_the_middle])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_torn_response_is_seen_to_be_torn(serve_on_loops, connect, caplog, app, version):
    """The connection is reset, so that no client takes what came for a whole response."""
    client = connect(serve_on_loops(app))
    client.send(b"GET / HTTP/%s\r\nHost: x\r\n\r\n" % version.encode())
    with pytest.raises(ConnectionResetError):
        client.read_to_end()
    eventually(lambda: "error in GET / HTTP/" in caplog.text)


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


def test_wsgi_errors_goes_to_logging(serve_once, connect, caplog):
    """What the application writes there is logged."""

    def app(environ, start_response):
        print("oh no", file=environ["wsgi.errors"])
        return hello(environ, start_response)

    client = connect(serve_once(app))
    client.get()
    client.read_response()
    assert ("aiowsgi.errors", logging.ERROR, "oh no") in caplog.record_tuples


# Limits


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


def test_a_request_that_finds_the_queue_full_is_turned_away(serve_on_loops, connect):
    """503 with Retry-After at once; the connection is kept, unless a body is still to come."""
    gate = Gate()
    server = serve_on_loops(gate.before(hello), threads=1, queue_size=1)
    clients = [connect(server) for _ in range(4)]
    clients[0].get()
    gate.wait()
    clients[1].get()
    eventually(lambda: server._server._hub.waiting() == 1)
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


def test_a_client_that_does_not_close_is_cut_in_the_end(serve_on_loops, connect):
    """After its last answer, a client has a while to take it and go."""
    server = serve_on_loops(hello)
    hub = server._server._hub
    hub.timeouts = hub.timeouts._replace(linger=0.1 * UNIT)
    client = connect(server)
    client.send(b"nonsense\r\n\r\n")
    assert client.read_to_end().startswith(b"HTTP/1.1 400 ")
    eventually(lambda: not hub.connections)


# The socket


def test_nagles_algorithm_is_off(serve_on_loops, connect):
    """TCP_NODELAY is set on accepted connections: no response waits for an acknowledgement."""
    server = serve_on_loops(hello)
    client = connect(server)
    client.get()
    client.read_response()
    sock = only_connection(server)._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_unix_socket_serves_without_tcp_options(serve_on_loops, tmp_path):
    """TCP_NODELAY, which would be an error there, is not tried."""
    path = str(tmp_path / "socket")

    def app(environ, start_response):
        start_response("200 OK", [])
        keys = ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT")
        return [repr([environ[key] for key in keys]).encode()]

    server = serve_on_loops(app, bind=(f"unix:{path}",))
    assert server.port == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(path)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b"".join(iter(lambda: client.recv(1000), b""))
    assert data.endswith(b"['', '', 'localhost', '80']")


@pytest.mark.parametrize("size", [0, 10, 10_000, 50_000])
def test_a_response_at_hand_leaves_in_one_send(serve_on_loops, connect, monkeypatch, size):
    """Head and body go to the kernel in one system call, from the worker's thread."""
    calls = []

    def send(port, buffers, *, more=False):
        calls.append((current_thread().name, sum(map(len, buffers))))
        return original(port, buffers, more=more)

    original = SocketPort.send
    monkeypatch.setattr(SocketPort, "send", send)

    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"x" * size]

    client = connect(serve_on_loops(app))
    for count in (1, 2, 3):
        client.get()
        assert client.read_response()[2] == b"x" * size
        assert len(calls) == count
        name, sent = calls[-1]
        assert name.startswith("aiowsgi-worker")
        assert sent > size


def test_a_connection_without_a_descriptor_for_its_duplicate_is_dropped(
    serve_on_loops, connect, monkeypatch, caplog
):
    """When descriptors run out between accept and set-up, one connection is lost and no more."""
    server = serve_on_loops(hello)
    first = connect(server)
    first.get()
    first.read_response()

    def no_descriptor(_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(ports_module.os, "dup", no_descriptor)
        lost = connect(server)
        with suppress(ConnectionResetError):
            assert lost.read_to_end() == b""
    first.get()
    assert first.read_response()[0] == 200
    assert len(server._server._hub.connections) == 1
    assert "could not be set up: [Errno 24]" in caplog.text


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


# On a transport of the tests' own


class FakeSSL:
    """What TLS knows of a client without a certificate."""

    def cipher(self):
        return ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)

    def version(self):
        return "TLSv1.3"

    def getpeercert(self, **options):
        return None


@pytest.fixture
def scene():
    """Makes connections on fake transports: ``scene(app, **transport)``."""
    with ExitStack() as stack:

        def make(app=hello, *, timeouts=None, **options):
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            theirs.settimeout(PATIENCE)
            loop = FakeLoop(at_once=True)
            limits = timeouts or Timeouts()
            hub = Hub(loop, service_for(app), loop, head_parser("h11"), timeouts=limits)
            transport = FakeTransport(loop, ours, **options)
            connection = transport.connection = Connection(hub)
            connection.connection_made(transport)
            stack.callback(connection.connection_lost, None)
            return connection, transport, hub, theirs

        yield make


GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_client_that_was_reset_before_its_end_is_cut(scene):
    """shutdown(2) fails where the kernel knows of the reset and the loop does not."""
    connection, transport, hub, client = scene(eof_error=OSError(errno.ENOTCONN, "not connected"))
    connection.data_received(b"nonsense\r\n\r\n")
    hub.loop.run_soon()
    assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert transport.calls == ["write_eof", "abort"]


def test_a_closing_transport_is_left_alone(scene):
    """Between the close and connection_lost, nothing is begun any more."""
    connection, transport, hub, _ = scene()
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


def test_a_transport_that_transforms_is_written_on_the_loop(scene):
    """TLS: the worker sends nothing itself, and a congested transport is waited for."""
    connection, transport, hub, _ = scene(tls=FakeSSL())
    connection.pause_writing()
    connection.data_received(GET)
    hub.loop.run_soon()
    assert transport.written == b""
    assert not hub.loop.writers
    connection.resume_writing()
    hub.loop.run_soon()
    assert transport.written.endswith(b"hello /x")
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    hub.loop.run_soon()
    assert transport.calls == ["close"]


def test_a_transport_that_transforms_cannot_be_closed_by_halves(scene):
    """The end of its input is its end."""
    connection, *_ = scene(tls=FakeSSL())
    connection.pause_writing()
    connection.data_received(GET)
    assert connection.eof_received() is False


def test_a_socket_that_is_full_is_watched_until_it_is_not(scene):
    """The loop waits for the descriptor, once, and only for as long as something waits."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [BIG]

    connection, _, hub, client = scene(app)
    connection.data_received(GET)
    hub.loop.run_soon()
    (watched,) = hub.loop.writers
    assert watched == connection._port.fileno()
    received = b""
    while hub.loop.writers:
        received += client.recv(100_000)
        hub.loop.writers[watched]()
        hub.loop.run_soon()
    assert connection.state is State.IDLE
    client.setblocking(False)
    with suppress(BlockingIOError):
        while data := client.recv(1_000_000):
            received += data
    assert received.endswith(BIG)
    connection.pause_writing()
    connection.resume_writing()


def test_a_long_drain_lets_others_have_the_loop(scene, monkeypatch):
    """After a bound, the rest is sent in another turn of the loop."""
    monkeypatch.setattr(outlet_module, "DRAIN", 1)

    def app(environ, start_response):
        start_response("200 OK", [])
        return [BIG]

    connection, _, hub, client = scene(app)
    connection.data_received(GET)
    received = b""
    while not received.endswith(BIG):
        hub.loop.run_soon()
        received += client.recv(100_000)
        for writer in list(hub.loop.writers.values()):
            writer()
    hub.loop.run_soon()
    assert connection.state is State.IDLE


def test_limits_that_are_off_never_end(scene):
    """0 means for as long as it takes, in every state."""
    off = Timeouts(header=0, body=0, write=0, keep_alive=0, queue=0, linger=0.1)
    connection, transport, hub, _ = scene(timeouts=off)
    assert connection.look(1e12) == float("inf")
    connection.data_received(GET[:10])
    assert connection.look(1e12) == float("inf")
    connection.data_received(GET[10:])
    hub.loop.run_soon()
    assert connection.look(1e12) == float("inf")
    connection.data_received(POST + b"Content-Length: 5\r\n\r\n")
    assert connection.look(1e12) == float("inf")
    assert transport.calls == []


def test_a_client_that_goes_while_it_is_asked_for_its_body(scene):
    """With buffering on the loop itself sends the 100; a failure stays inside."""
    connection, transport, hub, client = scene()
    hub.request_buffering = "on"
    client.close()
    connection.data_received(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    hub.loop.run_soon()
    assert transport.calls == ["abort"]


def test_a_full_disk_is_a_507(serve_once, connect, monkeypatch, caplog):
    """A body that cannot be kept is refused, and nothing of it is left."""

    def full(**options):
        return open("/dev/full", "w+b", buffering=0)

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    client = connect(serve_once(echo, request_buffering="on"))
    client.send(POST + b"Content-Length: 600000\r\n\r\n" + bytes(600_000))
    code, fields, _ = client.read_response()
    assert (code, fields["connection"]) == (507, "close")
    assert "cannot be kept: [Errno 28]" in caplog.text
