"""The sending side of a connection: order, states, waiting, failures, and several threads."""

from __future__ import annotations

import errno
import os
import random
import re
import socket
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from outputs import OWNER, assigned, drain, drained
from support import PATIENCE, FakeWriter, Signal, eventually, no_descriptor_leaks

from aiowsgi.exceptions import ClientDisconnected
from aiowsgi.exchange import output as output_module
from aiowsgi.exchange import output_buffer as buffer_module
from aiowsgi.exchange.output import DrainResult, OutputState, ResponseOutput
from aiowsgi.exchange.output_buffer import OutputLimits, Spool
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


# Assigning, sending, finishing


def test_a_response_that_the_writer_takes_is_one_call_and_wakes_no_thread():
    """The fast path: one send, and the output is free; the event loop is not woken."""
    writer, wake = FakeWriter(), Signal()
    output = assigned(writer, wake)
    output.send(OWNER, (b"head", b"body"), last=True)
    assert (writer.taken, writer.calls, wake.count) == (b"headbody", ["send"], 0)
    assert not output.in_use()
    assert not output.must_close
    assert output.finished_at > 0


@pytest.mark.parametrize("asked", ["assign", "in_use"])
def test_the_loop_is_woken_if_it_asked_to_be(asked):
    """A loop that found the output in use, or assigned it with ``notify``, hears of the end."""
    wake = Signal()
    output = assigned(FakeWriter(), wake, notify=asked == "assign")
    if asked == "in_use":
        assert output.in_use()
    output.send(OWNER, (b"x",), last=True)
    assert wake.count == 1


def test_the_loop_is_woken_to_close():
    """Only the event loop can end the connection after a response."""
    wake = Signal()
    output = assigned(FakeWriter(), wake)
    output.send(OWNER, (b"x",), last=True, close=True)
    assert wake.count == 1
    assert output.must_close


@pytest.mark.parametrize("method", ["send", "send_file"])
@pytest.mark.parametrize("why", ["not the owner", "finished", "cancelled", "closed", "torn"])
def test_only_the_present_owner_can_send(method, why, file):
    """Any other caller gets ClientDisconnected, and no byte is sent."""
    writer = FakeWriter()
    output = assigned(writer)
    owner = OWNER
    match why:
        case "not the owner":
            owner = object()
        case "finished":
            output.send(OWNER, (), last=True)
        case "cancelled":
            assert output.cancel(OWNER, only_queued=False)
        case "closed":
            output.close()
        case "torn":
            output.abort(OWNER)
    part = FileRange(file.fileno(), 0, 5)
    calls = {
        "send": lambda: output.send(owner, (b"x",), last=True),
        "send_file": lambda: output.send_file(owner, b"x", part, close=False),
    }
    with pytest.raises(ClientDisconnected):
        calls[method]()
    assert writer.taken == b""


def test_an_exchange_that_waits_for_a_thread_can_be_cancelled():
    """Once, and before a worker thread starts; that is then told not to start."""
    output = ResponseOutput(FakeWriter(), Signal(), OutputLimits())
    output.assign(OWNER)
    assert not output.cancel(object(), only_queued=True)
    assert output.cancel(OWNER, only_queued=True)
    assert not output.cancel(OWNER, only_queued=True)
    assert not output.start(OWNER)
    assert output.owner is None


def test_an_exchange_that_has_started_is_not_cancelled_by_mistake():
    """A queue timeout that comes too late changes nothing."""
    output = assigned(FakeWriter())
    assert not output.cancel(OWNER, only_queued=True)
    output.send(OWNER, (b"x",), last=True)


def test_an_output_is_in_use_until_the_last_byte_is_taken():
    """While bytes wait for the client, the next response cannot begin."""
    writer, wake = FakeWriter(space=1), Signal()
    output = assigned(writer, wake)
    output.send(OWNER, (b"xyz",), last=True, close=True)
    assert output.in_use()
    assert output.pending
    assert wake.count == 1
    assert not output.cancel(OWNER, only_queued=False)
    output.abort(OWNER)
    assert output.state is not OutputState.BROKEN
    assert drained(output, writer) is DrainResult.FINISHED
    assert not output.in_use()
    assert not output.pending
    assert output.must_close


def test_the_end_of_a_response_can_come_after_its_bytes():
    """A last call without bytes ends the response once the bytes before it are taken."""
    writer, wake = FakeWriter(space=0), Signal()
    output = assigned(writer, wake)
    output.send(OWNER, (b"abc",), last=False)
    output.send(OWNER, (), last=True)
    assert output.in_use()
    assert drained(output, writer) is DrainResult.FINISHED
    assert writer.taken == b"abc"
    output.assign(OWNER)
    assert output.start(OWNER)
    output.send(OWNER, (b"def",), last=False)
    assert drain(output) is DrainResult.EMPTY
    output.send(OWNER, (), last=True)
    assert not output.in_use()


def test_a_writer_of_the_event_loop_is_called_by_the_loop_only():
    """A worker thread never calls a TLS writer."""
    writer, wake = FakeWriter(any_thread=False), Signal()
    output = assigned(writer, wake)
    output.send(OWNER, (b"ab", b"", b"c"), last=True)
    assert writer.calls == []
    assert wake.count == 1
    assert drain(output) is DrainResult.FINISHED
    assert writer.taken == b"abc"


@pytest.mark.parametrize("buffers", [(b"", b"body"), (b"head", b""), (b"",), (b"", b"")])
@pytest.mark.parametrize("space", [0, 1, 4])
def test_an_empty_buffer_is_not_kept(buffers, space):
    """However much the writer takes: a drain could never send an empty buffer."""
    writer = FakeWriter(space=space)
    output = assigned(writer)
    output.send(OWNER, buffers, last=True)
    if output.pending:
        assert drained(output, writer) is DrainResult.FINISHED
    assert not output.in_use()
    assert writer.taken == b"".join(buffers)


def test_a_drain_lets_the_loop_serve_other_connections(monkeypatch):
    """After `DRAIN_BUDGET` bytes it asks to be called again."""
    monkeypatch.setattr(output_module, "DRAIN_BUDGET", 10)
    writer = FakeWriter(space=0, most=6)
    output = assigned(writer)
    output.send(OWNER, (b"x" * 30,), last=True)
    writer.space = 100
    assert [drain(output) for _ in range(3)] == [
        DrainResult.MORE,
        DrainResult.MORE,
        DrainResult.FINISHED,
    ]


# The table of states


def in_state(state, writer):
    """An output in ``state``; OWNER is its owner if there is one."""
    output = ResponseOutput(writer, Signal(), OutputLimits(1000, 0))
    if state is OutputState.FREE:
        return output
    output.assign(OWNER)
    if state is OutputState.QUEUED:
        return output
    assert output.start(OWNER)
    match state:
        case OutputState.FLUSHING:
            writer.space = 0
            output.send(OWNER, (b"last",), last=True)
        case OutputState.UPGRADED:
            output.take(OWNER, UPGRADE)
        case OutputState.BROKEN:
            output.abort(OWNER)
        case OutputState.CLOSED:
            output.close()
    return output


EVENTS = {
    "assign": lambda output: output.assign(OWNER),
    "start": lambda output: output.start(OWNER),
    "send": lambda output: output.send(OWNER, (b"x",), last=False),
    "send last": lambda output: output.send(OWNER, (b"x",), last=True),
    "abort": lambda output: output.abort(OWNER),
    "take": lambda output: output.take(OWNER, UPGRADE),
    "end input": lambda output: output.end_input(),
    "cancel": lambda output: output.cancel(OWNER, only_queued=False),
    "cancel queued": lambda output: output.cancel(OWNER, only_queued=True),
    "drain": drain,
    "close": lambda output: output.close().owner,
    "answer": lambda output: output.answer(b"x", close=False),
    "interim": lambda output: output.send_interim(b"x"),
}

RAISED = {"GONE": ClientDisconnected, "ILLEGAL": RuntimeError}

TABLE = """
event          FREE      QUEUED   SENDING   FLUSHING  UPGRADED  BROKEN  CLOSED
assign         QUEUED    ILLEGAL  ILLEGAL   ILLEGAL   ILLEGAL   =       =
start          False     SENDING  False     False     False     False   False
send           GONE      GONE     =         GONE      GONE      GONE    GONE
send last      GONE      GONE     FREE      GONE      GONE      GONE    GONE
abort          =         BROKEN   BROKEN    =         FREE      =       =
take           GONE      GONE     UPGRADED  GONE      GONE      GONE    GONE
end input      =         =        =         =         =         =       =
cancel         False     FREE     FREE      False     False     False   False
cancel queued  False     FREE     False     False     False     False   False
drain          =         =        =         FREE      =         =       =
close          CLOSED    CLOSED   CLOSED    CLOSED    CLOSED    CLOSED  CLOSED
answer         =         ILLEGAL  ILLEGAL   ILLEGAL   ILLEGAL   GONE    GONE
interim        =         ILLEGAL  ILLEGAL   ILLEGAL   ILLEGAL   GONE    GONE
"""
"""Each cell: the state afterwards, ``=`` for the same; or what is returned or raised instead."""


UPGRADE = Signal()
"""Stands for what is called when the connection changes hands."""


class TakeableWriter(FakeWriter, SocketWriter):
    """A fake with a socket that can be taken over; notes what is done to that."""

    def __init__(self):
        super().__init__()
        self.done = []

    def duplicate(self):
        return "duplicate"

    def shut_down(self, how):
        self.done.append(how)

    def set_non_blocking(self):
        self.done.append("non-blocking")


def test_a_connection_that_was_taken_over():
    """The application has a socket of its own; the event loop ends it, and goes on after it."""
    writer, signal = TakeableWriter(), Signal()
    output = ResponseOutput(writer, signal, OutputLimits(1000, 0))
    output.assign(OWNER)
    assert output.start(OWNER)
    assert output.take(OWNER, UPGRADE) == "duplicate"
    assert output.hand_over is UPGRADE
    assert signal.count == 1
    output.end_input()
    output.abort(OWNER)
    assert writer.done == [socket.SHUT_RD, "non-blocking"]
    assert (output.state, output.must_close, output.hand_over) == (OutputState.FREE, True, None)
    assert signal.count == 2


def test_a_lost_connection_wakes_the_application_that_has_it():
    """Its descriptor is its own, and must not be waited on for ever."""
    writer = TakeableWriter()
    in_state(OutputState.UPGRADED, writer).close()
    assert writer.done == [socket.SHUT_RDWR]


@pytest.mark.parametrize("kind", [FakeWriter, TakeableWriter])
def test_what_waits_is_sent_before_a_connection_can_be_taken(kind):
    """An application that has sent something, or one behind TLS, cannot take the connection."""
    writer = kind()
    output = in_state(OutputState.SENDING, writer)
    if kind is TakeableWriter:
        writer.space = 0
        output.send(OWNER, (b"early",), last=False)
    with pytest.raises(ClientDisconnected, match="cannot be taken over"):
        output.take(OWNER, UPGRADE)


def cells():
    """The rows of the table's cells: event, state, and what the cell says."""
    head, *rows = (re.split("  +", line) for line in TABLE.strip().splitlines())
    for event, *expected in rows:
        for state, cell in zip(head[1:], expected, strict=True):
            yield pytest.param(event, OutputState[state], cell, id=f"{event}-{state}")


@pytest.mark.parametrize(("event", "state", "cell"), list(cells()))
def test_every_state_meets_every_event_as_the_table_says(event, state, cell):
    """No call is undefined in any state, and a refused one changes nothing."""
    writer = TakeableWriter() if "take" in event or state is OutputState.UPGRADED else FakeWriter()
    output = in_state(state, writer)
    assert output.state is state
    writer.space = 100
    if cell in RAISED:
        with pytest.raises(RAISED[cell]):
            EVENTS[event](output)
        after = state
    else:
        returned = EVENTS[event](output)
        assert (returned is False) is (cell == "False")
        after = state if cell in ("=", "False") else OutputState[cell]
    assert output.state is after


@pytest.mark.parametrize("state", OutputState)
@pytest.mark.parametrize("event", ["start", "send", "send last", "abort", "cancel"])
def test_an_exchange_that_is_not_the_owner_changes_nothing(state, event):
    """In every state, only the owner's calls have an effect."""
    output = in_state(state, TakeableWriter())
    stranger = object()
    calls = {
        "start": lambda: output.start(stranger),
        "send": lambda: output.send(stranger, (b"x",), last=False),
        "send last": lambda: output.send(stranger, (b"x",), last=True),
        "abort": lambda: output.abort(stranger),
        "cancel": lambda: output.cancel(stranger, only_queued=False),
    }
    if event.startswith("send"):
        with pytest.raises(ClientDisconnected):
            calls[event]()
    else:
        assert not calls[event]()
    assert output.state is state


@pytest.mark.parametrize(
    ("state", "started"), [("QUEUED", False), ("SENDING", True), ("FLUSHING", True)]
)
@pytest.mark.parametrize("broken", [True, False])
def test_closing_tells_whether_a_thread_has_started(state, broken, started):
    """The event loop must free the body of an exchange that no thread will start on."""
    output = in_state(OutputState[state], FakeWriter())
    if broken:
        output.abort(OWNER)
        assert not output.start(OWNER)
    assert output.close() == (OWNER, started)


# The event loop's own responses


def test_a_response_of_the_event_loop_is_one_call():
    """What the kernel takes is finished at once, and its end is noted."""
    writer, wake = FakeWriter(), Signal()
    output = ResponseOutput(writer, wake, OutputLimits())
    output.answer(b"refused", close=True)
    assert (writer.taken, writer.calls, wake.count) == (b"refused", ["send"], 0)
    assert not output.in_use()
    assert output.must_close


@pytest.mark.parametrize("any_thread", [True, False])
@pytest.mark.parametrize("limits", [(0, 0), (0, 64), (2, 3)])
def test_the_loop_never_waits_for_space_that_it_alone_makes(any_thread, limits, monkeypatch):
    """Its responses are kept in memory, whatever the limits are, and no thread is needed."""
    writer, wake = FakeWriter(0, any_thread=any_thread), Signal()
    monkeypatch.setattr(writer, "wait", lambda seconds: pytest.fail("the loop waits"))
    output = ResponseOutput(writer, wake, OutputLimits(*limits))
    output.send_interim(b"continue ")
    output.send_interim(b"again ")
    output.answer(b"refused" * 20, close=False)
    assert wake.count >= 1
    assert output.in_use()
    assert drained(output, writer) is DrainResult.FINISHED
    assert writer.taken == b"continue again " + b"refused" * 20


def test_a_response_follows_what_the_loop_sent():
    """100 (Continue) that the client has not read yet comes before the response."""
    writer = FakeWriter(0)
    output = ResponseOutput(writer, Signal(), OutputLimits())
    output.send_interim(b"continue ")
    output.assign(OWNER)
    assert output.start(OWNER)
    output.send(OWNER, (b"response",), last=True)
    assert drained(output, writer) is DrainResult.FINISHED
    assert writer.taken == b"continue response"


def test_nothing_follows_an_interim_response_that_was_cut_off():
    """A response of the event loop never begins in the middle of a cancelled one."""
    writer, wake = FakeWriter(2), Signal()
    with no_descriptor_leaks():
        output = assigned(writer, wake, memory=3, spool=100)
        output.send(OWNER, (b"hint",), last=False)
        output.send(OWNER, (b"hint",), last=False)
        assert output.cancel(OWNER, only_queued=False)
        with pytest.raises(ClientDisconnected):
            output.answer(b"too late", close=False)
        assert output.state is OutputState.BROKEN
        output.close()
    assert writer.taken == b"hi"


# A writer that takes no more


def test_a_client_that_does_not_read_costs_no_reads_and_no_wake_ups(monkeypatch):
    """After EAGAIN nothing is read from the spool, and the loop is woken when it can send."""
    reads = []
    peek = Spool.peek
    monkeypatch.setattr(Spool, "peek", lambda spool: reads.append(1) or peek(spool))
    writer, wake = FakeWriter(10), Signal()
    output = assigned(writer, wake, memory=100, spool=100_000)
    block = b"x" * 40
    for _ in range(5):
        output.send(OWNER, (block,), last=False)
    assert output.drain() is DrainResult.BLOCKED
    count, looks, calls = wake.count, len(reads), len(writer.calls)
    for _ in range(500):
        output.send(OWNER, (block,), last=False)
        assert output.drain() is DrainResult.BLOCKED
    output.send(OWNER, (), last=True)
    assert (wake.count, len(reads), len(writer.calls)) == (count, looks, calls)
    writer.space = 50
    assert drain(output) is DrainResult.BLOCKED
    assert len(reads) == looks + 1
    assert drained(output, writer, 5000) is DrainResult.FINISHED
    assert writer.taken == block * 505
    assert len(reads) <= looks + 10
    output.close()


def test_a_thread_that_waits_for_space_does_not_wake_the_loop_while_the_client_does_not_read(
    worker,
):
    """The loop waits for the descriptor: it can do nothing before that is writable."""
    writer, wake = FakeWriter(0), Signal()
    output = assigned(writer, wake, memory=10, spool=64)
    output.send(OWNER, (b"12345",), last=False)
    assert output.drain() is DrainResult.BLOCKED
    count = wake.count
    future = worker.submit(feed, output, [b"x" * 100] * 3)
    eventually(lambda: output._space is not None)
    assert wake.count == count
    while not future.done() or output.in_use():
        writer.space = 50
        drain(output)
    assert writer.taken == b"12345" + b"x" * 300
    output.close()


# Every place where the system can fail


def say(output, step, file):
    """One call of a worker thread."""
    if step[0] == "file":
        output.send_file(OWNER, step[1], FileRange(file.fileno(), 5, 60), close=False)
    else:
        output.send(OWNER, step[1], last=step[0] == "last")


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
def test_a_writer_that_is_full_at_any_place_loses_nothing(response, step, file):
    """Whenever the kernel takes no more, the rest follows in order, and the output is free."""
    expected = whole(response, file)
    with no_descriptor_leaks():
        for k in range(len(expected) + 1):
            writer = FakeWriter(space=k)
            output = assigned(writer)
            for call in response:
                say(output, call, file)
            if output.in_use():
                assert drained(output, writer, step) is DrainResult.FINISHED
            assert writer.taken == expected
            assert not output.in_use()
            assert output.close().owner is None
            assert writer.closed


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_writer_that_breaks_at_any_place_is_given_up(response, code, at_once, file):
    """The worker thread gets ClientDisconnected, or the loop is told to abort; nothing leaks."""
    expected = whole(response, file)
    with no_descriptor_leaks():
        for k in range(len(expected)):
            writer, wake = FakeWriter(k, OSError(code, "gone") if at_once else None), Signal()
            output = assigned(writer, wake)
            output.in_use()
            broken_at_once = False
            for call in response:
                try:
                    say(output, call, file)
                except ClientDisconnected:
                    broken_at_once = True
                    break
                if not writer.space:
                    writer.error = OSError(code, "gone")
            if not broken_at_once:
                writer.error = OSError(code, "gone")
                assert drain(output) is DrainResult.BROKEN
            assert drain(output) is DrainResult.BROKEN
            assert output.state is OutputState.BROKEN
            assert wake.count >= 1
            output.close()
            assert output.close().owner is None
            assert expected.startswith(writer.taken)


def test_closing_tells_whose_response_was_cut_off():
    """The loop learns which exchange to tell that its client has gone, if there is one."""
    output = assigned(FakeWriter())
    assert output.close().owner is OWNER
    assert drain(output) is DrainResult.BROKEN
    output = assigned(FakeWriter(space=0))
    output.send(OWNER, (b"x",), last=True)
    assert output.close().owner is OWNER
    output = assigned(FakeWriter())
    output.send(OWNER, (b"x",), last=True)
    assert output.close().owner is None


@pytest.mark.parametrize("space", [0, 2, 4, 9])
def test_a_file_without_a_descriptor_for_its_duplicate_breaks_the_connection(
    space, file, monkeypatch
):
    """No descriptor is left (EMFILE): the response cannot be finished, nor look finished."""

    def no_descriptor(_):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(buffer_module.os, "dup", no_descriptor)
    output = assigned(FakeWriter(space=space))
    with pytest.raises(ClientDisconnected):
        output.send_file(OWNER, b"head", FileRange(file.fileno(), 0, 60), close=False)
    assert output.state is OutputState.BROKEN
    assert output.in_use()
    assert output.close().owner is OWNER


@pytest.mark.parametrize("space", [0, 4, 9])
def test_a_file_that_became_shorter_breaks_the_connection(space, tmp_path):
    """The file ends too early: the response cannot be finished, at once or when drained."""
    path = tmp_path / "short"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        writer = FakeWriter(space=space)
        output = assigned(writer)
        part = FileRange(file.fileno(), 3, 5)
        if space > 4:
            with pytest.raises(ClientDisconnected):
                output.send_file(OWNER, b"head", part, close=False)
        else:
            output.send_file(OWNER, b"head", part, close=False)
            assert drained(output, writer) is DrainResult.BROKEN
        assert output.state is OutputState.BROKEN
        output.close()


@pytest.mark.parametrize("space", [0, 2, 4])
def test_a_file_of_no_bytes_is_finished_with_its_head(file, space):
    """A response to HEAD, or an empty range."""
    writer = FakeWriter(space=space)
    output = assigned(writer)
    output.send_file(OWNER, b"head", FileRange(file.fileno(), 0, 0), close=True)
    if space < 4:
        assert drained(output, writer) is DrainResult.FINISHED
    assert writer.taken == b"head"
    assert not output.in_use()
    assert output.must_close


def test_a_closed_output_does_not_keep_its_connection_alive():
    """Both are freed without the garbage collector."""
    wake = Signal()
    connection = weakref.ref(wake)
    output = assigned(FakeWriter(), wake)
    assert output.close().owner is OWNER
    del wake
    assert connection() is None


def test_receiving_ends_with_the_descriptor():
    """A closed descriptor may be another connection's by now, and is never read."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = ResponseOutput(SocketWriter(ours), bool, OutputLimits())
        buffer = memoryview(bytearray(3))
        theirs.send(b"abc")
        assert output.receive_into(buffer) == 3
        assert buffer == b"abc"
        output.close()
        theirs.send(b"def")
        with pytest.raises(ClientDisconnected):
            output.receive_into(buffer)
        assert buffer == b"abc"


def test_nothing_is_received_through_a_tls_writer():
    """TLS is decrypted on the event loop."""
    with pytest.raises(ClientDisconnected):
        ResponseOutput(FakeWriter(any_thread=False), bool, OutputLimits()).receive_into(
            memoryview(b"")
        )


# What the kernel does not take at once


@pytest.fixture
def worker():
    """A thread that sends."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def feed(output, blocks):
    """What a worker thread does with a response in blocks."""
    for block in blocks:
        output.send(OWNER, (block,), last=False)
    output.send(OWNER, (), last=True)


def drain_for(output, writer, wake, future, rng=None, most=50):
    """What the event loop does until the worker thread has ended and everything is sent."""
    while True:
        wake.wait()
        while True:
            writer.space = rng.randint(1, most) if rng else most
            if (result := drain(output)) is not DrainResult.BLOCKED:
                break
        if not output.in_use():
            future.result(PATIENCE)
            return
        assert result is DrainResult.EMPTY


@pytest.mark.parametrize(
    ("memory", "spool"), [(1000, 0), (0, 0), (10, 0), (10, 64), (0, 64), (10, 10_000), (50, 7)]
)
def test_a_worker_sends_more_than_is_buffered(worker, memory, spool):
    """Whatever the limits, the worker thread waits if it must, and all bytes leave in order."""
    blocks = [bytes([65 + n % 26]) * (n * 13 % 90 + 1) for n in range(40)]
    with no_descriptor_leaks():
        writer, wake = FakeWriter(space=0), Signal()
        output = assigned(writer, wake, memory=memory, spool=spool)
        drain_for(output, writer, wake, worker.submit(feed, output, blocks))
        assert writer.taken == b"".join(blocks)
        output.close()


def test_thousands_of_interleavings_of_send_and_drain(worker):
    """Two threads and one output, with random limits, blocks and space: the same bytes."""
    with no_descriptor_leaks():
        for seed in range(1500):
            rng = random.Random(seed)
            blocks = [rng.randbytes(rng.randint(1, 60)) for _ in range(rng.randint(1, 8))]
            writer, wake = FakeWriter(space=rng.randint(0, 30)), Signal()
            limits = {"memory": rng.choice((0, 20, 60)), "spool": rng.choice((0, 16, 64, 500))}
            output = assigned(writer, wake, **limits, notify=True)
            future = worker.submit(feed, output, blocks)
            drain_for(output, writer, wake, future, rng)
            assert writer.taken == b"".join(blocks), seed
            output.close()


def test_thousands_of_interleavings_of_send_and_close(worker):
    """A close at any moment ends the wait, closes every file once, and nothing is sent after."""
    with no_descriptor_leaks():
        for seed in range(1500):
            rng = random.Random(seed)
            blocks = [rng.randbytes(rng.randint(1, 60)) for _ in range(8)]
            writer, wake = FakeWriter(space=rng.randint(0, 30)), Signal()
            limits = {"memory": rng.choice((0, 20, 60)), "spool": rng.choice((0, 16, 64, 500))}
            output = assigned(writer, wake, **limits)
            future = worker.submit(feed, output, blocks)
            for _ in range(rng.randint(0, 4)):
                drain(output)
            output.close()
            error = future.exception(PATIENCE)
            assert error is None or isinstance(error, ClientDisconnected)
            assert b"".join(blocks).startswith(writer.taken)


@pytest.mark.parametrize("spool", [0, 64])
def test_a_close_ends_the_wait_of_a_worker_thread(worker, spool):
    """The client has gone: its thread goes on, and the spool's file is closed."""
    with no_descriptor_leaks():
        writer, wake = FakeWriter(space=0), Signal()
        output = assigned(writer, wake, memory=10, spool=spool)
        future = worker.submit(feed, output, [b"x" * 100] * 3)
        while output._space is None:
            wake.wait()
        assert output.close().owner is OWNER
        assert isinstance(future.exception(PATIENCE), ClientDisconnected)


def test_a_close_while_the_spool_is_written_leaves_the_file_to_the_writer(worker, monkeypatch):
    """The descriptor is not closed under a thread that uses it, and is closed afterwards."""
    begun, go_on = Event(), Event()
    write_at = Spool.write_at

    def slow(region, data):
        begun.set()
        assert go_on.wait(PATIENCE)
        return write_at(region, data)

    monkeypatch.setattr(Spool, "write_at", staticmethod(slow))
    with no_descriptor_leaks():
        output = assigned(FakeWriter(space=0), memory=0, spool=64)
        future = worker.submit(feed, output, [b"x" * 100])
        assert begun.wait(PATIENCE)
        assert drain(output) is DrainResult.EMPTY
        assert output.close().owner is OWNER
        go_on.set()
        assert isinstance(future.exception(PATIENCE), ClientDisconnected)


@pytest.mark.parametrize("space", [0, 5, 30])
def test_with_a_full_disk_the_worker_waits_for_memory(worker, monkeypatch, caplog, space):
    """If the spool cannot be written any more, the worker thread waits, and loses nothing."""
    write_at = Spool.write_at

    def full(region, data):
        nonlocal space
        if not space:
            raise OSError(errno.ENOSPC, "no space left")
        written = write_at(region, data[: min(space, 10)])
        space -= written
        return written

    monkeypatch.setattr(Spool, "write_at", staticmethod(full))
    blocks = [b"a" * 30, b"b" * 70, b"c" * 30]
    with no_descriptor_leaks():
        writer, wake = FakeWriter(space=0), Signal()
        output = assigned(writer, wake, memory=40, spool=1000)
        drain_for(output, writer, wake, worker.submit(feed, output, blocks))
        assert writer.taken == b"".join(blocks)
        output.close()
    assert "cannot be written: " in caplog.text


def test_progress_is_measured_from_the_moment_something_waits(monkeypatch):
    """The write timeout counts from when the client was first slow, and from each byte it took."""
    now = 100.0
    for module in (output_module, output_module):
        monkeypatch.setattr(module, "monotonic", lambda: now)
    writer = FakeWriter(space=0)
    output = assigned(writer)
    output.send(OWNER, (b"abc",), last=False)
    assert output.progress_at == 100
    now = 101.0
    output.send(OWNER, (b"def",), last=False)
    assert drain(output) is DrainResult.BLOCKED
    assert output.progress_at == 100
    now, writer.space = 102.0, 1
    assert drain(output) is DrainResult.BLOCKED
    assert output.progress_at == 102
    now, writer.space = 103.0, 10
    assert drain(output) is DrainResult.EMPTY
    now, writer.space = 110.0, 0
    output.send(OWNER, (b"ghi",), last=True)
    assert output.progress_at == 110
    now, writer.space = 111.0, 9
    assert drain(output) is DrainResult.FINISHED
    assert output.finished_at == 111


# Waiting for a fast client


class FastWriter(FakeWriter):
    """A client that always reads what was sent a moment later."""

    def __init__(self, space):
        super().__init__(space)
        self.waits = 0
        self.refill = space

    def wait(self, seconds):
        """Make space again."""
        self.waits += 1
        self.space = self.refill
        return True


def test_a_fast_client_is_waited_for_while_the_response_goes_on():
    """What a fast client does not take at once is sent a moment later, without buffering."""
    writer, wake = FastWriter(10), Signal()
    output = assigned(writer, wake)
    output.send(OWNER, (b"x" * 25, b"y" * 5), last=False)
    assert writer.taken == b"x" * 25 + b"y" * 5
    assert writer.waits == 2
    assert not output.pending
    assert wake.count == 0


def test_no_client_is_waited_for_at_the_end_of_a_response():
    """A response that is finished holds no thread, however fast its client reads."""
    writer, wake = FastWriter(10), Signal()
    output = assigned(writer, wake)
    output.send(OWNER, (b"x" * 25,), last=True)
    assert writer.waits == 0
    assert output.pending


def test_a_slow_client_is_waited_for_once():
    """After a wait in which it read nothing, the thread does not wait for it again."""
    writer, wake = FakeWriter(0), Signal()
    waits = []
    writer.wait = waits.append
    output = assigned(writer, wake)
    output.send(OWNER, (b"abc",), last=False)
    output.send(OWNER, (b"def",), last=False)
    assert len(waits) == 1
    assert output.pending
