"""What is said on a connection: applications that answer, requests for them, fakes to say it on."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager

from fake_kernel import FakeLoop, FakeTransport, service_for
from support import PATIENCE

from aiowsgi.connection.connection import Connection
from aiowsgi.connection.state import ServerState, Timeouts
from aiowsgi.http1 import head_parser

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
"""To be continued by the fields that frame a body."""

BIG = b"0123456789" * 100_000
"""More than any threshold, and than a small socket buffer holds."""


def hello(environ, start_response):
    """Answers with the path."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {environ['PATH_INFO']}".encode()]


def echo(environ, start_response):
    """Answers with the body, and with what the environ says of its length."""
    length = environ.get("CONTENT_LENGTH", environ.get("HTTP_TRANSFER_ENCODING", "none"))
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Length", length)])
    return [body]


def only_connection(server):
    """The one connection that the server has."""
    (connection,) = server._server._hub.connections
    return connection


@contextmanager
def connections():
    """Make connections without a server, which are lost at the end of the block.

    What is made: the connection, its transport, its hub, and the client's end of its socket.
    """
    with ExitStack() as stack:

        def make(app=hello, *, timeouts=None, **options):
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            theirs.settimeout(PATIENCE)
            loop = FakeLoop(at_once=True)
            limits = timeouts or Timeouts()
            hub = ServerState(loop, service_for(app), loop, head_parser("h11"), timeouts=limits)
            transport = FakeTransport(loop, ours, **options)
            connection = transport.connection = Connection(hub)
            connection.connection_made(transport)
            stack.callback(connection.connection_lost, None)
            return connection, transport, hub, theirs

        yield make
