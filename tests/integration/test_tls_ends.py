"""How TLS connections end: with close_notify from either side, and with slow clients."""

from __future__ import annotations

import socket
import ssl
from threading import Event

import pytest
import trustme
from conversing import BIG, hello
from support import PATIENCE, UNIT, Gate, eventually

CA = trustme.CA()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Options that serve TLS."""
    folder = tmp_path_factory.mktemp("tls")
    issued = CA.issue_cert("localhost")
    chain, key = folder / "chain.pem", folder / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(chain))
    issued.private_key_pem.write_to_path(str(key))
    return {"certfile": str(chain), "keyfile": str(key)}


class TLSClient:
    """A client whose records are made in memory, so that it can close one direction."""

    def __init__(self, port, *, receive_buffer=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        CA.configure_trust(context)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self._complete(self.tls.do_handshake)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def _complete(self, step, *args):
        while True:
            try:
                return step(*args)
            except ssl.SSLWantReadError:
                self._flush()
                data = self.socket.recv(65536)
                self.incoming.write(data) if data else self.incoming.write_eof()
            finally:
                self._flush()

    def _flush(self):
        if self.outgoing.pending:
            self.socket.sendall(self.outgoing.read())

    def send(self, data):
        """Send ``data``."""
        self.tls.write(data)
        self._flush()

    def close_notify(self):
        """Say that no more will be sent."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    def read(self, size=65536):
        """Some bytes; empty after the server's close_notify. Raises SSLError without one."""
        try:
            return self._complete(self.tls.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    def read_to_end(self):
        """All bytes until the server's close_notify."""
        return b"".join(iter(self.read, b""))


REQUEST = b"GET /x HTTP/1.1\r\nHost: x\r\n"


def test_a_close_notify_behind_the_request_still_gets_the_response(serve_on_loops, certificate):
    """RFC 8446 section 6.1: the client sends no more, and reads on."""
    gate = Gate()
    server = serve_on_loops(gate.before(hello), **certificate)
    with TLSClient(server.port) as client:
        client.send(REQUEST + b"\r\n")
        client.close_notify()
        gate.wait()
        gate.open()
        assert client.read_to_end().endswith(b"hello /x")


def test_a_close_notify_says_that_the_client_has_gone(serve_on_loops, certificate):
    """The application hears of it, as it does on a plain connection."""
    heard = Event()

    def app(environ, start_response):
        if environ["aiowsgi.disconnected"].wait(PATIENCE):
            heard.set()
        return hello(environ, start_response)

    server = serve_on_loops(app, **certificate)
    with TLSClient(server.port) as client:
        client.send(REQUEST + b"\r\n")
        client.close_notify()
        assert heard.wait(PATIENCE)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_slow_reader_gets_all_of_a_response_that_ends_the_connection(
    serve_on_loops, certificate, version
):
    """However long it takes, as long as the client reads; then comes a close_notify."""
    body = BIG * 8

    def app(environ, start_response):
        start_response("200 OK", [])
        return [body]

    server = serve_on_loops(app, **certificate)
    state = server._server._state
    state.timeouts = state.timeouts._replace(linger=0.1 * UNIT)
    with TLSClient(server.port, receive_buffer=4096) as client:
        client.send(b"GET / HTTP/%b\r\nHost: x\r\nConnection: close\r\n\r\n" % version)
        received = client.read()
        # Several times as long as the server lingers at the end of a response.
        Event().wait(0.5 * UNIT)
        received += client.read_to_end()
    whole = received.endswith(body)
    assert whole
    eventually(lambda: not state.connections)


def test_a_client_that_reads_nothing_is_cut(serve_on_loops, certificate):
    """The write timeout holds for what the transport has taken, too."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [BIG * 8]

    server = serve_on_loops(app, write_timeout=0.2 * UNIT, **certificate)
    with TLSClient(server.port, receive_buffer=4096) as client:
        client.send(REQUEST + b"Connection: close\r\n\r\n")
        client.read(1)
        eventually(lambda: not server._server._state.connections)
        with pytest.raises(OSError):  # noqa: PT011 - a reset, or TLS that was cut off
            client.read_to_end()
