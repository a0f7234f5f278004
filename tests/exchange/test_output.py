"""The sending side of a connection: order, freedom, waiting, failure, and threads against it."""

from __future__ import annotations

import errno
import os
import socket
import weakref

import pytest
from outputs import OWNER, drained, lent
from support import FakePort, Signal, no_descriptor_leaks

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange import output as outlet_module
from aiowsgi.exchange import output_buffer as backlog_module
from aiowsgi.exchange.output import DrainResult, ResponseOutput
from aiowsgi.exchange.output_buffer import OutputLimits
from aiowsgi.exchange.writers import SocketWriter
from aiowsgi.wsgi.file_wrapper import FileRange

ERRORS = (errno.ECONNRESET, errno.EPIPE, errno.ENOBUFS)


@pytest.fixture
def file(tmp_path):
    """A file of a thousand bytes, open."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(250)) * 4)
    with path.open("rb", buffering=0) as opened:
        yield opened


# Freedom


def test_a_response_that_the_port_takes_is_one_call_and_wakes_nobody():
    """The fast path: one send, the outlet is free, and the loop sleeps on."""
    port, wake = FakePort(), Signal()
    outlet = lent(port, wake)
    assert outlet.in_use()
    outlet.lend(OWNER)
    outlet.send(OWNER, (b"head", b"body"), last=True)
    assert (port.taken, port.calls, wake.count) == (b"headbody", ["send"], 0)
    assert not outlet.in_use()
    assert not outlet.closing
    assert outlet.finished_at > 0


@pytest.mark.parametrize("asked", ["lend", "in_use"])
def test_the_loop_is_woken_where_it_asked_to_be(asked):
    """Who asked whether the outlet is in use, or lent it with a note, hears of the end."""
    wake = Signal()
    outlet = lent(FakePort(), wake, notify=asked == "lend")
    if asked == "in_use":
        assert outlet.in_use()
    outlet.send(OWNER, (b"x",), last=True)
    assert wake.count == 1


def test_the_loop_is_woken_to_close():
    """A response that ends its connection needs the loop to do so."""
    wake = Signal()
    outlet = lent(FakePort(), wake)
    outlet.send(OWNER, (b"x",), last=True, close=True)
    assert wake.count == 1
    assert outlet.closing


@pytest.mark.parametrize("method", ["send", "send_file"])
@pytest.mark.parametrize("why", ["not the owner", "finished", "revoked", "closed", "torn"])
def test_only_the_present_owner_can_send(method, why, file):
    """Whoever else tries is told that the client has gone, and no byte leaves."""
    port = FakePort()
    outlet = lent(port)
    owner = OWNER
    match why:
        case "not the owner":
            owner = object()
        case "finished":
            outlet.send(OWNER, (), last=True)
        case "revoked":
            assert outlet.revoke(OWNER, unless_claimed=False)
        case "closed":
            outlet.close()
        case "torn":
            outlet.abort(OWNER)
    part = FileRange(file.fileno(), 0, 5)
    calls = {
        "send": lambda: outlet.send(owner, (b"x",), last=True),
        "send_file": lambda: outlet.send_file(owner, b"x", part, close=False),
    }
    with pytest.raises(ClientDisconnected):
        calls[method]()
    assert port.taken == b""


def test_an_exchange_that_waits_for_a_thread_can_be_revoked():
    """Until a worker has begun, and once only; the worker is then told not to begin."""
    outlet = ResponseOutput(FakePort(), Signal(), OutputLimits())
    outlet.lend(OWNER)
    assert not outlet.revoke(object(), unless_claimed=True)
    assert outlet.revoke(OWNER, unless_claimed=True)
    assert not outlet.revoke(OWNER, unless_claimed=True)
    assert not outlet.claim(OWNER)
    assert outlet.owner is None


def test_an_exchange_that_has_begun_is_not_revoked_by_mistake():
    """A queue timeout that comes too late changes nothing."""
    outlet = lent(FakePort())
    assert not outlet.revoke(OWNER, unless_claimed=True)
    outlet.send(OWNER, (b"x",), last=True)


def test_an_outlet_is_in_use_until_the_last_byte_is_taken():
    """What waits for the client is still the response; only then may the next one begin."""
    port, wake = FakePort(room=1), Signal()
    outlet = lent(port, wake)
    outlet.send(OWNER, (b"xyz",), last=True, close=True)
    assert outlet.in_use()
    assert outlet.pending
    assert wake.count == 1
    assert not outlet.revoke(OWNER, unless_claimed=False)
    outlet.abort(OWNER)
    assert not outlet.broken
    assert drained(outlet, port) is DrainResult.FINISHED
    assert not outlet.in_use()
    assert not outlet.pending
    assert outlet.closing


def test_the_end_of_a_response_can_come_after_its_bytes():
    """A last call without bytes ends the response once the bytes before it are taken."""
    port, wake = FakePort(room=0), Signal()
    outlet = lent(port, wake)
    outlet.send(OWNER, (b"abc",), last=False)
    outlet.send(OWNER, (), last=True)
    assert outlet.in_use()
    assert drained(outlet, port) is DrainResult.FINISHED
    assert port.taken == b"abc"
    outlet.lend(OWNER)
    outlet.send(OWNER, (b"def",), last=False)
    assert outlet.drain() is DrainResult.EMPTY
    outlet.send(OWNER, (), last=True)
    assert not outlet.in_use()


def test_a_port_of_the_loops_is_left_to_the_loop():
    """A worker never calls a port that is not for any thread."""
    port, wake = FakePort(any_thread=False), Signal()
    outlet = lent(port, wake)
    outlet.send(OWNER, (b"ab", b"", b"c"), last=True)
    assert port.calls == []
    assert wake.count == 1
    assert outlet.drain() is DrainResult.FINISHED
    assert port.taken == b"abc"


@pytest.mark.parametrize("buffers", [(b"", b"body"), (b"head", b""), (b"",), (b"", b"")])
@pytest.mark.parametrize("room", [0, 1, 4])
def test_an_empty_buffer_is_nothing_to_wait_for(buffers, room):
    """However much the port takes, it is not kept: a drain could never get rid of it."""
    port = FakePort(room=room)
    outlet = lent(port)
    outlet.send(OWNER, buffers, last=True)
    if outlet.pending:
        assert drained(outlet, port) is DrainResult.FINISHED
    assert not outlet.in_use()
    assert port.taken == b"".join(buffers)


def test_a_drain_gives_others_their_turn(monkeypatch):
    """After `DRAIN` bytes it asks to be called again."""
    monkeypatch.setattr(outlet_module, "DRAIN", 10)
    port = FakePort(room=0, most=6)
    outlet = lent(port)
    outlet.send(OWNER, (b"x" * 30,), last=True)
    port.room = 100
    assert [outlet.drain() for _ in range(3)] == [
        DrainResult.MORE,
        DrainResult.MORE,
        DrainResult.FINISHED,
    ]


# Every place where the system can fail


def say(outlet, step, file):
    """One call of a worker's."""
    if step[0] == "file":
        outlet.send_file(OWNER, step[1], FileRange(file.fileno(), 5, 60), close=False)
    else:
        outlet.send(OWNER, step[1], last=step[0] == "last")


RESPONSES = {
    "one": [("last", (b"head and body",))],
    "two buffers": [("last", (b"head", b"body" * 5))],
    "stream": [("more", (b"head",)), ("more", (b"ab", b"c" * 9, b"d")), ("last", (b"end",))],
    "stream, then nothing": [("more", (b"head", b"body")), ("last", ())],
    "file": [("file", b"head")],
    "hint and file": [("more", (b"hint",)), ("file", b"head")],
}


def whole(response, file):
    """All bytes of a response."""
    return b"".join(
        step[1] + os.pread(file.fileno(), 60, 5) if step[0] == "file" else b"".join(step[1])
        for step in response
    )


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_port_that_is_full_at_any_place_loses_nothing(response, step, file):
    """Whenever the kernel takes no more, the rest follows in order, and the outlet is free."""
    expected = whole(response, file)
    with no_descriptor_leaks():
        for k in range(len(expected) + 1):
            port = FakePort(room=k)
            outlet = lent(port)
            for call in response:
                say(outlet, call, file)
            if outlet.in_use():
                assert drained(outlet, port, step) is DrainResult.FINISHED
            assert port.taken == expected
            assert not outlet.in_use()
            assert outlet.close() is None
            assert port.closed


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_port_that_breaks_at_any_place_is_given_up(response, code, at_once, file):
    """The worker gets ClientDisconnected, or the loop is told to abort; nothing leaks."""
    expected = whole(response, file)
    with no_descriptor_leaks():
        for k in range(len(expected)):
            port, wake = FakePort(k, OSError(code, "gone") if at_once else None), Signal()
            outlet = lent(port, wake)
            outlet.in_use()
            broken_at_once = False
            for call in response:
                try:
                    say(outlet, call, file)
                except ClientDisconnected:
                    broken_at_once = True
                    break
                if not port.room:
                    port.error = OSError(code, "gone")
            if not broken_at_once:
                port.error = OSError(code, "gone")
                assert outlet.drain() is DrainResult.BROKEN
            assert outlet.drain() is DrainResult.BROKEN
            assert outlet.broken
            assert wake.count >= 1
            outlet.close()
            assert outlet.close() is None
            assert expected.startswith(port.taken)


def test_closing_tells_whose_response_was_cut_off():
    """The loop learns which exchange to tell that its client has gone, if any."""
    outlet = lent(FakePort())
    assert outlet.close() is OWNER
    assert outlet.drain() is DrainResult.BROKEN
    outlet = lent(FakePort(room=0))
    outlet.send(OWNER, (b"x",), last=True)
    assert outlet.close() is OWNER
    outlet = lent(FakePort())
    outlet.send(OWNER, (b"x",), last=True)
    assert outlet.close() is None


@pytest.mark.parametrize("room", [0, 2, 4, 9])
def test_a_file_without_a_descriptor_for_its_duplicate_is_torn(room, file, monkeypatch):
    """No descriptor is left (EMFILE): the response cannot be finished, and must not look it."""

    def no_descriptor(_):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(backlog_module.os, "dup", no_descriptor)
    outlet = lent(FakePort(room=room))
    with pytest.raises(ClientDisconnected):
        outlet.send_file(OWNER, b"head", FileRange(file.fileno(), 0, 60), close=False)
    assert outlet.broken
    assert outlet.in_use()
    assert outlet.close() is OWNER


@pytest.mark.parametrize("room", [0, 4, 9])
def test_a_file_that_became_shorter_is_torn(room, tmp_path):
    """The end of the file before its time breaks the connection, at once or when drained."""
    path = tmp_path / "short"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        port = FakePort(room=room)
        outlet = lent(port)
        part = FileRange(file.fileno(), 3, 5)
        if room > 4:
            with pytest.raises(ClientDisconnected):
                outlet.send_file(OWNER, b"head", part, close=False)
        else:
            outlet.send_file(OWNER, b"head", part, close=False)
            assert drained(outlet, port) is DrainResult.BROKEN
        assert outlet.broken
        outlet.close()


@pytest.mark.parametrize("room", [0, 2, 4])
def test_a_file_of_no_bytes_is_finished_with_its_head(file, room):
    """An answer to HEAD, or an empty range."""
    port = FakePort(room=room)
    outlet = lent(port)
    outlet.send_file(OWNER, b"head", FileRange(file.fileno(), 0, 0), close=True)
    if room < 4:
        assert drained(outlet, port) is DrainResult.FINISHED
    assert port.taken == b"head"
    assert not outlet.in_use()
    assert outlet.closing


def test_a_closed_outlet_keeps_nobody_alive():
    """It and its connection are freed one by the other, and not by the garbage collector."""
    wake = Signal()
    connection = weakref.ref(wake)
    outlet = lent(FakePort(), wake)
    assert outlet.close() is OWNER
    del wake
    assert connection() is None


def test_receiving_ends_with_the_descriptor():
    """While it is there, bytes come by it; a closed one may be another connection's by now."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outlet = ResponseOutput(SocketWriter(ours), bool, OutputLimits())
        buffer = memoryview(bytearray(3))
        theirs.send(b"abc")
        assert outlet.receive_into(buffer) == 3
        assert buffer == b"abc"
        outlet.close()
        theirs.send(b"def")
        with pytest.raises(ClientDisconnected):
            outlet.receive_into(buffer)
        assert buffer == b"abc"


def test_nothing_is_received_by_a_port_of_the_loops():
    """What transforms bytes (TLS) does so on the loop."""
    with pytest.raises(ClientDisconnected):
        ResponseOutput(FakePort(any_thread=False), bool, OutputLimits()).receive_into(
            memoryview(b"")
        )
