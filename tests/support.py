"""What the tests share: a unit of time, loops, parsers, a client of bytes, a fake writer."""

from __future__ import annotations

import gc
import os
import socket
from contextlib import contextmanager
from math import inf
from threading import Event
from time import monotonic
from typing import NamedTuple

import h11

from aiowsgi.http1 import reader

UNIT = float(os.environ.get("TEST_UNIT", "1"))
"""The unit of every time limit in the tests, in seconds. Raise it on a slow machine."""

PATIENCE = 10 * UNIT
"""Seconds that a test waits for something that should happen at once."""

COMPILED = not str(reader.__file__).endswith(".py")
"""Whether the hot modules under test are compiled."""

LOOPS = ("uvloop", "asyncio")
PARSERS = ("h11", "httptools")


class Client:
    """A raw connection to a server on this machine."""

    def __init__(self, port, *, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Close the connection; idempotent."""
        self.file.close()
        self.socket.close()

    def reset(self):
        """Close the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.close()

    def send(self, data):
        """Send ``data``."""
        self.socket.sendall(data)

    def get(self, path="/", *fields):
        """Send a GET request."""
        lines = "".join(f"{field}\r\n" for field in fields)
        self.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n".encode())

    def finish(self):
        """Close the sending side, and keep on receiving."""
        self.socket.shutdown(socket.SHUT_WR)

    def nothing_came(self):
        """Return whether there is nothing to read at this moment."""
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)

    def read_to_end(self):
        """Return all bytes until the server closes; raise ConnectionResetError after a reset."""
        return self.file.read()

    def read_head(self):
        """Read one head; return the status code, and the fields by lower-case name."""
        status = self.file.readline()
        if not status:
            raise EOFError("the server closed the connection")
        fields = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        return int(status.split()[1]), fields

    def read_response(self, *, head_only=False):
        """Read one response; return status code, fields and body."""
        code, fields = self.read_head()
        if head_only or code in (204, 304) or code < 200:
            return code, fields, b""
        if "chunked" in fields.get("transfer-encoding", ""):
            return code, fields, self.read_chunked()
        if "content-length" in fields:
            return code, fields, self.file.read(int(fields["content-length"]))
        return code, fields, self.file.read()

    def read_chunked(self):
        """Read a chunked body; return its content."""
        body = b""
        while size := int(self.file.readline(), 16):
            body += self.file.read(size)
            assert self.file.readline() == b"\r\n"
        assert self.file.readline() == b"\r\n"
        return body


class FakeWriter:
    """A `Writer` that takes ``space`` bytes, ``most`` in a call, and then raises ``error``."""

    def __init__(self, space=inf, error=None, *, most=inf, any_thread=True):
        self.any_thread = any_thread
        self.space = space
        self.most = most
        self.error = error or BlockingIOError()
        self.taken = b""
        # The calls, in order; and a signal that is given whenever something is taken.
        self.calls = []
        self.took = Signal()
        # Bytes that it has taken and holds, as a transport may.
        self.held = 0
        self.closed = False

    @property
    def unsent(self):
        """Bytes that the kernel has not got."""
        return self.held

    def wait(self, seconds):
        """A client that reads slowly, unless a test says otherwise."""
        return False

    def send(self, buffers, *, more=False):
        """Take what there is space for."""
        self.calls.append("send")
        return self._take(b"".join(map(bytes, buffers)))

    def send_file(self, part):
        """Take what there is space for; 0 where the file ends early."""
        self.calls.append("send_file")
        return self._take(os.pread(part.descriptor, part.size, part.offset))

    def _take(self, data):
        assert not self.closed, "a send on a writer that is closed"
        # Read once: the test's thread may make space at any moment.
        space = self.space
        if not space:
            raise self.error
        count = int(min(len(data), space, self.most))
        self.taken += data[:count]
        self.space = space - count
        self.took()
        return count

    def close(self):
        """Note that it was closed."""
        assert not self.closed, "closed twice"
        self.closed = True


class Signal:
    """A callable that can be waited for: what a worker thread wakes the loop with."""

    def __init__(self):
        self.count = 0
        self._event = Event()

    def __call__(self):
        self.count += 1
        self._event.set()

    def wait(self):
        """Wait for the next call."""
        assert self._event.wait(PATIENCE)
        self._event.clear()


class Gate:
    """Holds an application until the test lets it go on."""

    def __init__(self):
        self.reached, self.opened = Event(), Event()

    def pass_through(self):
        """Note that the application is here, and wait until the gate is opened."""
        self.reached.set()
        assert self.opened.wait(PATIENCE)

    def wait(self):
        """Wait until the application has reached the gate."""
        assert self.reached.wait(PATIENCE)

    def open(self):
        """Let the application go on."""
        self.opened.set()

    def before(self, app, path=None):
        """Return ``app`` behind the gate, for every request or only for those for ``path``."""

        def gated(environ, start_response):
            if path in (None, environ["PATH_INFO"]):
                self.pass_through()
            return app(environ, start_response)

        return gated


def small_buffers():
    """Return options of a server whose connections have small send buffers."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return {"bind": (f"fd://{listener.detach()}",)}


def free_port():
    """Return a port on which nothing listens at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(condition):
    """Wait until a condition holds that another thread brings about without a signal."""
    until = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < until, f"{condition} did not become true"
        # Let the other thread have the interpreter.
        Event().wait(0.001)


@contextmanager
def no_descriptor_leaks():
    """Check that a block closes every descriptor that it opens, without the garbage collector."""
    # The collector could close a descriptor of an earlier test within the block.
    gc.disable()
    try:
        before = sorted(os.listdir("/proc/self/fd"))
        yield
        assert sorted(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


class Seen(NamedTuple):
    """A response as a client read it."""

    status: int
    """0 if no head came."""
    fields: dict[str, str]
    """By lower-case name."""
    body: bytes
    whole: bool
    """Whether the response is complete and no bytes follow it."""
    interim: list[int]
    """Status codes of the interim responses before it."""


def read_response(data, method="GET", *, closed=False):
    """Read ``data`` with h11's client side; ``closed`` tells it that the connection has ended.

    Raises h11.RemoteProtocolError if ``data`` is not a response.
    """
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    if data:
        client.receive_data(data)
    status, fields, body, interim = 0, {}, b"", []
    while True:
        event = client.next_event()
        match event:
            case h11.InformationalResponse():
                interim.append(event.status_code)
            case h11.Response():
                status = event.status_code
                fields = {k.decode(): v.decode("latin-1") for k, v in event.headers}
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                return Seen(status, fields, body, not client.trailing_data[0], interim)
            case _ if closed:
                closed = False
                client.receive_data(b"")
            case _:
                return Seen(status, fields, body, False, interim)
