"""``wsgi.input`` of a body that still comes, with a file in memory as the oracle."""

from __future__ import annotations

import gc
import io
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from math import inf
from operator import itemgetter
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PATIENCE, Signal

from aiowsgi.exceptions import ClientDisconnected, RequestBodyError
from aiowsgi.exchange import request_body
from aiowsgi.exchange.request_body import HIGH_WATER, StreamedBody, open_stream

LOW_WATER = HIGH_WATER // 4
"""Where the loop is called back."""

lines = st.lists(st.sampled_from([b"", b"\n", b"a", b"bc\n", b"\r\n", b"x" * 9]), max_size=12)
sizes = st.one_of(st.none(), st.integers(-1, 40))
calls = st.lists(
    st.one_of(
        st.tuples(st.just("read"), sizes),
        st.tuples(st.just("readline"), sizes),
        st.tuples(st.just("readlines"), sizes),
        st.tuples(st.just("next"), st.none()),
        st.tuples(st.just("readinto"), st.integers(0, 30)),
    ),
    max_size=12,
)


def apply(file, call):
    """What a call gives."""
    name, argument = call
    if name == "next":
        return next(file, b"")
    if name == "readinto":
        buffer = bytearray(argument)
        return file.readinto(buffer), bytes(buffer)
    method = getattr(file, name)
    return method() if argument is None else method(argument)


@pytest.fixture(scope="module")
def reader():
    """A thread that reads."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("buffer_size", [1, 5, request_body.BUFFER_SIZE])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_calls_over_any_arrival_read_what_a_file_gives(reader, buffer_size, data):
    """The stream is a file of the blocks joined, whichever calls meet whichever arrival."""
    blocks = [block for block in data.draw(lines) if block]
    asked = data.draw(calls)
    # Buffered, as BytesIO alone understands the hint of readlines() in a way of its own.
    oracle = io.BufferedReader(io.BytesIO(b"".join(blocks)))
    body = StreamedBody(lambda: None)
    stream = io.BufferedReader(body, buffer_size)
    early = data.draw(st.integers(0, len(blocks)))
    for block in blocks[:early]:
        body.feed(block)
    result = reader.submit(lambda: [apply(stream, call) for call in asked])
    for block in blocks[early:]:
        body.feed(block)
    body.end()
    assert result.result(PATIENCE) == [apply(oracle, call) for call in asked]
    assert stream.read() == oracle.read()
    assert stream.read(1) == b""
    assert stream.readline() == b""


def test_readall_joins_what_comes(reader):
    """A read without a size ends with the body, and not with what has come so far."""
    body = StreamedBody(lambda: None)
    result = reader.submit(open_stream(body).read)
    body.feed(b"one ")
    body.feed(b"two")
    assert not result.done()
    body.end()
    assert result.result(PATIENCE) == b"one two"
    assert body.whole


@pytest.mark.parametrize("method", ["read", "readline", "readlines", "__next__"])
@pytest.mark.parametrize("fed", [b"", b"begun\nand"])
def test_a_body_cut_short_raises_at_every_call(method, fed):
    """An error is never taken for the end, however often one tries."""
    body = StreamedBody(lambda: None)
    stream = open_stream(body)
    if fed:
        body.feed(fed)
    body.end(RequestBodyError(400, "malformed"))
    for _ in range(2):
        with pytest.raises(RequestBodyError, match="malformed"):
            getattr(stream, method)()
    assert not body.whole


def test_an_error_wakes_a_reader_that_waits(reader):
    """The client goes while the application reads."""
    body = StreamedBody(lambda: None)
    result = reader.submit(open_stream(body).read, 10)
    body.feed(b"abc")
    body.end(ClientDisconnected("gone"))
    assert isinstance(result.exception(PATIENCE), ClientDisconnected)


def test_the_first_end_counts():
    """A body that was whole stays so when the client goes afterwards."""
    body = StreamedBody(lambda: None)
    body.feed(b"abc")
    body.end()
    body.end(ClientDisconnected("gone"))
    assert body.whole
    assert open_stream(body).read() == b"abc"


def test_it_is_a_readable_binary_file():
    """As the ``io`` module wants it."""
    body = StreamedBody(lambda: None)
    assert body.readable()
    assert not body.writable()
    assert not body.seekable()


# Backpressure


def test_reading_pauses_above_the_high_mark_and_resumes_below_the_low_one():
    """The loop is asked to stop, and called back once, when enough has been read."""
    resume = Signal()
    body = StreamedBody(resume)
    assert not body.feed(b"x" * HIGH_WATER)
    assert body.waits_for_client
    assert body.feed(b"x")
    assert not body.waits_for_client
    stream = io.BufferedReader(body, 1024)
    stream.read(HIGH_WATER - LOW_WATER)
    assert resume.count == 0
    assert not body.waits_for_client
    stream.read(1024)
    assert resume.count == 1
    assert body.waits_for_client
    stream.read(1024)
    assert resume.count == 1


def test_a_pause_lasts_until_the_reader_ends_it():
    """Bytes that come after a pause was asked for do not take it back: nobody would resume."""
    resume = Signal()
    body = StreamedBody(resume)
    stream = io.BufferedReader(body, 1024)
    assert body.feed(b"x" * (HIGH_WATER + 1))
    stream.read(LOW_WATER // 2)
    assert body.feed(b"y")
    body.end()
    stream.read()
    assert resume.count == 1
    assert not body.waits_for_client


def test_reading_to_the_end_resumes_too(reader):
    """`readall` gives room as `readinto` does."""
    resume = Signal()
    body = StreamedBody(resume)
    result = reader.submit(open_stream(body).read)
    total = 0
    for _ in range(20):
        total += 50_000
        if body.feed(b"x" * 50_000):
            resume.wait()
    body.end()
    assert len(result.result(PATIENCE)) == total


# Whom time counts for


def test_hunger_is_counted_from_what_happened_last(monkeypatch):
    """It is the client that is waited for since the last bytes came or room was made for more."""
    now = 10.0
    monkeypatch.setattr(request_body, "monotonic", lambda: now)
    body = StreamedBody(lambda: None)
    assert body.waiting_since == 10
    now = 11.0
    body.feed(b"x")
    assert body.waiting_since == 11
    body.feed(b"x" * HIGH_WATER)
    assert body.waiting_since == inf
    now = 12.0
    open_stream(body).read(HIGH_WATER)
    assert body.waiting_since == 12
    body.end()
    assert body.waiting_since == inf


# Clients that wait to be asked


def test_a_client_that_waits_is_asked_once_when_the_reader_would_wait(reader, monkeypatch):
    """100 (Continue) goes out at the first read; until then nothing is expected of the client."""
    now = 10.0
    monkeypatch.setattr(request_body, "monotonic", lambda: now)
    body, ask = StreamedBody(lambda: None), Signal()
    body.ask_first(ask)
    assert body.waiting_since == inf
    now = 20.0
    result = reader.submit(open_stream(body).read)
    ask.wait()
    assert body.waiting_since == 20
    body.feed(b"a")
    body.feed(b"b")
    body.end()
    assert result.result(PATIENCE) == b"ab"
    assert ask.count == 1


def test_a_client_that_did_not_wait_is_not_asked():
    """Its body is there, which is the answer to the question (RFC 9110 section 10.1.1)."""
    body, ask = StreamedBody(lambda: None), Signal()
    body.feed(b"abc")
    body.ask_first(ask)
    assert body.waits_for_client
    body.end()
    assert open_stream(body).read() == b"abc"
    assert ask.count == 0


def test_a_client_that_cannot_be_asked_is_an_error():
    """It went before it was asked: the reader hears of it, and the lock is free afterwards."""
    body = StreamedBody(lambda: None)

    def gone():
        raise ClientDisconnected("gone")

    body.ask_first(gone)
    with pytest.raises(ClientDisconnected):
        open_stream(body).read()
    body.end()
    assert body.whole


# A reading thread that receives


class Source:
    """A socket's receiving side: gives these pieces, and raises where one is an exception."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def __call__(self, buffer):
        piece = self.pieces.pop(0) if self.pieces else BlockingIOError()
        if isinstance(piece, OSError):
            raise piece
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if count < len(piece):
            self.pieces.insert(0, piece[count:])
        return count


def paused(resume=lambda: None):
    """A body that holds more than enough, and what it holds."""
    body, held = StreamedBody(resume, high_water=8), b"h" * 9
    assert body.feed(held)
    return body, held


def test_a_thread_that_may_receive_completes_the_body():
    """What was fed comes first; the loop is told once, at the end, how much need not be read."""
    resume = Signal()
    body, held = paused(resume)
    body.receive_directly(Source(b"abc", b"def", b"next request"), 6)
    assert open_stream(body).read() == held + b"abcdef"
    assert body.whole
    assert (resume.count, body.take_received(), body.take_received()) == (1, 6, 0)
    assert not body.waits_for_client


@pytest.mark.parametrize(
    "error", [BlockingIOError(), ConnectionResetError(), ClientDisconnected("gone"), b""]
)
def test_a_thread_that_gets_nothing_leaves_it_to_the_loop(reader, error):
    """Whether there is nothing yet, or never will be: the loop finds out."""
    resume = Signal()
    body, held = paused(resume)
    body.receive_directly(Source(b"abc", error, b"never"), 10)
    result = reader.submit(open_stream(body).read)
    resume.wait()
    assert body.take_received() == 3
    assert body.waits_for_client
    assert not body.feed(b"defghij")
    body.end()
    assert result.result(PATIENCE) == held + b"abcdefghij"
    assert resume.count == 1


def test_the_right_to_receive_can_be_taken():
    """Once the body has ended nothing more is received, and what was taken is told."""
    body, _ = paused()
    source = Source(b"abc", b"def")
    body.receive_directly(source, 10)
    stream = io.BufferedReader(body, 4)
    stream.read(10)
    assert body.take_received() == 0
    body.end(ClientDisconnected("gone"))
    # Three bytes more may stand in the buffer of the reader.
    with pytest.raises(ClientDisconnected):
        stream.read(4)
    assert source.pieces == [b"def"]
    assert body.take_received() == 3


def test_a_body_that_was_read_meanwhile_is_the_loops():
    """Between a request for a pause and the offer, the application may have read everything."""
    resume = Signal()
    body, held = paused(resume)
    stream = open_stream(body)
    assert stream.read(len(held)) == held
    body.receive_directly(Source(b"abc"), 3)
    assert resume.count == 1
    body.feed(b"xyz")
    body.end()
    assert stream.read() == b"xyz"


@given(
    steps=st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=9000)), max_size=9),
    asked=st.sampled_from([1, 1000, 65_536, 100_000, -1]),
)
@settings(max_examples=150, deadline=None)
def test_any_way_of_arrival_gives_the_same(reader, steps, asked):
    """Received, or fed once there was nothing more: the bytes come once and in order."""
    resume = Signal()
    body, held = paused(resume)
    stream = io.BufferedReader(body, 4096)
    result = reader.submit(lambda: b"".join(iter(lambda: stream.read(asked), b"")))
    ahead = sum(len(piece) for _, piece in steps)
    may_lend = True
    for by_thread, group in groupby(steps, key=itemgetter(0)):
        pieces = [piece for _, piece in group]
        if by_thread and may_lend:
            source = Source(*pieces)
            body.receive_directly(source, ahead)
            resume.wait()
            ahead -= body.take_received()
            pieces, may_lend = source.pieces, False
        for piece in pieces:
            ahead -= len(piece)
            may_lend = body.feed(piece)
    assert ahead == 0
    body.end()
    assert result.result(PATIENCE) == held + b"".join(piece for _, piece in steps)


def test_the_end_releases_what_asks_after_the_lock():
    """The last reference to the exchange closes the stream, which takes the same lock."""

    class Asking:
        """Holds the stream, as an exchange does."""

        def __init__(self, body):
            self.stream = open_stream(body)

        def ask(self):
            """Never called."""

    body = StreamedBody(lambda: None)
    body.ask_first(Asking(body).ask)
    ended = Thread(target=body.end, args=(None,), daemon=True)
    ended.start()
    ended.join(PATIENCE)
    assert not ended.is_alive()


@pytest.fixture
def no_garbage_collector():
    """Objects are freed by their reference counts alone."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("error", [RequestBodyError(408, "late"), ClientDisconnected("gone")])
def test_a_body_whose_reading_failed_is_freed_at_once(error, no_garbage_collector):
    """The traceback of a read's error keeps nothing alive; each read raises an equal error."""
    body = StreamedBody(bool)
    stream, freed = open_stream(body), weakref.ref(body)
    body.end(error)
    for _ in range(2):
        with pytest.raises(type(error), match=str(error)) as caught:
            stream.read()
        assert vars(caught.value) == vars(error)
        assert caught.value is not error
        del caught
    del body, stream
    assert freed() is None


def test_a_body_that_the_client_holds_back_is_freed_at_once(no_garbage_collector):
    """After its end, a body does not refer to the exchange that would have asked for it."""

    class Exchange:
        def __init__(self, body):
            self.stream = open_stream(body)
            body.ask_first(self.ask)

        def ask(self):
            raise AssertionError("nothing was read")

    for ended_first in (False, True):
        body = StreamedBody(bool)
        if ended_first:
            body.end()
        exchange, freed = Exchange(body), weakref.ref(body)
        body.end()
        del exchange, body
        assert freed() is None
