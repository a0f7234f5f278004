"""Applications, requests for them, and connections on fake transports."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from threading import Event

from fake_kernel import OPTIONS, FakeLoop, FakeTransport, state_for
from support import PATIENCE

from aiowsgi.connection.connection import Connection
from aiowsgi.connection.deadlines import Timeouts

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
"""The beginning of a request; the fields that frame its body must follow."""

TIMEOUTS = Timeouts()

BIG = b"0123456789" * 100_000
"""More bytes than any threshold of the server, and than a small socket buffer holds."""


def hello(environ, start_response):
    """Answers with the path."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {environ['PATH_INFO']}".encode()]


def echo(environ, start_response):
    """Answers with the request body, and with its length or coding in X-Length."""
    length = environ.get("CONTENT_LENGTH", environ.get("HTTP_TRANSFER_ENCODING", "none"))
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Length", length)])
    return [body]


def only_connection(server):
    """Return the only connection of a server."""
    (connection,) = server._server._state.connections
    return connection


def chunked(*blocks):
    """Return the blocks as a chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in (*blocks, b""))


class ClosingIterable:
    """An iterable of blocks, with an event that is set when `close` is called."""

    def __init__(self, blocks):
        self.blocks = iter(blocks)
        self.closed = Event()
        self.closes = 0

    def __iter__(self):
        return self.blocks

    def close(self):
        self.closes += 1
        self.closed.set()


@contextmanager
def connections():
    """Make connections without a server, which are lost at the end of the block.

    What is made: the connection, its transport, its state, and the client's end of its socket.
    """
    with ExitStack() as stack:

        def make(app=hello, *, timeouts=TIMEOUTS, options=OPTIONS, **more):
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            theirs.settimeout(PATIENCE)
            loop = FakeLoop(at_once=True)
            state = state_for(app, loop, "h11", options, timeouts=timeouts)
            transport = FakeTransport(loop, ours, **more)
            connection = transport.connection = Connection(state)
            connection.connection_made(transport)
            stack.callback(connection.connection_lost, None)
            return connection, transport, state, theirs

        yield make
