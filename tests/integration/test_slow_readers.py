"""What a client that does not read costs the event loop: nothing, on plain sockets and with TLS."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest
import trustme
from support import PATIENCE, small_buffers

from aiowsgi.exchange.output import ResponseOutput
from aiowsgi.exchange.output_buffer import Spool

BLOCK = b"0123456789abcdef" * 256
BLOCKS = 3000

CA = trustme.CA()


@pytest.fixture
def tls_options(tmp_path):
    """Options that serve TLS."""
    certificate = CA.issue_cert("localhost")
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return {"certfile": str(chain), "keyfile": str(key)}


REQUEST = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"


def connected(port, request=REQUEST, *, tls):
    """A client with a small receive buffer, which has sent ``request``."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", port))
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        CA.configure_trust(context)
        client = context.wrap_socket(client, server_hostname="localhost")
    client.sendall(request)
    return client


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_client_that_does_not_read_costs_the_loop_nothing(
    serve_on_loops, tls_options, monkeypatch, tls
):
    """Its response goes to the spool; the loop is not woken, and reads none of it, until it
    reads."""
    reads, drains = [], []
    peek, drain = Spool.peek, ResponseOutput.drain
    monkeypatch.setattr(Spool, "peek", lambda spool: reads.append(1) or peek(spool))
    monkeypatch.setattr(ResponseOutput, "drain", lambda out: drains.append(1) or drain(out))
    written = threading.Event()

    def app(environ, start_response):
        write = start_response("200 OK", [])
        for _ in range(BLOCKS):
            write(BLOCK)
        written.set()
        return []

    options = tls_options if tls else {}
    server = serve_on_loops(app, threads=1, response_buffer=65536, **small_buffers(), **options)
    with connected(server.port, tls=tls) as client:
        assert written.wait(PATIENCE)
        # A few before the kernel's buffers are full; without the rule, one or more for each block.
        assert len(reads) < BLOCKS / 10
        assert len(drains) < BLOCKS / 10
        received = b"".join(iter(lambda: client.recv(1_000_000), b""))
    assert received.partition(b"\r\n\r\n")[2] == BLOCK * BLOCKS


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(("memory", "spool"), [(0, 0), (0, 64), (64, 128)])
def test_the_loop_never_waits_for_space_for_its_own_responses(
    serve_on_loops, tls_options, tls, memory, spool
):
    """A refusal is sent, and other clients are served, however small the buffers are."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    options = tls_options if tls else {}
    server = serve_on_loops(
        app, response_buffer=memory, response_spool=spool, request_buffering="on", **options
    )
    with connected(server.port, b"nonsense\r\n\r\n", tls=tls) as client:
        assert b"".join(iter(lambda: client.recv(1000), b"")).startswith(b"HTTP/1.1 400 ")
    expecting = (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with connected(server.port, expecting, tls=tls) as client:
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert b"".join(iter(lambda: client.recv(1000), b"")).endswith(b"ok")
