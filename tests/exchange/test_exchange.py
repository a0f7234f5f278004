"""A request and its response on a worker thread, over writers that fail wherever they can."""

from __future__ import annotations

import errno
import io
import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from fake_kernel import context_for
from outputs import drain
from support import PATIENCE, FakeWriter, Signal, no_descriptor_leaks, read_response

from aiowsgi.exceptions import ClientDisconnected, RequestBodyError
from aiowsgi.exchange import interrupts
from aiowsgi.exchange.exchange import Exchange
from aiowsgi.exchange.output import DrainResult, OutputState, ResponseOutput
from aiowsgi.exchange.output_buffer import OutputLimits
from aiowsgi.exchange.request_body import StreamedBody, open_stream
from aiowsgi.http1.messages import CHUNKED, Request
from aiowsgi.wsgi.environ import ConnectionInfo, EnvironBuilder

PEER = ConnectionInfo("127.0.0.1", "1234", "localhost", "80", "http")


def request(method="GET", *, version="HTTP/1.1", length=0, keep_alive=True, expects=False):
    """A request's head."""
    return Request(
        method, "/a?b", "/a", "b", "x", version, [(b"Host", b"x")], length, keep_alive, expects
    )


class Scene:
    """An exchange on an output, and what becomes of it."""

    def __init__(self, app, asked=None, writer=None, *, limits=None, notify=False):
        self.service = context_for(app)
        self.reported = []
        self.service.finished = lambda *facts: self.reported.append(facts)
        self.writer = writer or FakeWriter()
        self.wake = Signal()
        self.output = ResponseOutput(self.writer, self.wake, limits or OutputLimits())
        environ = EnvironBuilder(self.service.environ, PEER)
        self.exchange = Exchange(self.service, self.output, environ, asked or request(), 1.0)
        self.output.assign(self.exchange, notify=notify)

    def run(self):
        """Run it; returns the bytes sent."""
        self.exchange.run()
        return self.writer.taken


def read_back(data):
    """Status and body, as h11's client side reads them."""
    seen = read_response(data)
    assert seen.whole
    return seen.status, seen.body


class Closing:
    """An iterable that counts how often it is closed."""

    def __init__(self, blocks):
        self.blocks = iter(blocks)
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        self.closed += 1


def test_an_exchange_answers_and_reports():
    """The response is sent, the times are noted, and who wants to know is told once."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    scene = Scene(app)
    assert read_back(scene.run()) == (200, b"/a")
    ((record, response, environ),) = scene.reported
    assert record is scene.exchange.record
    assert record.status == response.status == 200
    assert record.response_bytes == 2
    assert environ["REQUEST_URI"] == "/a?b"
    assert record.client == ("127.0.0.1", 1234)
    assert 1.0 < record.queued_at <= record.started_at <= record.finished_at
    assert scene.writer.calls == ["send"]
    assert scene.wake.count == 0


def test_a_context_variable_ends_with_its_request():
    """Each request runs in a context of its own, from the call to close()."""
    variable, seen = ContextVar("variable", default="unset"), []

    class Body:
        def __iter__(self):
            seen.append(variable.get())
            return iter([b"x"])

        def close(self):
            seen.append(variable.get())

    def app(environ, start_response):
        seen.append(variable.get())
        variable.set("set")
        start_response("200 OK", [])
        return Body()

    for _ in range(2):
        assert read_back(Scene(app).run()) == (200, b"x")
    assert seen == ["unset", "set", "set"] * 2
    assert variable.get() == "unset"


def test_an_interruptible_request_is_answered_and_forgotten():
    """With --interrupt-detached everything is as without, and the thread is free afterwards."""

    def app(environ, start_response):
        start_response("200 OK", [])
        print("a line", file=environ["wsgi.errors"])
        yield environ["wsgi.input"].read() or b"body"

    scene = Scene(app)
    scene.service.interruptible = True
    assert read_back(scene.run()) == (200, b"body")
    assert not interrupts._sections


def test_nobody_waits_for_an_exchange_that_was_given_up():
    """A thread that comes too late does nothing, and frees the body."""
    scene = Scene(lambda environ, start_response: pytest.fail("called"))
    stream = io.BytesIO()
    scene.exchange.set_body(stream, 0)
    assert scene.output.cancel(scene.exchange, only_queued=True)
    assert scene.run() == b""
    assert stream.closed
    assert not scene.reported


def test_giving_up_without_a_body_is_nothing():
    """A request that has none holds none: nothing is sent, and nobody is told."""
    scene = Scene(lambda environ, start_response: pytest.fail("called"))
    assert scene.output.cancel(scene.exchange, only_queued=True)
    scene.exchange.release_body()
    assert scene.run() == b""
    assert not scene.reported


@pytest.mark.parametrize("outcome", ["good", "bad"])
def test_a_spooled_body_is_closed_with_its_exchange(outcome):
    """The temporary file does not wait for the garbage collector, whatever the application did."""

    def app(environ, start_response):
        if outcome == "bad":
            raise ValueError
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    with no_descriptor_leaks():
        scene = Scene(app, request("POST", length=4))
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the exchange closes it
        file.write(b"body")
        file.seek(0)
        scene.exchange.set_body(file, 4)
        scene.run()
        assert file.closed


# What the application may do to the server


def test_a_line_that_was_not_finished_is_logged_with_its_request(caplog):
    """wsgi.errors is flushed after each request: the next one's line is not joined to it."""

    def app(environ, start_response):
        environ["wsgi.errors"].write("half a line")
        environ["wsgi.errors"] = None
        start_response("200 OK", [])
        return [b""]

    Scene(app).run()
    assert [record.getMessage() for record in caplog.records] == ["half a line"]


def test_a_report_that_fails_is_logged_and_nothing_else(caplog):
    """The response has been sent; a fault behind it must not tear the connection."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"x"]

    scene = Scene(app)
    scene.service.finished = lambda *facts: 1 / 0
    assert read_back(scene.run()) == (200, b"x")
    assert scene.output.state is not OutputState.BROKEN
    assert "internal error in GET /a?b HTTP/1.1" in caplog.text


@pytest.mark.parametrize("at", ["environ", "sink"])
def test_a_fault_of_the_servers_own_tears_the_connection(monkeypatch, caplog, at):
    """The client must not wait for an answer that never comes."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"x"]

    def fail(*args, **options):
        raise MemoryError

    scene = Scene(app)
    if at == "environ":
        monkeypatch.setattr(EnvironBuilder, "build", fail)
    else:
        monkeypatch.setattr(ResponseOutput, "send", fail)
    scene.run()
    assert scene.output.state is OutputState.BROKEN
    assert scene.wake.count == 1
    assert "MemoryError" in caplog.text


def test_the_page_of_a_500_has_the_identifier_of_its_log_record(caplog):
    """So that a user can tell the operator which traceback is theirs."""

    def app(environ, start_response):
        raise KeyError("application")

    scene = Scene(app)
    status, body = read_back(scene.run())
    (record,) = (each for each in caplog.records if each.levelname == "ERROR")
    assert status == 500
    assert record.request_id == scene.exchange.record.request_id
    assert f"Its identifier is {record.request_id}." in body.decode()


def test_a_log_handler_that_raises_does_not_end_a_response(capsys):
    """The client gets its 500, and the record goes to standard error."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise ValueError("broken handler")

    def app(environ, start_response):
        raise KeyError("application")

    logger, handler = logging.getLogger("aiowsgi"), Broken()
    logger.addHandler(handler)
    scene = Scene(app)
    try:
        status, _ = read_back(scene.run())
    finally:
        logger.removeHandler(handler)
    assert status == 500
    assert scene.output.state is not OutputState.BROKEN
    assert "KeyError: 'application'" in capsys.readouterr().err


# System calls that fail, at every byte of every response


def one_block(environ, start_response):
    start_response("200 OK", [])
    return Closing([b"x" * 40])


def generator(environ, start_response):
    start_response("200 OK", [])
    return Closing(bytes([65 + n]) * n for n in range(8))


def promised(environ, start_response):
    start_response("200 OK", [("Content-Length", "30")])
    return Closing([b"x" * 10, b"y" * 10, b"z" * 10])


def written(environ, start_response):
    write = start_response("200 OK", [])
    write(b"x" * 10)
    write(b"y" * 10)
    return Closing([b"z"])


def hinted(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
    start_response("200 OK", [])
    return Closing([b"x"])


def failing(environ, start_response):
    def blocks():
        yield b"x" * 10
        raise ValueError

    start_response("200 OK", [])
    return Closing(blocks())


APPS = [one_block, generator, promised, written, hinted, failing]


def observed(app):
    """An application that keeps what it returned."""
    returned = []

    def outer(environ, start_response):
        returned.append(app(environ, start_response))
        return returned[-1]

    return outer, returned


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize("code", [errno.ECONNRESET, errno.EPIPE, errno.ENOBUFS])
def test_a_send_that_fails_at_any_byte_closes_the_iterable_once(app, code, caplog):
    """The thread comes back, `close` has run once, and the connection is given up."""
    whole = Scene(app).run()
    with no_descriptor_leaks():
        for k in range(len(whole)):
            seen, returned = observed(app)
            scene = Scene(seen, writer=FakeWriter(k, OSError(code, "gone")))
            scene.run()
            # In write() the application may not have come so far as to return anything.
            assert returned or app in (written, hinted)
            assert all(iterable.closed == 1 for iterable in returned)
            assert drain(scene.output) is DrainResult.BROKEN
            assert whole.startswith(scene.writer.taken)
            assert scene.output.close().owner is scene.exchange
            assert len(scene.reported) == 1


@pytest.mark.parametrize("app", [app for app in APPS if app is not failing])
@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("memory", [0, 10, 1000])
def test_a_writer_that_is_full_at_any_byte_changes_nothing(app, step, memory):
    """The thread comes back as soon as what is left is kept; the same bytes leave in order."""
    whole = Scene(app).run()
    with no_descriptor_leaks():
        for k in range(0, len(whole) + 1, 1 if memory else 7):
            seen, returned = observed(app)
            limits = OutputLimits(memory, 10_000)
            scene = Scene(seen, writer=FakeWriter(k), limits=limits, notify=True)
            scene.run()
            assert [iterable.closed for iterable in returned] == [1]
            while scene.output.in_use():
                scene.writer.space = step
                drain(scene.output)
            assert scene.writer.taken == whole
            assert scene.output.close().owner is None


def test_a_thread_that_waits_for_room_comes_back_when_the_client_goes():
    """With all bounds at nothing, the generator is stopped where it waits, and closed."""
    seen, returned = observed(generator)
    with no_descriptor_leaks(), ThreadPoolExecutor(1) as pool:
        scene = Scene(seen, writer=FakeWriter(100), limits=OutputLimits(0, 0))
        done = pool.submit(scene.run)
        while scene.output._space is None:
            scene.wake.wait()
        scene.output.close()
        scene.exchange.connection_lost()
        done.result(PATIENCE)
        assert returned[0].closed == 1
        assert scene.exchange.disconnected.is_set()


# Interim responses


def test_early_hints_go_before_the_response_and_not_behind_its_head():
    """103 (RFC 8297) is sent at once, to HTTP/1.1 only, and is nothing once the head has left."""

    def app(environ, start_response):
        hint = environ["wsgi.early_hints"]
        hint([("Link", "<a>")])
        write = start_response("200 OK", [])
        hint([("Link", "<b>")])
        write(b"x")
        hint([("Link", "<c>")])
        return []

    data = Scene(app).run()
    assert data.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 103 ")
    assert data.count(b"103 Early Hints") == 2
    assert b"103" not in Scene(app, request(version="HTTP/1.0")).run()


def test_early_hints_after_the_exchange_are_nothing():
    """A callable that is kept does no harm to the next response."""
    kept = []

    def app(environ, start_response):
        kept.append(environ["wsgi.early_hints"])
        start_response("200 OK", [])
        return [b"x"]

    scene = Scene(app)
    data = scene.run()
    kept[0]([("Link", "<a>")])
    assert scene.writer.taken == data


def expecting(app):
    """A scene whose client waits for 100 (Continue)."""
    scene = Scene(app, request("POST", length=3, expects=True))
    streamed = StreamedBody(lambda: None)
    scene.exchange.set_body(open_stream(streamed), 3, streamed)
    return scene, streamed


def test_the_first_read_asks_for_the_body():
    """100 (Continue) is sent when the application first reads (RFC 9110 section 10.1.1)."""

    def app(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body]

    scene, streamed = expecting(app)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(scene.run)
        scene.writer.took.wait()
        assert scene.writer.taken == b"HTTP/1.1 100 Continue\r\n\r\n"
        streamed.feed(b"abc")
        streamed.end()
        data = done.result(PATIENCE)
    assert data.endswith(b"\r\n\r\nabc")
    assert b"connection: close" not in data.lower()


def test_an_answer_without_reading_asks_for_nothing_and_closes():
    """A final status says that the body is not wanted; what may come of it is in the way."""

    def app(environ, start_response):
        start_response("401 Unauthorized", [])
        return [b"no"]

    scene, _ = expecting(app)
    data = scene.run()
    assert data.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"Connection: close\r\n" in data
    assert scene.output.must_close


def test_nothing_is_asked_for_in_the_middle_of_a_response():
    """A read after the head has left must not put a 100 into the body."""

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"begun"
        yield environ["wsgi.input"].read()

    scene, streamed = expecting(app)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(scene.run)
        scene.writer.took.wait()
        streamed.feed(b"abc")
        streamed.end()
        data = done.result(PATIENCE)
    assert b"100 Continue" not in data
    assert read_back(data)[1] == b"begunabc"


# The connection


@pytest.mark.parametrize(
    ("state", "kept"),
    [("whole", True), ("coming", False), ("cut", False), ("complete", True), ("draining", False)],
)
def test_a_connection_outlives_a_response_only_if_its_body_is_out_of_the_way(state, kept):
    """What is left of a body would be taken for the next request."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"x"]

    scene = Scene(app, request("POST", length=CHUNKED))
    if state == "complete":
        scene.exchange.set_body(io.BytesIO(b"abc"), 3)
    elif state == "draining":
        scene.service.draining = True
    else:
        streamed = StreamedBody(lambda: None)
        scene.exchange.set_body(open_stream(streamed), CHUNKED, streamed)
        if state != "coming":
            streamed.end(RequestBodyError(400, "x") if state == "cut" else None)
    data = scene.run()
    assert (b"Connection: close\r\n" not in data) is kept
    assert scene.output.must_close is not kept


def test_an_application_stopped_by_a_client_that_stopped_sending_is_torn():
    """A client closed its sending side in the middle of its body; the output must come free."""

    def app(environ, start_response):
        environ["wsgi.input"].read()

    scene = Scene(app, request("POST", length=10))
    streamed = StreamedBody(lambda: None)
    streamed.end(ClientDisconnected("closed"))
    scene.exchange.set_body(open_stream(streamed), 10, streamed)
    assert scene.run() == b""
    assert scene.output.state is OutputState.BROKEN


def test_a_client_that_goes_is_known_to_the_body_and_the_application():
    """The event is set, and a reader that waits is woken."""
    scene = Scene(None, request("POST", length=10))
    streamed = StreamedBody(lambda: None)
    scene.exchange.set_body(open_stream(streamed), 10, streamed)
    scene.exchange.connection_lost()
    assert scene.exchange.disconnected.is_set()
    with pytest.raises(ClientDisconnected):
        streamed.readall()


def test_a_client_that_closes_is_known_to_the_application_alone():
    """Its response may still be wanted."""
    scene = Scene(None)
    scene.exchange.eof_received()
    assert scene.exchange.disconnected.is_set()


def test_the_request_line_is_printable_in_the_log():
    """Whatever the client sent, a log line stays one."""
    scene = Scene(None, request()._replace(target="/\x1b[0m\xff"))
    assert scene.exchange.describe() == "GET /?[0m? HTTP/1.1"


def test_what_an_operator_wants_to_see_of_a_request_is_in_its_response():
    """X-Request-Id and Server-Timing, where they are wanted."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["aiowsgi.request_id"].encode()]

    scene = Scene(app)
    plain = read_response(scene.run())
    assert not {"x-request-id", "server-timing"} & set(plain.fields)
    for id_wanted, timing_wanted in ((True, False), (False, True)):
        scene = Scene(app)
        scene.service.send_id, scene.service.send_timing = id_wanted, timing_wanted
        fields = read_response(scene.run()).fields
        assert ("x-request-id" in fields, "server-timing" in fields) == (id_wanted, timing_wanted)
    scene = Scene(app)
    scene.service.send_id = scene.service.send_timing = True
    seen = read_response(scene.run())
    assert seen.fields["x-request-id"] == seen.body.decode() != ""
    assert seen.fields["x-request-id"] != plain.body.decode()
    names = [part.strip().partition(";")[0] for part in seen.fields["server-timing"].split(",")]
    assert names == ["read", "queue", "app"]
