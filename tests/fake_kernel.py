"""A connection on a fake kernel: each system call is simulated, and any of them can fail.

A `Scene` is one client's connection with a fake event loop, transport and socket. Everything runs
in one thread, so that each run is the same. The application runs either ``at_once``, while the
event loop submits the request, or later, when the event loop has nothing else to do.
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
from aiowsgi.exchange.app_context import AppContext
from aiowsgi.http1 import head_parser
from aiowsgi.threads.scheduler import RequestScheduler, SchedulerOptions
from aiowsgi.threads.wakeups import Wakeups
from aiowsgi.wsgi.environ import base_environ
from aiowsgi.wsgi.errors import ErrorStream

REAL_DUP = os.dup

SHORT = "cut short"
"""Used instead of an error number: the call transfers one byte only."""


class Kernel:
    """Counts the system calls. ``failures`` maps the number of a call to its error, or to `SHORT`.

    After an error that ends a connection, every later call on it fails with that error.
    """

    LASTING = frozenset((ConnectionResetError, BrokenPipeError))
    AT_ONCE = frozenset(("dup", "setsockopt"))
    """Calls that never block, so that EAGAIN and `SHORT` do not apply to them."""

    def __init__(self, failures=None):
        self.failures = failures or {}
        self.calls = []
        self.taken = bytearray()
        self.reset = False
        # The errors that were raised, without EAGAIN.
        self.errors = []
        self._gone = None

    def call(self, name):
        """Count a call. Raises its error, if it has one; returns whether it is cut short."""
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
        """Accept ``data`` from the server, or only its first byte; return the count."""
        count = min(len(data), 1) if self.call(name) else len(data)
        self.taken += data[:count]
        return count

    @property
    def can_reset(self):
        """Whether the connection still exists, so that it can be reset."""
        return self._gone is None

    # The functions of ``os`` and ``socket`` that a connection uses

    def patch(self, monkeypatch):
        """Replace the functions; nothing else may use them meanwhile."""
        monkeypatch.setattr(os, "dup", self._dup)
        monkeypatch.setattr(os, "sendfile", self._sendfile)
        monkeypatch.setattr(socket, "socket", lambda *args: FakeSocket(self, args[-1]))

    def _dup(self, descriptor):
        self.call("dup")
        return REAL_DUP(descriptor)

    def _sendfile(self, _descriptor, source, offset, size):
        return self.take("sendfile", os.pread(source, size, offset))


class FakeSocket:
    """A socket of the fake kernel. It owns a real descriptor, whose number is therefore unique."""

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
    """An event loop and an executor whose callbacks and tasks run when a test calls `run`."""

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
        """Run a task at once, or keep it for `run`; the executor's method."""
        if self._at_once:
            task()
        else:
            self.tasks.append(task)

    def run_soon(self):
        """Run the callbacks, but no tasks and no writers."""
        while self.ready:
            self.ready.popleft()()

    def run(self):
        """Run callbacks, tasks and writers until none is left."""
        for _ in range(10_000):
            if self.ready:
                self.ready.popleft()()
            elif self.tasks:
                self.tasks.popleft()()
            elif self.writers:
                next(iter(self.writers.values()))()
            else:
                return
        raise AssertionError("the event loop does not come to rest")


class FakeTransport(asyncio.Transport):
    """A transport that notes the calls; ``eof_error`` is raised by `write_eof`."""

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
        # The calls that end the transport, in order; and the bytes written to it.
        self.calls = []
        self.written = b""
        # Bytes of it that it still holds.
        self.held = 0

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

    def get_write_buffer_size(self):
        return self.held

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.calls.append("write_eof")
        if self._eof_error is not None:
            raise self._eof_error

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


OPTIONS = SchedulerOptions()


def context_for(app):
    """Return the context of a server that adds no Server and no Date field."""
    base = base_environ(
        multithread=True, multiprocess=False, errors=ErrorStream(), script_name="", software=""
    )
    return AppContext(app, base, server="", send_date=False)


def state_for(app, loop, parser, options=OPTIONS, **more):
    """Return the state that connections share, on a `FakeLoop` that is also the executor."""
    context, wakeups = context_for(app), Wakeups(loop)
    scheduler = RequestScheduler(loop, context, loop, wakeups, options)
    return ServerState(loop, context, scheduler, wakeups, head_parser(parser), **more)


class Scene:
    """One client's connection, and what the client received on it."""

    def __init__(self, app, kernel, *, at_once, buffering="auto", parser="auto"):
        self.kernel = kernel
        self._at_once = at_once
        # Whether the client has closed its sending side.
        self.ended = False
        self.loop = FakeLoop(at_once=at_once)
        # The responses that the application has finished, complete or not.
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
        """The bytes that the client received."""
        return bytes(self.kernel.taken)

    def play(self, pieces):
        """Let the client send the pieces one after another, and then close its sending side."""
        self.connection.connection_made(self.transport)
        for piece in pieces:
            rest = piece
            while rest and not self.transport.closing:
                rest = rest[len(self._receive(rest)) :]
        while not self.transport.closing and not self.ended:
            self._receive(b"")
        self.loop.run()

    def _receive(self, data):
        """Let the transport read ``data``, its first byte, nothing, or an error."""
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
