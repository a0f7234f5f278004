"""The transport and what is sent on it: by whom, how it waits for slow readers, how it is torn."""

from __future__ import annotations

import errno
import io
import socket
from contextlib import suppress
from threading import current_thread

import pytest
from conversing import BIG, GET, hello, only_connection
from support import PATIENCE, eventually, small_buffers

from aiowsgi.connection.state import ConnectionState
from aiowsgi.exchange import output as output_module
from aiowsgi.exchange import writers as ports_module
from aiowsgi.exchange.writers import SocketWriter
from aiowsgi.wsgi.file_wrapper import FileWrapper

# Beginning


def test_nagles_algorithm_is_off(serve_on_loops, connect):
    """TCP_NODELAY is set on accepted connections: no response waits for an acknowledgement."""
    server = serve_on_loops(hello)
    client = connect(server)
    client.get()
    client.read_response()
    sock = only_connection(server)._transport._transport.get_extra_info("socket")
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
    assert len(server._server._state.connections) == 1
    assert "could not be set up: [Errno 24]" in caplog.text


# Sending


@pytest.mark.parametrize("size", [0, 10, 10_000, 50_000])
def test_a_response_at_hand_leaves_in_one_send(serve_on_loops, connect, monkeypatch, size):
    """Head and body go to the kernel in one system call, from the worker's thread."""
    calls = []

    def send(port, buffers, *, more=False):
        calls.append((current_thread().name, sum(map(len, buffers))))
        return original(port, buffers, more=more)

    original = SocketWriter.send
    monkeypatch.setattr(SocketWriter, "send", send)

    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"x" * size]

    client = connect(serve_on_loops(app))
    for count in (1, 2, 3):
        client.get()
        assert client.read_response()[2] == b"x" * size
        assert len(calls) == count
        name, sent = calls[-1]
        assert name.startswith("aiowsgi-thread")
        assert sent > size


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
    eventually(lambda: connection._output._space is not None)
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
    output = only_connection(server)._output
    eventually(lambda: output._buffer is not None and output._buffer.spool is not None)
    assert client.file.read(len(BIG)) == BIG
    eventually(lambda: output._buffer is None)


def test_a_socket_that_is_full_is_watched_until_it_is_not(make_connection):
    """The loop waits for the descriptor, once, and only for as long as something waits."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [BIG]

    connection, _, state, client = make_connection(app)
    connection.data_received(GET)
    state.loop.run_soon()
    (watched,) = state.loop.writers
    assert watched == connection._transport.writer.fileno()
    received = b""
    while state.loop.writers:
        received += client.recv(100_000)
        state.loop.writers[watched]()
        state.loop.run_soon()
    assert connection.state is ConnectionState.IDLE
    client.setblocking(False)
    with suppress(BlockingIOError):
        while data := client.recv(1_000_000):
            received += data
    assert received.endswith(BIG)
    connection.pause_writing()
    connection.resume_writing()


def test_a_long_drain_lets_others_have_the_loop(make_connection, monkeypatch):
    """After a bound, the rest is sent in another turn of the loop."""
    monkeypatch.setattr(output_module, "DRAIN_BUDGET", 1)

    def app(environ, start_response):
        start_response("200 OK", [])
        return [BIG]

    connection, _, state, client = make_connection(app)
    connection.data_received(GET)
    received = b""
    while not received.endswith(BIG):
        state.loop.run_soon()
        received += client.recv(100_000)
        for writer in list(state.loop.writers.values()):
            writer()
    state.loop.run_soon()
    assert connection.state is ConnectionState.IDLE


# Transports that transform


class FakeSSL:
    """What TLS knows of a client without a certificate."""

    def cipher(self):
        return ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)

    def version(self):
        return "TLSv1.3"

    def getpeercert(self, **options):
        return None


def test_a_transport_that_transforms_is_written_on_the_loop(make_connection):
    """TLS: the worker sends nothing itself, and a congested transport is waited for."""
    connection, transport, state, _ = make_connection(tls=FakeSSL())
    connection.pause_writing()
    connection.data_received(GET)
    state.loop.run_soon()
    assert transport.written == b""
    assert not state.loop.writers
    connection.resume_writing()
    state.loop.run_soon()
    assert transport.written.endswith(b"hello /x")
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    state.loop.run_soon()
    assert transport.calls == ["close"]


def test_a_response_is_not_finished_before_the_transport_has_sent_it(make_connection):
    """What it holds is waited for, within the write timeout and beyond the time to linger."""
    connection, transport, state, _ = make_connection(tls=FakeSSL())
    transport.held = 100
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    state.loop.run_soon()
    assert transport.written.endswith(b"hello /")
    assert connection.state is ConnectionState.SERVING
    limit = connection.check_deadlines(0.0)
    # Less is held than before: the client reads, and has all of its time again.
    transport.held = 50
    assert connection.check_deadlines(0.0) > limit
    transport.held = 0
    connection.resume_writing()
    state.loop.run_soon()
    assert transport.calls == ["close"]


def test_a_transport_that_transforms_can_be_closed_by_halves(make_connection):
    """A TLS client that sends no more is still answered."""
    connection, transport, state, _ = make_connection(tls=FakeSSL())
    connection.pause_writing()
    connection.data_received(GET)
    assert connection.eof_received() is True
    connection.resume_writing()
    state.loop.run_soon()
    assert transport.written.endswith(b"hello /x")
    assert transport.calls == ["close"]


# Closing


def test_a_client_that_was_reset_before_its_end_is_cut(make_connection):
    """shutdown(2) fails where the kernel knows of the reset and the loop does not."""
    connection, transport, state, client = make_connection(
        eof_error=OSError(errno.ENOTCONN, "not connected")
    )
    connection.data_received(b"nonsense\r\n\r\n")
    state.loop.run_soon()
    assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert transport.calls == ["write_eof", "abort"]


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
