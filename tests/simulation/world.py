"""A simulated world: virtual time, an event loop, worker threads, and a kernel with sockets.

In each step the simulation chooses one of the things that could happen next: the next callback of
the event loop, an event of a socket, a timer, a worker thread that continues, or an action of a
client. If nothing can happen now, the clock moves on to the next time at which something can.

Worker threads are real threads, but only one of them, or the event loop, runs at a time. A worker
pauses when it takes or releases a lock, when it waits for a condition or a descriptor, and when the
application sleeps; there another thread may run. A lock is never held across a pause.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import os
import select
import socket
import threading
from collections import deque
from itertools import count
from math import inf
from types import SimpleNamespace

from aiowsgi.connection import body_receiver, connection, timer_wheel
from aiowsgi.exchange import exchange, output, record, request_body, writers
from aiowsgi.threads import watchdog

CLOCKS = (body_receiver, connection, exchange, output, record, request_body, timer_wheel, watchdog)
"""Modules that read the monotonic clock."""

LOCKS = (output, request_body)
"""Modules in which worker threads and the event loop share a lock."""

STEPS = 50_000
"""Steps after which a simulation that goes on is taken for an endless loop."""


class Stopped(BaseException):
    """Raised in a worker thread at its pause, to end it when the simulation is over."""


class Simulation:
    """The world of one seed; see the module's docstring."""

    def __init__(self, random, *, threads, failures=None):
        """``failures`` maps the number of a system call to an error number, or to 0 for a call
        that transfers one byte."""
        self.random = random
        self.now = 1000.0
        self.loop = Loop(self)
        self.kernel = Kernel(self, failures or {})
        self.workers = [Worker(self) for _ in range(threads)]
        # The worker thread that runs; None while the event loop runs.
        self.current = None
        # Things that have ``events()`` and ``next_time()``: sockets and clients.
        self.sources = [self.loop]
        # Called after each step.
        self.check = bool
        self.steps = 0

    def patch(self, monkeypatch):
        """Replace clocks, locks and system calls in the server's modules."""
        for module in CLOCKS:
            monkeypatch.setattr(module, "monotonic", lambda: self.now)
        for module in LOCKS:
            monkeypatch.setattr(module, "Lock", lambda: Lock(self))
            monkeypatch.setattr(module, "Condition", lambda lock: Condition(self, lock))
        self.kernel.patch(monkeypatch)

    def run(self):
        """Run until nothing can happen any more."""
        try:
            while self._step():
                self.steps += 1
                self.check()
                assert self.steps < STEPS, "the simulation does not end"
        finally:
            for worker in self.workers:
                worker.stop()

    def _step(self):
        events = [event for source in (*self.sources, *self.workers) for event in source.events()]
        if not events:
            times = [source.next_time() for source in (*self.sources, *self.workers)]
            if (soonest := min(times)) == inf:
                return False
            self.now = max(self.now, soonest)
            return True
        self.random.choice(events)()
        # Time passes while things happen.
        self.now += self.random.random() * 0.0002
        return True

    # Called by the code under test, in a worker thread or on the event loop

    def pause(self, ready=None, timeout=inf):
        """Let others run until ``ready()`` is true; return False after ``timeout`` seconds."""
        worker = self.current
        if worker is None:
            assert ready is None, "the event loop waits"
            return True
        return worker.pause(ready, self.now + timeout)

    def sleep(self, seconds):
        """Let the application sleep."""
        self.pause(bool, seconds)


class Worker:
    """A worker thread that runs only when the simulation lets it."""

    def __init__(self, sim):
        self._sim = sim
        self._turn, self._back = threading.Lock(), threading.Lock()
        self._turn.acquire()
        self._back.acquire()
        self._thread = None
        self._failure = None
        self._stopping = False
        # The task that runs; None between tasks.
        self.task = None
        # What the paused thread waits for, and until when.
        self._ready = None
        self._until = inf

    def events(self):
        """What the thread could do now."""
        if self.task is None:
            if self._sim.loop.tasks:
                yield self._begin
        elif self._ready is None or self._until <= self._sim.now or self._ready():
            yield self._resume

    def next_time(self):
        """When a timeout ends the wait of the thread."""
        return self._until if self.task is not None else inf

    def _begin(self):
        self.task = self._sim.loop.tasks.popleft()
        self._ready, self._until = None, inf
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, daemon=True)
            self._thread.start()
        self._resume()

    def _resume(self):
        self._sim.current = self
        self._turn.release()
        self._back.acquire()
        self._sim.current = None
        if self._failure is not None:
            raise self._failure

    def _main(self):
        while True:
            self._turn.acquire()
            if not self._stopping:
                try:
                    self.task()
                except BaseException as error:
                    self._failure = error
                self.task = None
            # Once the other thread may run, it may call stop().
            stopping = self._stopping
            self._back.release()
            if stopping:
                return

    def pause(self, ready, until):
        """Called in the thread; see `Simulation.pause`."""
        if self._stopping:
            raise Stopped
        self._ready, self._until = ready, until
        self._back.release()
        self._turn.acquire()
        if self._stopping:
            raise Stopped
        in_time = ready is None or bool(ready())
        self._ready, self._until = None, inf
        return in_time

    def stop(self):
        """End the thread, which may wait for ever if the simulation has failed."""
        if self._thread is not None and self._thread.is_alive():
            self._stopping = True
            self._turn.release()
            self._back.acquire()
            self._thread.join()


class Lock:
    """A lock that is held while its owner runs only."""

    def __init__(self, sim):
        self._sim = sim
        self._held = False

    def acquire(self):
        if self._sim.random.random() < 0.3:
            self._sim.pause()
        assert not self._held, "a lock is held across a pause"
        self._held = True

    def release(self):
        self._held = False
        if self._sim.random.random() < 0.1:
            self._sim.pause()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_):
        self.release()


class Condition:
    """A condition; a worker that waits for it does not run until it is notified."""

    def __init__(self, sim, lock):
        self._sim = sim
        self._lock = lock
        # The waits that no notify has ended, oldest first.
        self._waits = deque()

    def wait(self, timeout=inf):
        wait = []
        self._waits.append(wait)
        self._lock._held = False
        notified = self._sim.pause(lambda: bool(wait), timeout)
        if not notified:
            self._waits.remove(wait)
        assert not self._lock._held, "a lock is held across a pause"
        self._lock._held = True
        return notified

    def notify(self, number=1):
        for _ in range(min(number, len(self._waits))):
            self._waits.popleft().append(True)

    def notify_all(self):
        self.notify(len(self._waits))


class Loop:
    """An event loop; it is the executor too, whose tasks the workers take."""

    def __init__(self, sim):
        self._sim = sim
        self._ready = deque()
        self._timers = []
        self._numbers = count()
        self.tasks = deque()
        self.writers = {}

    def events(self):
        if self._ready:
            yield self._run_next
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if self._timers and self._timers[0][0] <= self._sim.now:
            yield self._run_timer
        for descriptor, callback in self.writers.items():
            if self._sim.kernel.is_writable(descriptor):
                yield callback

    def next_time(self):
        return self._timers[0][0] if self._timers else inf

    def _run_next(self):
        self._ready.popleft()()

    def _run_timer(self):
        heapq.heappop(self._timers)[2].callback()

    # As asyncio's loops

    def call_soon(self, callback, *args):
        self._ready.append(lambda: callback(*args))

    call_soon_threadsafe = call_soon

    def call_later(self, delay, callback):
        timer = SimpleNamespace(callback=callback, cancelled=False)
        timer.cancel = lambda: setattr(timer, "cancelled", True)
        heapq.heappush(self._timers, (self._sim.now + delay, next(self._numbers), timer))
        return timer

    def add_writer(self, descriptor, callback):
        assert descriptor not in self.writers
        self.writers[descriptor] = callback

    def remove_writer(self, descriptor):
        del self.writers[descriptor]

    # As an executor

    def submit(self, task):
        self.tasks.append(task)


# The kernel


class Endpoint:
    """The server's end of a TCP connection, with the buffers of both directions."""

    def __init__(self, capacity):
        self.capacity = capacity
        # From the client, not received yet; and to the client, not read yet.
        self.inbound = bytearray()
        self.outbound = bytearray()
        # The client has closed its sending side, or all of its socket.
        self.client_ended = self.client_closed = False
        # The server has closed its sending side, or all of its socket.
        self.server_ended = self.server_closed = False
        # A reset is on its way to the client, or has come from it.
        self.reset_sent = self.reset_received = False
        self.descriptors = 0
        self.linger_zero = False

    def send(self, data):
        """Data from the server."""
        if self.reset_received:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        if self.server_ended:
            raise BrokenPipeError(errno.EPIPE, "broken pipe")
        if self.client_closed:
            self.reset_received = True
            return len(data)
        room = self.capacity - len(self.outbound)
        if room <= 0:
            raise BlockingIOError
        self.outbound += data[:room]
        return min(room, len(data))

    def receive(self, data):
        """Data from the client."""
        if not data:
            return
        if self.server_closed:
            self.reset()
        elif not self.reset_received:
            self.inbound += data

    def release(self):
        """The server has closed one of its descriptors."""
        self.descriptors -= 1
        if self.descriptors == 0:
            self.server_ended = self.server_closed = True
            # close(2) with unread bytes sends a reset, as with SO_LINGER of zero seconds.
            if self.inbound or self.linger_zero:
                self.reset()

    def reset(self):
        """Reset the connection: what the client has not read yet is lost."""
        self.reset_sent = True
        self.outbound.clear()

    @property
    def is_readable(self):
        return bool(self.inbound) or self.client_ended or self.reset_received

    @property
    def is_writable(self):
        return len(self.outbound) < self.capacity or self.reset_received or self.client_closed


class Kernel:
    """The system calls, any of which can fail; see `Simulation` for ``failures``."""

    def __init__(self, sim, failures):
        self._sim = sim
        self._failures = failures
        self._calls = count()
        self._numbers = count(100_000)
        self._endpoints = {}

    def patch(self, monkeypatch):
        fake_os = SimpleNamespace(
            dup=self._dup, close=self._close, pread=os.pread, sendfile=self._sendfile
        )
        monkeypatch.setattr(writers, "os", fake_os)
        names = {name: getattr(socket, name) for name in dir(socket) if name.isupper()}
        fake_socket = SimpleNamespace(**names, socket=lambda *args: Socket(self, args[-1]))
        monkeypatch.setattr(writers, "socket", fake_socket)
        fake_select = SimpleNamespace(poll=lambda: Poll(self._sim), POLLOUT=select.POLLOUT)
        monkeypatch.setattr(writers, "select", fake_select)

    def open(self, endpoint):
        """Return a new socket of the server."""
        return Socket(self, self._new_descriptor(endpoint))

    @property
    def open_descriptors(self):
        return len(self._endpoints)

    def endpoint(self, descriptor):
        return self._endpoints[descriptor]

    def is_writable(self, descriptor):
        return self._endpoints[descriptor].is_writable

    def call(self, endpoint):
        """Count a call; raise its error, or return whether it transfers one byte only."""
        failure = self._failures.get(next(self._calls))
        if failure in (errno.ECONNRESET, errno.EPIPE):
            endpoint.reset_received = True
            endpoint.reset()
        if failure:
            raise OSError(failure, os.strerror(failure))
        return failure is not None

    def _new_descriptor(self, endpoint):
        number = next(self._numbers)
        self._endpoints[number] = endpoint
        endpoint.descriptors += 1
        return number

    def _dup(self, descriptor):
        return self._new_descriptor(self._endpoints[descriptor])

    def _close(self, descriptor):
        self._endpoints.pop(descriptor).release()

    close = _close

    def _sendfile(self, descriptor, source, offset, size):
        return Socket(self, descriptor).send(os.pread(source, min(size, 100_000), offset), 0)


class Socket:
    """A socket of the server."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, 0

    def __init__(self, kernel, descriptor):
        self._kernel = kernel
        self._descriptor = descriptor
        self.endpoint = kernel.endpoint(descriptor)

    def fileno(self):
        return self._descriptor

    def setsockopt(self, _level, name, _value):
        if name == socket.SO_LINGER:
            self.endpoint.linger_zero = True

    def shutdown(self, _how):
        self.endpoint.server_ended = True

    def send(self, data, _flags):
        short = self._kernel.call(self.endpoint)
        return self.endpoint.send(bytes(data[:1] if short else data))

    def sendmsg(self, buffers, _ancillary, flags):
        return self.send(b"".join(buffers), flags)

    def recv_into(self, buffer, _size, _flags):
        endpoint = self.endpoint
        if self._kernel.call(endpoint):
            buffer = buffer[:1]
        if endpoint.reset_received:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        if not endpoint.inbound and not endpoint.client_ended:
            raise BlockingIOError
        data = endpoint.inbound[: len(buffer)]
        del endpoint.inbound[: len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def close(self):
        self._kernel.close(self._descriptor)


class Poll:
    """poll(2) for one descriptor, in a worker thread."""

    def __init__(self, sim):
        self._sim = sim

    def register(self, descriptor, _events):
        self._endpoint = self._sim.kernel.endpoint(descriptor)

    def poll(self, milliseconds):
        endpoint = self._endpoint
        return self._sim.pause(lambda: endpoint.is_writable, milliseconds / 1000)


class Transport(asyncio.Transport):
    """A transport of the event loop on a socket; with ``tls`` it has a buffer of its own."""

    def __init__(self, sim, sock, protocol, *, tls):
        super().__init__(
            {
                "socket": sock,
                "ssl_object": tls,
                "peername": ("192.0.2.1", 1),
                "sockname": ("192.0.2.2", 80),
            }
        )
        self._sim = sim
        self._socket = sock
        self._endpoint = sock.endpoint
        self._protocol = protocol
        self._reading = True
        self._eof_seen = False
        self._closing = False
        self._buffer = bytearray()
        self._protocol_paused = self._eof_wanted = False
        self.connected = self.lost = False

    def connect(self):
        """Begin to receive, as the event loop does once it has made the connection."""
        self._protocol.connection_made(self)
        self.connected = True

    def events(self):
        if self.lost or not self.connected:
            return
        if (
            self._reading
            and not self._eof_seen
            and not self._closing
            and self._endpoint.is_readable
        ):
            yield self._receive
        if self._buffer and self._endpoint.is_writable:
            yield self._flush

    def next_time(self):
        return inf

    def _receive(self):
        size = self._sim.random.choice((1, 100, 1000, 256 * 1024))
        buffer = bytearray(size)
        try:
            received = self._socket.recv_into(memoryview(buffer), 0, 0)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if received:
            self._protocol.data_received(bytes(buffer[:received]))
            return
        self._eof_seen = True
        if not self._protocol.eof_received():
            self.close()

    def _flush(self):
        try:
            del self._buffer[: self._socket.send(self._buffer, 0)]
        except BlockingIOError:
            return
        except OSError as error:
            # There is no close_notify, so a TLS client can tell that this is not the end.
            self._endpoint.reset()
            self._lose(error)
            return
        if not self._buffer:
            self._endpoint.server_ended |= self._eof_wanted
            if self._protocol_paused:
                self._protocol_paused = False
                self._protocol.resume_writing()
        if self._closing and not self._buffer:
            self._lose(None)

    def _lose(self, error):
        self._closing = True
        self._buffer.clear()
        self._sim.loop.call_soon(self._call_connection_lost, error)

    def _call_connection_lost(self, error):
        if not self.lost:
            self.lost = True
            self._protocol.connection_lost(error)
            self._socket.close()

    # As asyncio's transports

    def is_closing(self):
        return self._closing

    def close(self):
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._lose(None)
            else:
                # As asyncio's ssl_shutdown_timeout.
                self._sim.loop.call_later(30, self.abort)

    def abort(self):
        if self._buffer:
            # There is no close_notify, so a TLS client can tell that this is not the end.
            self._endpoint.reset()
        self._lose(None)

    def write(self, data):
        assert self._sim.current is None, "a worker thread uses the transport"
        if not self._closing:
            self._buffer += data
            self._flush()
            if self._buffer and not self._protocol_paused:
                self._protocol_paused = True
                self._protocol.pause_writing()

    def writelines(self, buffers):
        self.write(b"".join(buffers))

    def get_write_buffer_size(self):
        return len(self._buffer)

    def can_write_eof(self):
        return True

    def write_eof(self):
        self._eof_wanted = True
        self._endpoint.server_ended = not self._buffer

    def pause_reading(self):
        assert self._reading
        self._reading = False

    def resume_reading(self):
        assert not self._reading
        self._reading = True
