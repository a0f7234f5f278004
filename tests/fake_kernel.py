"""A connection without a kernel: every system call is a fake's, and any of them can fail.

A `Scene` is one client's connection on a loop, a transport and a socket of the tests' own, all in
one thread, so that what happens is the same at every run. Where the application runs is a choice:
``at_once``, while the loop still hands it over, or later, when the loop has nothing else to do.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from types import SimpleNamespace

from aiowsgi.connection.body_receiver import BodyPolicy
from aiowsgi.connection.connection import Connection
from aiowsgi.connection.state import ServerState
from aiowsgi.exchange import output_buffer as buffer_module
from aiowsgi.exchange import writers as writers_module
from aiowsgi.exchange.app_context import AppContext
from aiowsgi.http1 import head_parser
from aiowsgi.threads.scheduler import RequestScheduler, SchedulerOptions
from aiowsgi.threads.wakeups import Wakeups
from aiowsgi.wsgi.environ import base_environ
from aiowsgi.wsgi.errors import ErrorStream

SHORT = "cut short"
"""Instead of an error's number: the call takes or gives one byte."""


class Kernel:
    """Counts the system calls; ``failures`` says which of them fail, and how.

    An error that ends a connection is met by every later call on it too.
    """

    LASTING = frozenset((ConnectionResetError, BrokenPipeError))
    AT_ONCE = frozenset(("dup", "setsockopt"))
    """Calls that have nothing to wait for."""

    def __init__(self, failures=None):
        self.failures = failures or {}
        self.calls = []
        self.taken = bytearray()
        self.reset = False
        # The errors that were met, but for those that only asked to wait.
        self.errors = []
        self._gone = None

    def call(self, name):
        """Count a call; raises where it fails; True where it is cut short."""
        if self._gone is not None and name != "dup":
            raise self._gone
        failure = self.failures.get(len(self.calls))
        self.calls.append(name)
        if name in self.AT_ONCE and failure in (SHORT, errno.EAGAIN):
            failure = None
        if failure is None or failure == SHORT:
            return failure is not None
        error = OSError(failure, os.strerror(failure))
        if failure != errno.EAGAIN:
            self.errors.append(error)
        if type(error) in self.LASTING:
            self._gone = error
        raise error

    def take(self, name, data):
        """Take ``data`` from the server, or its first byte."""
        count = min(len(data), 1) if self.call(name) else len(data)
        self.taken += data[:count]
        return count

    @property
    def can_reset(self):
        """The connection is still there to be reset."""
        return self._gone is None

    # The modules ``os`` and ``socket``, as far as a connection uses them

    def patch(self, monkeypatch):
        """Put this kernel under the modules that make system calls."""
        fake_os = SimpleNamespace(
            dup=self._dup, close=os.close, pread=os.pread, sendfile=self._sendfile
        )
        monkeypatch.setattr(writers_module, "os", fake_os)
        monkeypatch.setattr(buffer_module, "os", fake_os)
        fake_socket = SimpleNamespace(socket=lambda *args: FakeSocket(self, args[-1]))
        monkeypatch.setattr(writers_module, "socket", fake_socket)

    def _dup(self, descriptor):
        self.call("dup")
        return os.dup(descriptor)

    def _sendfile(self, _descriptor, source, offset, size):
        return self.take("sendfile", os.pread(source, size, offset))


class FakeSocket:
    """Owns a descriptor, for the sake of its number."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, 0

    def __init__(self, kernel, descriptor):
        self._kernel = kernel
        self._descriptor = descriptor

    def fileno(self):
        return self._descriptor

    def setsockopt(self, level, name, value):
        self._kernel.call("setsockopt")
        if name == socket.SO_LINGER:
            self._kernel.reset = True

    def send(self, data, flags):
        return self._kernel.take("send", bytes(data))

    def sendmsg(self, buffers, _ancillary, flags):
        return self._kernel.take("sendmsg", b"".join(buffers))

    def close(self):
        os.close(self._descriptor)


class FakeLoop:
    """Callbacks, tasks for worker threads, and one writer that waits; run when a test says so."""

    def __init__(self, *, at_once):
        self._at_once = at_once
        self.ready = deque()
        self.tasks = deque()
        self.writers = {}

    def call_soon(self, callback, *args):
        self.ready.append(lambda: callback(*args))

    call_soon_threadsafe = call_soon

    def call_later(self, delay, callback):
        return SimpleNamespace(cancel=lambda: None)

    def add_writer(self, descriptor, callback):
        assert descriptor not in self.writers
        self.writers[descriptor] = callback

    def remove_writer(self, descriptor):
        del self.writers[descriptor]

    def submit(self, task):
        """The executor's part: a worker thread takes it at once, or when it comes to it."""
        if self._at_once:
            task()
        else:
            self.tasks.append(task)

    def run_soon(self):
        """Run the callbacks, and let the rest wait."""
        while self.ready:
            self.ready.popleft()()

    def run(self):
        """Run until nothing is left to be done."""
        for _ in range(10_000):
            if self.ready:
                self.ready.popleft()()
            elif self.tasks:
                self.tasks.popleft()()
            elif self.writers:
                next(iter(self.writers.values()))()
            else:
                return
        raise AssertionError("the loop spins")


class FakeTransport(asyncio.Transport):
    """Closes when it is told to, and tells the connection so; write_eof may fail."""

    def __init__(self, loop, sock, *, tls=None, eof_error=None):
        super().__init__(
            {
                "socket": sock,
                "ssl_object": tls,
                "peername": ("192.0.2.1", 1),
                "sockname": ("192.0.2.2", 80),
            }
        )
        self._loop = loop
        self._eof_error = eof_error
        self.connection = None
        self.closing = self.lost = False
        # How it was told to end, in order; and what it was given to write.
        self.calls = []
        self.written = b""

    def is_closing(self):
        return self.closing

    def close(self):
        self.calls.append("close")
        self.lose(None)

    def abort(self):
        self.calls.append("abort")
        self.lose(None)

    def lose(self, error):
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self._lose, error)

    def _lose(self, error):
        self.connection.connection_lost(error)
        self._extra["socket"].close()
        self.lost = True

    def write(self, data):
        self.written += data

    def can_write_eof(self):
        return self._extra["ssl_object"] is None

    def write_eof(self):
        self.calls.append("write_eof")
        if self._eof_error is not None:
            raise self._eof_error

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


OPTIONS = SchedulerOptions()


def service_for(app):
    """What the exchanges of a server share that adds no field of its own."""
    base = base_environ(
        multithread=True, multiprocess=False, errors=ErrorStream(), script_name="", software=""
    )
    return AppContext(app, base, server="", send_date=False)


def state_for(app, loop, parser, options=OPTIONS, **more):
    """What connections share, on a `FakeLoop` that is the executor too."""
    context, wakeups = service_for(app), Wakeups(loop)
    scheduler = RequestScheduler(loop, context, loop, wakeups, options)
    return ServerState(loop, context, scheduler, wakeups, head_parser(parser), **more)


class Scene:
    """A connection, and what comes of it."""

    def __init__(self, app, kernel, *, at_once, buffering="auto", parser="auto"):
        self.kernel = kernel
        self._at_once = at_once
        # The client has closed its side.
        self.ended = False
        self.loop = FakeLoop(at_once=at_once)
        # The responses that the application is done with, whole or not.
        self.finished = []
        self.state = state_for(app, self.loop, parser, bodies=BodyPolicy(buffering))
        self.state.context.finished = lambda exchange, response, environ: self.finished.append(
            response
        )
        self.transport = FakeTransport(
            self.loop, FakeSocket(kernel, os.open(os.devnull, os.O_RDWR))
        )
        self.connection = self.transport.connection = Connection(self.state)

    @property
    def taken(self):
        """The bytes that the client gets."""
        return bytes(self.kernel.taken)

    def play(self, pieces):
        """Have the client send these, one after another, and then close its side."""
        self.connection.connection_made(self.transport)
        for piece in pieces:
            rest = piece
            while rest and not self.transport.closing:
                rest = rest[len(self._receive(rest)) :]
        while not self.transport.closing and not self.ended:
            self._receive(b"")
        self.loop.run()

    def _receive(self, data):
        """The transport reads: all of ``data``, its first byte, nothing yet, or an error."""
        try:
            data = data[:1] if self.kernel.call("recv") else data
        except BlockingIOError:
            return b""
        except OSError as error:
            self.transport.lose(error)
            return b""
        if data:
            self.connection.data_received(data)
        else:
            self.ended = True
            if not self.connection.eof_received():
                self.transport.close()
        if self._at_once:
            self.loop.run()
        return data
