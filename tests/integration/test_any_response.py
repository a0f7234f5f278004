"""Whatever application and kernel do: whole responses, or a torn connection.

The whole stack but for the parser takes part, from a connection to a kernel that fails. Two client
libraries judge what came out; neither had a part in making it.
"""

from __future__ import annotations

import errno
import logging
import sys

import h11
import httptools
import pytest
from fake_kernel import SHORT, Kernel, Scene
from hypothesis import event, given, settings
from hypothesis import strategies as st

from aiowsgi.wsgi.handler import ResponseState

pytestmark = pytest.mark.slow("soak")

# Requests and applications

REQUESTS = {
    ("GET", "1.1"): b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ("HEAD", "1.1"): b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
    ("GET", "1.0"): b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}

BLOCKS = st.sampled_from(
    [b"", b"a", b"bcd", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 40_000, "str", None]
)
FIELDS = st.sampled_from(
    [
        [],
        [("Content-Length", "0")],
        [("Content-Length", "1")],
        [("Content-Length", "4")],
        [("Content-Type", "text/html"), ("X", "é")],
        [("X", "a\r\nb")],
        [("Connection", "close")],
        [("Transfer-Encoding", "chunked")],
    ]
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.sampled_from(["200 OK", "204 No", "304 No", "99"]), FIELDS),
        st.tuples(st.just("restart"), st.just("503 Oh"), FIELDS),
        st.tuples(st.just("write"), BLOCKS, st.none()),
        st.tuples(st.just("raise"), st.sampled_from([ValueError, SystemExit]), st.none()),
    ),
    max_size=4,
)


class Blocks:
    """Given back by the application: a class, a generator or a list may hold the blocks."""

    def __init__(self, blocks, error):
        self.blocks, self.error = blocks, error
        self.closes = 0

    def __iter__(self):
        return iter(self.blocks)

    def close(self):
        self.closes += 1
        if self.error is not None:
            raise self.error


class Application:
    """Does what it is told, for the n-th request what the n-th script says."""

    def __init__(self, scripts):
        self._scripts = iter(scripts)
        self.given_back = []

    def __call__(self, environ, start_response):
        steps, blocks, kind, close_error = next(self._scripts)
        write = None
        for name, argument, fields in steps:
            if name == "start":
                write = start_response(argument, fields)
            elif name == "restart":
                try:
                    raise ValueError
                except ValueError:
                    write = start_response(argument, fields, sys.exc_info())
            elif name == "raise":
                raise argument
            elif write is not None:
                write(argument)
        if kind == "list":
            return blocks
        if kind == "generator":
            return (block for block in blocks)
        self.given_back.append(Blocks(blocks, close_error))
        return self.given_back[-1]


SCRIPTS = st.tuples(
    st.one_of(STEPS, STEPS.map(lambda steps: [("start", "200 OK", []), *steps])),
    st.lists(BLOCKS, max_size=4),
    st.sampled_from(["list", "generator", "object"]),
    st.sampled_from([None, None, OSError("close")]),
)
# Of each call in turn, behind those that set the connection up; None for a success.
SLOW = [None, None, SHORT, errno.EAGAIN]
BROKEN = [*SLOW, errno.ENOBUFS, errno.ECONNRESET, errno.EPIPE]
FAILURES = st.one_of(
    st.lists(st.sampled_from(SLOW), min_size=8, max_size=30),
    st.lists(st.sampled_from(BROKEN), max_size=12),
).map(lambda failures: {k: failure for k, failure in enumerate(failures, 2) if failure})


# Judges


def by_h11(data, methods, *, ended):
    """Status and body of each whole response; raises h11.RemoteProtocolError for nonsense."""
    client = h11.Connection(h11.CLIENT)
    if data:
        client.receive_data(data)
    if ended:
        client.receive_data(b"")
    responses = []
    for method in methods:
        client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        status, body = 0, b""
        while (found := client.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(found, h11.Response):
                status = found.status_code
            elif isinstance(found, h11.Data):
                body += bytes(found.data)
            elif isinstance(found, h11.EndOfMessage):
                responses.append((status, body))
                break
            else:
                return responses
        if client.our_state is not h11.DONE or client.their_state is not h11.DONE:
            return responses
        client.start_next_cycle()
    return responses


class _Recorder:
    """Takes what httptools calls back with."""

    def __init__(self):
        self.parser = httptools.HttpResponseParser(self)
        self.body, self.responses = b"", []

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.responses.append((self.parser.get_status_code(), self.body))
        self.body = b""


def by_httptools(data):
    """The same; it cannot be told of HEAD, nor that a body ends with the connection."""
    recorder = _Recorder()
    recorder.parser.feed_data(data)
    return recorder.responses


# The law


@settings(deadline=None, derandomize=True, max_examples=400)
@given(
    asked=st.lists(st.sampled_from(list(REQUESTS)), min_size=1, max_size=3),
    scripts=st.lists(SCRIPTS, min_size=3, max_size=3),
    failures=FAILURES,
    at_once=st.booleans(),
    pipelined=st.booleans(),
)
def test_whole_responses_or_a_torn_connection(asked, scripts, failures, at_once, pipelined):
    """A client that sees a response end sees what the application has ended, and nothing else."""
    app, kernel = Application(scripts), Kernel(failures)
    scene = Scene(app, kernel, at_once=at_once)
    pieces = [REQUESTS[each] for each in asked]
    logging.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            kernel.patch(patch)
            scene.play([b"".join(pieces)] if pipelined else pieces)
    finally:
        logging.disable(logging.NOTSET)
    assert scene.transport.lost
    assert all(each.closes == 1 for each in app.given_back)
    torn = kernel.reset or bool(kernel.errors)
    event(f"torn: {torn}, responses: {len(scene.finished)}")
    methods = [method for method, _ in asked]
    whole = by_h11(scene.taken, methods, ended=not torn)
    states = [response.state for response in scene.finished]
    assert all(state is ResponseState.COMPLETE for state in states[: len(whole)])
    if not torn:
        assert [status for status, _ in whole] == [each.status for each in scene.finished]
        assert len(whole) == len(asked) or not scene.finished[-1].keep_alive
    for response, (status, body) in zip(scene.finished, whole, strict=False):
        assert status == response.status
        assert len(body) in (response.body_bytes, 0)
    if "HEAD" not in methods:
        alike = by_httptools(scene.taken)
        assert whole[: len(alike)] == alike
        assert len(alike) >= len(whole) - 1
