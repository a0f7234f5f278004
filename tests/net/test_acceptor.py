"""Accepting, with a fake listening socket and a fake event loop."""

from __future__ import annotations

import errno
import logging
import socket

import pytest

from aiowsgi.net.acceptor import ACCEPT_BATCH, RETRY_DELAY, YIELD_DELAY, Acceptor


class FakeConnection:
    """An accepted socket."""

    timeout = None

    def settimeout(self, timeout):
        self.timeout = timeout


class FakeListener:
    """Returns queued connections, or raises queued errors."""

    family = socket.AF_UNIX

    def __init__(self):
        self.queue = []
        self.accepts = 0

    def fileno(self):
        return 7

    def accept(self):
        self.accepts += 1
        if not self.queue:
            raise BlockingIOError
        item = self.queue.pop(0)
        if isinstance(item, Exception):
            raise item
        return item, ("127.0.0.1", 1)


class FakeTimer:
    """The handle that call_later returns."""

    def __init__(self, loop):
        self.loop = loop

    def cancel(self):
        self.loop.timers.clear()


class FakeLoop:
    """Records the reader, and the pending timers."""

    def __init__(self):
        self.reader = None
        self.timers, self.delays = [], []

    def add_reader(self, descriptor, callback):
        assert descriptor == 7
        assert self.reader is None
        self.reader = callback

    def remove_reader(self, descriptor):
        assert self.reader is not None
        self.reader = None

    def call_later(self, delay, callback):
        self.delays.append(delay)
        self.timers.append(callback)
        return FakeTimer(self)

    def fire(self):
        self.timers.pop()()


class AskedAcceptor(Acceptor):
    """An acceptor that asks the fake socket instead of the system whether a connection waits."""

    def has_pending(self):
        return bool(self._listener.queue)


class Scene:
    """A started acceptor with its fakes."""

    def __init__(self):
        self.loop, self.listener = FakeLoop(), FakeListener()
        self.accepted, self.exhausted = [], 0
        self.acceptor = AskedAcceptor(self.loop, self.listener, self.accepted.append, self.exhaust)
        self.acceptor.start()

    def exhaust(self):
        self.exhausted += 1


@pytest.fixture
def scene():
    """An acceptor at work."""
    return Scene()


def test_connections_are_handed_over_ready_for_a_loop(scene):
    """All waiting connections are accepted, and are non-blocking."""
    connections = [FakeConnection() for _ in range(3)]
    scene.listener.queue += connections
    scene.loop.reader()
    assert scene.accepted == connections
    assert all(connection.timeout == 0 for connection in connections)


def test_a_flood_leaves_the_others_their_turn(scene):
    """One step accepts at most a batch."""
    scene.listener.queue += [FakeConnection() for _ in range(ACCEPT_BATCH + 5)]
    scene.loop.reader()
    assert len(scene.accepted) == ACCEPT_BATCH
    scene.loop.reader()
    assert len(scene.accepted) == ACCEPT_BATCH + 5


def test_nobody_is_accepted_in_vain(scene):
    """poll() is asked for another connection, which costs less than a failing accept()."""
    scene.listener.queue += [FakeConnection() for _ in range(3)]
    scene.loop.reader()
    assert scene.listener.accepts == 3
    scene.loop.reader()
    assert scene.listener.accepts == 4
    assert len(scene.accepted) == 3


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("error", [None, OSError(errno.EINVAL, "the client has gone")])
def test_nagles_algorithm_is_turned_off(family, error):
    """An error of setsockopt() does not stop the connection from being passed on."""
    calls = []

    class Connection(FakeConnection):
        def setsockopt(self, *option):
            calls.append(option)
            if error is not None:
                raise error

    listener, accepted = FakeListener(), []
    listener.family = family
    listener.queue.append(Connection())
    acceptor = AskedAcceptor(FakeLoop(), listener, accepted.append, None)
    acceptor.start()
    acceptor._ready()
    assert calls == [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    assert len(accepted) == 1


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN])
def test_an_error_of_the_connections_is_passed_over(scene, code, caplog):
    """An error of one connection is ignored; the next connection is accepted."""
    scene.listener.queue += [OSError(code, "passing"), FakeConnection()]
    scene.loop.reader()
    assert len(scene.accepted) == 1
    assert not scene.exhausted
    assert not caplog.records


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_running_out_pauses_and_does_not_spin(scene, code, caplog):
    """Out of descriptors: one attempt, one call of on_exhausted, one log line; later a new
    attempt."""
    with caplog.at_level(logging.WARNING):
        for attempt in range(1, 4):
            scene.listener.queue.append(OSError(code, "none left"))
            scene.loop.reader()
            assert scene.listener.accepts == attempt
            assert scene.loop.reader is None
            assert scene.exhausted == attempt
            scene.loop.fire()
    assert [record.getMessage() for record in caplog.records] == [
        f"accepting is paused: [Errno {code}] none left"
    ]
    scene.listener.queue += [FakeConnection(), OSError(code, "none left")]
    scene.loop.reader()
    assert len(scene.accepted) == 1
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "code", [errno.EAGAIN, errno.EINTR, errno.ECONNABORTED, errno.EMFILE, errno.ENOBUFS]
)
def test_a_failure_at_any_accept_loses_nobody(code):
    """Whichever attempt fails, all waiting connections are accepted in order when that is
    possible."""
    for k in range(6):
        scene = Scene()
        connections = [FakeConnection() for _ in range(5)]
        scene.listener.queue += connections
        scene.listener.queue.insert(k, OSError(code, "failed"))
        while scene.listener.queue:
            # The socket stays readable, or the attempt is repeated after the pause.
            (scene.loop.reader or scene.loop.fire)()
        assert scene.accepted == connections
        assert scene.exhausted == (code in (errno.EMFILE, errno.ENOBUFS))


def test_it_can_be_stopped_and_started_again(scene):
    """start() and stop() are idempotent; while stopped, connections wait in the kernel."""
    scene.acceptor.start()
    scene.acceptor.stop()
    scene.acceptor.stop()
    assert scene.loop.reader is None
    scene.acceptor.start()
    scene.listener.queue.append(FakeConnection())
    scene.loop.reader()
    assert len(scene.accepted) == 1


def test_stopping_ends_a_pause(scene):
    """A paused acceptor that is stopped does not resume."""
    scene.listener.queue.append(OSError(errno.EMFILE, "none left"))
    scene.loop.reader()
    assert scene.loop.delays == [RETRY_DELAY]
    scene.acceptor.stop()
    assert not scene.loop.timers


def test_it_stops_within_a_batch(scene):
    """The callback of a connection may stop the acceptor within a batch."""
    scene.acceptor._on_connection = lambda connection: scene.acceptor.stop()
    scene.listener.queue += [FakeConnection() for _ in range(5)]
    scene.loop.reader()
    assert len(scene.listener.queue) == 4


def test_making_room_may_stop_it(scene):
    """on_exhausted may stop the acceptor."""
    scene.acceptor._on_exhausted = scene.acceptor.stop
    scene.listener.queue.append(OSError(errno.EMFILE, "none left"))
    scene.loop.reader()
    assert scene.loop.reader is None


def test_who_has_more_connections_gives_way(scene):
    """A connection may be left to another process. What that leaves is accepted after a moment,
    more each time, so that clients do not wait one by one for a process that is stuck."""
    turn = False
    scene.acceptor._may_accept = lambda: turn
    scene.listener.queue += [FakeConnection() for _ in range(10)]
    for total in (1, 3, 7):
        scene.loop.reader()
        assert scene.loop.delays[-1] == YIELD_DELAY
        assert scene.loop.reader is None
        scene.loop.fire()
        assert len(scene.accepted) == total
    turn = True
    scene.loop.reader()
    assert len(scene.accepted) == 10
    turn = False
    scene.loop.reader()
    scene.loop.fire()
    scene.listener.queue += [FakeConnection() for _ in range(5)]
    scene.loop.reader()
    scene.loop.fire()
    assert len(scene.accepted) == 11


def test_giving_way_ends_with_the_accepting(scene):
    """Accepting the connections that were left may stop the acceptor."""
    scene.acceptor._may_accept = lambda: False
    scene.acceptor._left_over = 4
    scene.acceptor._on_connection = lambda connection: scene.acceptor.stop()
    scene.listener.queue += [FakeConnection() for _ in range(5)]
    scene.loop.reader()
    scene.loop.fire()
    assert len(scene.listener.queue) == 4
    assert scene.loop.reader is None


def test_whether_somebody_waits_can_be_asked():
    """has_pending() reports waiting connections without accepting them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(FakeLoop(), listener, None, None)
        assert not acceptor.has_pending()
        with socket.create_connection(listener.getsockname()):
            assert acceptor.has_pending()
