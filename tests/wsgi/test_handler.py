"""PEP 3333 with a sink that records the bytes: every state, every kind of misbehaviour."""

from __future__ import annotations

import logging
import sys
from threading import Thread

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE, read_response

from aiowsgi.exceptions import ApplicationError, ClientDisconnected, RequestBodyError
from aiowsgi.http1.response import response_context
from aiowsgi.wsgi import handler
from aiowsgi.wsgi.file_wrapper import FileWrapper
from aiowsgi.wsgi.handler import COPY_BELOW, Response, ResponseState, run_application


class FakeSink:
    """Records what is sent; raises ClientDisconnected at the ``fails_at``-th call."""

    def __init__(self, method="GET", *, http_11=True, fails_at=None):
        self.method = method
        self.http_11 = http_11
        self.fails_at = fails_at
        self.data = b""
        # Number of buffers of each call.
        self.calls = []
        self.complete = False
        self.aborted = False
        # Wrong calls. They are recorded because the server would catch an exception.
        self.amiss = []

    def context(self):
        return response_context(
            head_only=self.method == "HEAD",
            http_11=self.http_11,
            keep_alive=True,
            date="",
            server="",
        )

    def send(self, *buffers, last):
        self._check()
        self.calls.append(len(buffers))
        self.data += b"".join(buffers)
        self.complete = last

    def send_file(self, head, part):
        self._check()
        self.calls.append("file")
        with open(part.descriptor, "rb", buffering=0, closefd=False) as file:
            file.seek(part.offset)
            self.data += head + file.read(part.size)
        self.complete = True

    def _check(self):
        if self.complete or self.aborted:
            self.amiss.append("something was sent behind the end")
        if self.fails_at == len(self.calls):
            raise ClientDisconnected("gone")

    def abort(self):
        if self.complete:
            self.amiss.append("a complete response was torn")
        self.aborted = True

    def end_forked_child(self, error):
        """This process is the server's own."""

    def describe(self):
        return f"{self.method} /"

    @property
    def seen(self):
        """What a client receives."""
        return read_response(self.data, self.method, closed=not self.http_11)


class Iterable:
    """Blocks that count how often they are closed."""

    def __init__(self, blocks=(), error=None):
        self.blocks = iter(blocks)
        self.error = error
        self.closed = 0

    def __iter__(self):
        return self.blocks

    def close(self):
        self.closed += 1
        if self.error is not None:
            raise self.error


def run(app, sink=None, environ=None):
    """Run an application; return its response and the sink."""
    sink = sink or FakeSink()
    response, failures = Response(sink), []

    def watched(environ, start_response):
        try:
            return app(environ, start_response)
        except (AssertionError, pytest.fail.Exception) as error:
            # The server would treat it as the application's error.
            failures.append(error)
            raise

    run_application(watched, {} if environ is None else environ, response, sink)
    assert failures == []
    assert sink.amiss == []
    assert sink.complete or sink.aborted
    assert (response.state is ResponseState.COMPLETE) is not (
        response.state is ResponseState.ABORTED
    )
    return response, sink


def answering(blocks, status="200 OK", fields=()):
    """Return an application that answers with ``blocks``."""

    def app(environ, start_response):
        start_response(status, list(fields))
        return blocks

    return app


LENGTH = ("Content-Length", "5")


# Framing


@pytest.mark.parametrize(
    ("blocks", "fields", "framing", "calls"),
    [
        ([b"hello"], [], "content-length", [1]),
        ((b"hel", b"lo"), [], "content-length", [1]),
        ([b"hel", b"", b"lo"], [LENGTH], "content-length", [1]),
        (iter([b"hello"]), [], "transfer-encoding", [1, 1]),
        (iter([b"", b"hel", b"", b"lo"]), [], "transfer-encoding", [1, 1, 1]),
        (iter([b"hello"]), [LENGTH], "content-length", [1]),
        (iter([b"hel", b"lo"]), [LENGTH], "content-length", [1, 1]),
    ],
)
def test_a_body_is_framed_and_sent_as_it_comes(blocks, fields, framing, calls):
    """A list is sent at once with its length; an iterator is sent block by block."""
    response, sink = run(answering(blocks, fields=fields))
    assert sink.seen.whole
    assert sink.seen.body == b"hello"
    assert framing in sink.seen.fields
    assert sink.calls == calls
    assert response.body_bytes == 5
    assert response.status == 200
    assert response.begun
    assert response.keep_alive


@pytest.mark.parametrize("blocks", [[], (), [b""], iter([]), iter([b"", b""]), ""])
def test_an_empty_body_has_a_length_of_nothing(blocks):
    """Without any bytes the head is sent, in one call."""
    _, sink = run(answering(blocks))
    assert sink.seen.whole
    assert sink.seen.fields["content-length"] == "0"
    assert sink.calls == [1]


@pytest.mark.parametrize("size", [COPY_BELOW - 100, COPY_BELOW, COPY_BELOW * 3])
@pytest.mark.parametrize("promised", [False, True])
@pytest.mark.parametrize("http_11", [False, True])
def test_large_blocks_are_not_copied(size, promised, http_11):
    """From `COPY_BELOW` on, head, block and framing are separate buffers, none of them empty."""
    block = b"x" * size
    fields = [("Content-Length", str(size * 3))] if promised else []
    response, sink = run(answering(iter([block] * 3), fields=fields), FakeSink(http_11=http_11))
    assert sink.seen.body == block * 3
    assert response.body_bytes == size * 3
    large = size >= COPY_BELOW
    if not promised and http_11:
        assert sink.calls[:3] == ([4, 3, 3] if large else [1, 1, 1])
    else:
        assert sink.calls[:3] == [2 if large else 1, 1, 1]
    _, sink = run(answering([block]))
    assert sink.calls == [2 if large else 1]


@pytest.mark.parametrize("blocks", [[b"hello"], iter([b"hello"]), iter([b"hel", b"lo"]), []])
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 None"), ("GET", "304 Same")]
)
def test_a_response_without_a_body_has_none(blocks, method, status):
    """HEAD, 204 and 304: blocks are dropped, and at most one is requested."""
    iterable = Iterable(blocks)
    response, sink = run(answering(iterable, status), FakeSink(method))
    assert sink.seen.whole
    assert sink.seen.body == b""
    assert sink.data.endswith(b"\r\n\r\n")
    assert len(sink.calls) == 1
    assert response.body_bytes == 0
    assert iterable.closed == 1
    assert len(list(iterable)) <= 1


def test_an_iterable_whose_blocks_go_nowhere_is_not_read_on():
    """A response to HEAD ends with the head, even if the application could continue."""
    blocks = iter([b"a", b"b", b"c"])
    assert run(answering(blocks), FakeSink("HEAD"))[1].complete
    assert list(blocks) == [b"b", b"c"]


def test_http_1_0_ends_with_the_connection():
    """A client of HTTP/1.0 gets no chunks."""
    response, sink = run(answering(iter([b"hel", b"lo"])), FakeSink(http_11=False))
    assert sink.data.endswith(b"Connection: close\r\n\r\nhello")
    assert not response.keep_alive
    _, sink = run(answering([b"hello"]), FakeSink(http_11=False))
    assert sink.data.endswith(b"Content-Length: 5\r\nConnection: keep-alive\r\n\r\nhello")


# start_response


def test_the_head_waits_for_the_first_block():
    """Nothing is sent by start_response, nor for an empty block (PEP 3333)."""
    sent = []

    def app(environ, start_response):
        start_response("200 OK", [])
        sent.append(list(sink.calls))
        yield b""
        sent.append(list(sink.calls))
        yield b"x"
        sent.append(list(sink.calls))

    sink = FakeSink()
    run(app, sink)
    assert sent == [[], [], [1]]


def test_a_generator_may_start_its_response_late():
    """start_response() may be called while the first block is produced."""

    def app(environ, start_response):
        start_response("201 Created", [])
        yield b"x"

    assert run(app)[1].seen.status == 201


def raise_and_catch():
    try:
        raise KeyError("first")
    except KeyError:
        return sys.exc_info()


def test_a_second_start_response_with_exc_info_replaces_the_first():
    """Before the head is sent, an error page replaces the response."""

    def app(environ, start_response):
        start_response("200 OK", [LENGTH])
        start_response("500 Oh", [("X-Error", "yes")], raise_and_catch())
        return [b"error"]

    response, sink = run(app)
    assert sink.seen.status == 500
    assert sink.seen.fields["x-error"] == "yes"
    assert response.fields == [("X-Error", "yes")]


def test_exc_info_is_no_error_at_first():
    """A first call may pass exc_info."""

    def app(environ, start_response):
        start_response("500 Oh", [], raise_and_catch())
        return [b"error"]

    assert run(app)[1].seen.body == b"error"


def test_exc_info_is_raised_again_once_the_head_is_sent(caplog):
    """After the head, the application's error aborts the response."""

    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"begun")
        start_response("500 Oh", [], raise_and_catch())
        return [b"never"]

    _, sink = run(app)
    assert sink.aborted
    assert "KeyError: 'first'" in caplog.text
    assert not sink.seen.whole


def test_exc_info_is_raised_again_after_the_end(caplog):
    """After a complete response, the error is logged and the response stays complete."""

    def app(environ, start_response):
        write = start_response("200 OK", [LENGTH])
        write(b"hello")
        start_response("500 Oh", [], raise_and_catch())

    _, sink = run(app)
    assert sink.seen.whole
    assert sink.complete
    assert "KeyError: 'first'" in caplog.text


@pytest.mark.parametrize("when", ["started", "sending", "complete"])
def test_a_second_start_response_without_exc_info_is_an_error(when, caplog):
    """A second call without exc_info is an error in every state but NEW."""

    def app(environ, start_response):
        write = start_response("200 OK", [LENGTH])
        if when != "started":
            write(b"hello" if when == "complete" else b"he")
        start_response("200 OK", [])
        return []

    _, sink = run(app)
    assert "start_response was called again without exc_info" in caplog.text
    assert sink.aborted is (when == "sending")
    assert sink.seen.status == (500 if when == "started" else 200)


def test_a_failed_start_response_can_be_repaired():
    """A refused call has no effect."""

    def app(environ, start_response):
        with pytest.raises(ApplicationError):
            start_response("2000 OK", [])
        start_response("200 OK", [])
        with pytest.raises(ApplicationError):
            start_response("500 Oh", [("X", "\n")], raise_and_catch())
        return [b"x"]

    assert run(app)[1].seen.status == 200


# write()


def test_write_sends_at_once_and_before_the_iterable():
    """write() and the iterable can be combined, in order."""

    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        write(b"")
        write(b"b")
        assert sink.data.endswith(b"1\r\na\r\n1\r\nb\r\n")
        return [b"c"]

    sink = FakeSink()
    run(app, sink)
    assert sink.seen.body == b"abc"


@pytest.mark.parametrize("rest", [[], [b""], iter([])])
def test_write_may_be_all(rest):
    """An iterable that adds nothing ends the response."""

    def app(environ, start_response):
        start_response("200 OK", [])(b"all")
        return rest

    assert run(app)[1].seen.body == b"all"


def test_write_can_complete_what_was_promised():
    """The response is complete with its last byte, before the application has returned."""

    def app(environ, start_response):
        write = start_response("200 OK", [LENGTH])
        write(b"he")
        write(b"llo")
        assert sink.complete
        with pytest.raises(ApplicationError, match="longer"):
            write(b"more")
        return []

    sink = FakeSink()
    run(app, sink)
    assert sink.seen.body == b"hello"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_write_after_the_end_is_nothing(method):
    """A write() that is called after the response sends nothing."""
    kept = []

    def app(environ, start_response):
        kept.append(start_response("200 OK", []))
        return iter([b"x"])

    _, sink = run(app, FakeSink(method))
    kept[0](b"late")
    assert b"late" not in sink.data


# Lengths that are not kept


@pytest.mark.parametrize(
    "blocks", [[b"hello world"], iter([b"hello world"]), iter([b"hel", b"low"])]
)
def test_a_body_that_is_too_long_is_cut_and_logged(blocks, caplog):
    """Exactly Content-Length bytes are sent, and the excess is the application's error."""
    response, sink = run(answering(blocks, fields=[LENGTH]))
    assert sink.seen.whole
    assert sink.seen.body == b"hello"
    assert response.body_bytes == 5
    assert "longer than its Content-Length" in caplog.text


@pytest.mark.parametrize("blocks", [[b"hello"], iter([b"hello"]), iter([b"he", b"", b"llo", b""])])
def test_a_length_that_is_kept_is_no_error(blocks, caplog):
    """A body of the exact length, in one block or several, is not logged."""
    _, sink = run(answering(blocks, fields=[LENGTH]))
    assert sink.seen.whole
    assert sink.seen.body == b"hello"
    assert caplog.records == []


def test_a_body_where_none_was_promised_is_cut(caplog):
    """Content-Length 0 is a length too."""
    _, sink = run(answering(iter([b"x"]), fields=[("Content-Length", "0")]))
    assert sink.seen.whole
    assert sink.seen.body == b""
    assert "longer than its Content-Length" in caplog.text


def test_a_body_known_to_be_too_short_is_a_500(caplog):
    """If nothing has been sent, the client gets a 500."""
    _, sink = run(answering([b"hi"], fields=[LENGTH]))
    assert sink.seen.status == 500
    assert "3 bytes shorter than its Content-Length" in caplog.text


def test_a_body_found_to_be_too_short_is_torn(caplog):
    """The connection is closed: the client neither waits for the rest nor takes it for complete."""
    response, sink = run(answering(iter([b"he", b"l"]), fields=[LENGTH]))
    assert sink.aborted
    assert response.state is ResponseState.ABORTED
    assert "2 bytes shorter than its Content-Length" in caplog.text


def test_an_empty_iterator_of_a_promised_body_is_a_500():
    """A missing body is noticed before the head is sent."""
    assert run(answering(iter([]), fields=[LENGTH]))[1].seen.status == 500


# Whatever an application does


class Hostile:
    """An object whose attribute close raises."""

    def __iter__(self):
        return iter([b"x"])

    @property
    def close(self):
        raise KeyError("close")


MISBEHAVIOURS = {
    "no start_response": (lambda environ, start_response: [b"x"], 500),
    "no start_response, empty": (lambda environ, start_response: [], 500),
    "None": (answering(None), 500),
    "a number": (answering(5), 500),
    "a str": (answering("abc"), 500),
    "bytes": (answering(b"abc"), 500),
    "a str block": (answering(["abc"]), 500),
    "a str block later": (answering([b"x", "abc"]), 500),
    "None as a block": (answering([None]), 500),
    "a bytearray": (answering(iter([bytearray(b"x")])), 500),
    "a status too long": (answering([b"x"], "2000 OK"), 500),
    "a status in bytes": (answering([b"x"], b"200 OK"), 500),
    "a field that splits": (answering([b"x"], fields=[("X", "a\r\nb: c")]), 500),
    "a hop-by-hop field": (answering([b"x"], fields=[("Upgrade", "h2c")]), 500),
    "no application": (None, 500),
    "wrong arguments": (lambda: None, 500),
    "hostile close": (answering(Hostile()), 200),
    "str in the stream": (answering(iter([b"x", "y"])), None),
}


def test_hop_by_hop_fields_are_left_out_with_one_warning_for_each_name(monkeypatch, caplog):
    """The server leaves the application's hop-by-hop fields out, and says so once."""
    monkeypatch.setattr(handler, "_warned", set())
    app = answering([b"x"], fields=[("Connection", "keep-alive"), ("TE", "trailers"), ("A", "b")])
    for _ in range(2):
        response, sink = run(app)
        assert sink.seen.status == 200
        assert response.keep_alive
        assert sink.seen.fields.get("a") == "b"
        assert not {"connection", "te"} & set(sink.seen.fields)
    assert [record.getMessage() for record in caplog.records] == [
        f"the application sends {name}, which only the server may send (PEP 3333); left out"
        for name in ("connection", "te")
    ]


def test_an_application_may_close_the_connection():
    """``Connection: close`` closes the connection after the response."""
    response, sink = run(answering([b"x"], fields=[("Connection", "Close")]))
    assert sink.seen.whole
    assert not response.keep_alive
    assert sink.seen.fields["connection"] == "close"


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_misbehaviour_is_logged_and_answered(name, caplog):
    """A 500 if nothing was sent, an aborted connection otherwise, and a traceback."""
    app, status = MISBEHAVIOURS[name]
    _, sink = run(app)
    assert sink.aborted is (status is None)
    if status is not None:
        assert sink.seen.whole
        assert sink.seen.status == status
    (record,) = caplog.records
    assert record.getMessage() == "error in GET /"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


ERRORS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, StopIteration]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["call", "first block", "later", "close", "after the end"])
def test_no_exception_leaves(error, where, caplog):
    """Any exception anywhere is logged, and answered or aborted; close() runs once."""

    class Raising(Iterable):
        def __iter__(self):
            if where == "first block":
                raise error("here")
            yield b"hello"
            if where in ("later", "after the end"):
                raise error("here")

    iterable = Raising(error=error("here") if where == "close" else None)

    def app(environ, start_response):
        start_response("200 OK", [LENGTH] if where == "after the end" else [])
        if where == "call":
            raise error("here")
        return iterable

    _, sink = run(app)
    assert iterable.closed == (where != "call")
    assert sink.aborted is (where == "later")
    if where != "later":
        assert sink.seen.whole
        assert sink.seen.status == (500 if where in ("call", "first block") else 200)
    assert len(caplog.records) == 1


def test_the_error_page_is_counted_and_has_no_fields_of_the_applications():
    """The access log has what was sent."""

    def app(environ, start_response):
        start_response("200 OK", [("X-Secret", "1")])
        raise ValueError

    response, sink = run(app)
    assert "x-secret" not in sink.seen.fields
    assert response.fields == ()
    assert response.body_bytes == len(sink.seen.body) > 0
    response, sink = run(app, FakeSink("HEAD"))
    assert response.body_bytes == 0
    assert sink.seen.whole


@pytest.mark.parametrize(("status", "detail"), [(400, "malformed"), (413, "large"), (408, "slow")])
def test_a_body_that_cannot_be_read_is_the_clients_fault(status, detail, caplog):
    """An application that does not catch the error answers with its status, without a traceback."""

    def app(environ, start_response):
        raise RequestBodyError(status, detail)

    with caplog.at_level(logging.INFO):
        _, sink = run(app)
    assert sink.seen.status == status
    assert detail.encode() in sink.seen.body
    assert caplog.records[-1].levelno == logging.INFO


@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_went_is_no_error(begun, caplog):
    """ClientDisconnected from wsgi.input is not logged; the response is aborted."""

    def app(environ, start_response):
        write = start_response("200 OK", [])
        if begun:
            write(b"x")
        raise ClientDisconnected("gone")

    with caplog.at_level(logging.INFO):
        _, sink = run(app)
    assert sink.aborted
    assert not caplog.records


def test_a_client_that_goes_after_the_end_is_nothing():
    """A complete response stays complete."""

    def app(environ, start_response):
        start_response("200 OK", [])(b"x")
        return Iterable(error=ClientDisconnected("gone"))

    _, sink = run(app)
    assert sink.complete
    assert not sink.aborted


@pytest.mark.parametrize("fails_at", [0, 1, 2])
@pytest.mark.parametrize("generator", [False, True])
def test_a_client_that_goes_ends_the_iteration(fails_at, generator):
    """close() runs once, and ends a generator at its yield."""
    stopped = []

    def blocks():
        try:
            for _ in range(5):
                yield b"x"
        finally:
            stopped.append(True)

    made = blocks()
    iterable = made if generator else Iterable(made)
    sink = FakeSink(fails_at=fails_at)
    run_application(answering(iterable), {}, Response(sink), sink)
    assert len(sink.calls) == fails_at
    assert not sink.complete
    made.close()
    assert stopped == [True]
    if not generator:
        assert iterable.closed == 1


def test_a_client_that_goes_before_the_error_page_is_nothing(caplog):
    """An error page that cannot be sent is not logged as an error."""
    sink = FakeSink(fails_at=0)
    run_application(None, {}, Response(sink), sink)
    assert len(caplog.records) == 1


# Files


@pytest.fixture
def path(tmp_path):
    """A file of ten bytes."""
    made = tmp_path / "file"
    made.write_bytes(b"0123456789")
    return made


@pytest.mark.parametrize("length", [None, "10", "4", "1", "0"])
@pytest.mark.parametrize("offset", [0, 3])
def test_a_plain_file_is_sent_by_the_kernel(path, length, offset):
    """A file is sent from its position, up to its Content-Length."""
    if offset and length == "10":
        length = "7"
    fields = [] if length is None else [("Content-Length", length)]
    file = path.open("rb")
    file.seek(offset)
    response, sink = run(answering(FileWrapper(file), fields=fields))
    size = int(fields[0][1]) if fields else 10 - offset
    assert sink.calls == ["file"]
    assert sink.seen.body == b"0123456789"[offset : offset + size]
    assert sink.seen.fields["content-length"] == str(size)
    assert response.body_bytes == size
    assert response.state is ResponseState.COMPLETE
    assert file.closed


def test_a_file_shorter_than_promised_is_a_500(path):
    """A file shorter than its Content-Length is answered 500, because nothing has been sent."""
    file = path.open("rb")
    _, sink = run(answering(FileWrapper(file), fields=[("Content-Length", "11")]))
    assert sink.seen.status == 500
    assert file.closed


def test_a_file_for_head_sends_its_length_alone(path):
    """For HEAD the length is sent, and no byte of the file."""
    response, sink = run(answering(FileWrapper(path.open("rb"))), FakeSink("HEAD"))
    assert sink.seen.whole
    assert sink.seen.fields["content-length"] == "10"
    assert sink.seen.body == b""
    assert response.body_bytes == 0


def test_a_file_behind_written_blocks_is_read(path):
    """After write(), a file is sent like any other iterable."""

    def app(environ, start_response):
        start_response("200 OK", [])(b"before ")
        return FileWrapper(path.open("rb"), 4)

    _, sink = run(app)
    assert sink.seen.body == b"before 0123456789"
    assert "file" not in sink.calls


def test_a_file_that_is_none_is_read():
    """Any object with a read method can be wrapped."""

    blocks = [b"", b"cd", b"ab"]

    class Reader:
        def read(self, size):
            return blocks.pop()

    _, sink = run(answering(FileWrapper(Reader())))
    assert sink.seen.body == b"abcd"


def test_an_iterable_that_begun_is_none_of_the_kernels(path):
    """send_file refuses once the body has begun."""
    sink = FakeSink()
    response = Response(sink)
    response.start_response("200 OK", [])
    response.write(b"x")
    assert response.send_file(None) is False


# Any sequence of anything

steps = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.sampled_from(["200 OK", "204 No", "404 No", "2000"])),
        st.tuples(st.just("restart"), st.sampled_from(["500 Oh", "bad"])),
        st.tuples(st.just("write"), st.sampled_from([b"", b"a", b"bcd", "str", b"x" * 40_000])),
        st.tuples(st.just("raise"), st.sampled_from([ValueError, SystemExit])),
    ),
    max_size=5,
)
bodies = st.lists(st.sampled_from([b"", b"a", b"bcd", "str", None, b"x" * 40_000]), max_size=4)
lengths = st.sampled_from([None, 0, 1, 4, 40_004])


@given(
    steps,
    bodies,
    st.sampled_from(["list", "generator", "object", "none"]),
    lengths,
    st.sampled_from(["GET", "HEAD"]),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 4)),
    st.booleans(),
)
def test_any_sequence_gives_a_whole_response_or_a_torn_one(
    calls, blocks, kind, length, method, http_11, fails_at, close_raises
):
    """h11's client reads a complete response, or the connection was visibly aborted."""
    iterable = Iterable(blocks, ValueError("close") if close_raises else None)
    given_back = {"list": blocks, "generator": iter(blocks), "object": iterable, "none": None}
    fields = [] if length is None else [("Content-Length", str(length))]
    returned = []

    def app(environ, start_response):
        write = None
        for name, argument in calls:
            if name == "start":
                write = start_response(argument, fields)
            elif name == "restart":
                write = start_response(argument, [], raise_and_catch())
            elif name == "raise":
                raise argument
            elif write is not None:
                write(argument)
        returned.append(True)
        return given_back[kind]

    sink = FakeSink(method, http_11=http_11, fails_at=fails_at)
    response = Response(sink)
    logging.disable()
    try:
        run_application(app, {}, response, sink)
    finally:
        logging.disable(logging.NOTSET)
    assert sink.amiss == []
    assert iterable.closed == (kind == "object" and bool(returned))
    gone = fails_at is not None and len(sink.calls) == fails_at
    if sink.complete:
        seen = sink.seen
        assert seen.whole
        assert seen.status == response.status
        if response.status != 500:
            assert len(seen.body) == response.body_bytes
    else:
        assert sink.aborted or gone
        if response.begun and response.framing.value in ("chunked", "length"):
            client = read_response(sink.data, method)
            assert not client.whole


def test_what_h11_finds_incomplete_is_incomplete():
    """The check recognises half of a chunked body as incomplete."""
    assert not read_response(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    ).whole
    with pytest.raises(h11.RemoteProtocolError):
        read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", closed=True)


# Threads of the application


class MeetingSink(FakeSink):
    """Has another thread call write() while the first one is in ``method``."""

    def __init__(self, method):
        super().__init__()
        self.meeting = method
        self.errors = []
        self.other = None

    def meet(self, method):
        if method == self.meeting and self.other is not None:
            write, self.other = self.other, None
            thread = Thread(target=self.attempt, args=(write,))
            thread.start()
            thread.join(PATIENCE)

    def attempt(self, write):
        try:
            write(b"other")
        except ApplicationError as error:
            self.errors.append(str(error))

    def context(self):
        self.meet("context")
        return super().context()

    def send(self, *buffers, last):
        self.meet("send")
        super().send(*buffers, last=last)


@pytest.mark.parametrize("method", ["context", "send"])
@pytest.mark.parametrize("way", ["write", "list", "iterable"])
def test_two_threads_that_send_at_once_make_one_message(method, way):
    """While one thread makes or sends a block, write() in another is an error and sends nothing."""
    sink = MeetingSink(method)

    def app(environ, start_response):
        sink.other = write = start_response("200 OK", [("Content-Length", "5")])
        if way == "write":
            write(b"first")
            return []
        return [b"first"] if way == "list" else iter((b"first",))

    run(app, sink)
    assert len(sink.errors) == 1
    assert "another thread" in sink.errors[0]
    assert sink.seen.body == b"first"
    assert sink.data.count(b"HTTP/1.1") == 1
    assert sink.seen.whole


def test_an_error_while_another_thread_sends_tears_the_response():
    """There can be no error page in the middle of a message."""
    sink = MeetingSink("context")
    response = Response(sink)
    response.start_response("200 OK", [])
    sink.other = lambda block: response.fail(ValueError("other"))
    response.write(b"first")
    assert sink.aborted
