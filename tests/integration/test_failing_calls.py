"""Every system call of an exchange fails, one after another, in every way that it can.

Whatever fails: what the client gets is a beginning of what it would have got, and all of it where
the system was merely slow; the application's iterable is closed once; the connection and every
descriptor are given back. Accepting is in ``test_acceptor.py``, the spool in
``bridge/test_outlet.py``.
"""

from __future__ import annotations

import errno

import pytest
from fake_kernel import SHORT, Kernel, Scene
from support import no_descriptor_leaks

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


class Blocks:
    """An iterable that counts how often it is closed."""

    def __init__(self, *blocks):
        self.blocks = blocks
        self.closes = 0

    def __iter__(self):
        return iter(self.blocks)

    def close(self):
        self.closes += 1


def as_list(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]


def as_large_list(environ, start_response):
    start_response("200 OK", [])
    return [b"x" * 50_000]


def as_blocks(environ, start_response):
    start_response("200 OK", [])
    return Blocks(b"a", b"b" * 40_000, b"c")


def with_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "7")])
    return Blocks(b"abc", b"", b"defg")


def by_write(environ, start_response):
    write = start_response("200 OK", [])
    write(b"written")
    return Blocks(b"yielded")


def behind_hints(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</a>")])
    return as_blocks(environ, start_response)


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return Blocks(body, body)


def too_short(environ, start_response):
    start_response("200 OK", [("Content-Length", "7")])
    return Blocks(b"abc")


def raising(environ, start_response):
    start_response("200 OK", [])
    return Blocks(b"abc", None)


def as_file(environ, start_response):
    file = open(__file__, "rb")  # noqa: SIM115 (the server closes it)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](file)


EXCHANGES = {
    "list": (as_list, [GET]),
    "large list": (as_large_list, [GET]),
    "blocks": (as_blocks, [GET]),
    "length": (with_length, [GET]),
    "write": (by_write, [GET]),
    "hints": (behind_hints, [GET]),
    "file": (as_file, [GET]),
    "head in pieces": (as_list, [GET[:9], GET[9:]]),
    "HTTP/1.0": (as_blocks, [b"GET / HTTP/1.0\r\n\r\n"]),
    "close": (as_list, [b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]),
    "kept": (as_list, [GET, GET, GET]),
    "pipelined": (as_blocks, [GET * 3]),
    "files pipelined": (as_file, [GET * 2]),
    "content": (echo, [POST + b"Content-Length: 6\r\n\r\nabc", b"def" + GET]),
    "chunks": (echo, [POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\n"]),
    "expected": (echo, [POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"]),
    "too short": (too_short, [GET]),
    "raising": (raising, [GET]),
    "refused": (as_list, [GET + b"GET / HTTP/1.1\r\n\r\n"]),
    "refused in its content": (echo, [POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\n", b"abcd"]),
}
SLOW = (SHORT, errno.EAGAIN)
BROKEN = (errno.ECONNRESET, errno.EPIPE, errno.EMFILE, errno.ENOBUFS)


def play(name, monkeypatch, failures, *, at_once):
    """One exchange over a kernel that fails; what came of it."""
    app, pieces = EXCHANGES[name]
    calls, given_back = [], []

    def counted(environ, start_response):
        calls.append(environ)
        given_back.append(app(environ, start_response))
        return given_back[-1]

    scene = Scene(counted, Kernel(failures), at_once=at_once)
    with monkeypatch.context() as patch:
        scene.kernel.patch(patch)
        scene.play(pieces)
    assert scene.transport.lost
    assert not scene.state.connections
    assert not scene.loop.writers
    assert len(scene.finished) == len(calls)
    assert all(each.closes == 1 for each in given_back if isinstance(each, Blocks))
    return scene


def assert_same(scene, clean):
    """The client of both got the same, unless the response was torn: that may lose its end."""
    assert scene.kernel.reset is clean.kernel.reset
    if clean.kernel.reset:
        assert clean.taken.startswith(scene.taken)
    else:
        assert scene.taken == clean.taken


@pytest.fixture(autouse=True)
def errors_of_the_applications_are_not_the_matter(caplog):
    """Their tracebacks would be formatted thousands of times."""
    caplog.set_level("CRITICAL", "aiowsgi")


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
@pytest.mark.parametrize("name", EXCHANGES)
def test_a_system_that_is_slow_at_any_call_loses_nothing(name, at_once, monkeypatch):
    """Whichever call has to wait or is cut short, the client gets the same bytes."""
    with no_descriptor_leaks():
        clean = play(name, monkeypatch, {}, at_once=at_once)
        assert clean.taken.startswith(b"HTTP/1.1 ")
        for k in range(len(clean.kernel.calls)):
            for failure in SLOW:
                scene = play(name, monkeypatch, {k: failure}, at_once=at_once)
                assert_same(scene, clean)


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
@pytest.mark.parametrize("name", EXCHANGES)
def test_a_system_that_fails_at_any_call_breaks_one_connection(name, at_once, monkeypatch):
    """Whichever call fails, the client gets no byte that it would not have got otherwise."""
    with no_descriptor_leaks():
        clean = play(name, monkeypatch, {}, at_once=at_once)
        for k in range(len(clean.kernel.calls)):
            for failure in BROKEN:
                scene = play(name, monkeypatch, {k: failure}, at_once=at_once)
                assert clean.taken.startswith(scene.taken)
                if scene.taken != clean.taken and scene.kernel.can_reset:
                    # Else a body that only the end of the connection ends would look whole.
                    assert scene.kernel.reset or not scene.taken or clean.kernel.calls[k] == "recv"


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_kernel_that_takes_a_byte_at_a_time_loses_nothing(name, monkeypatch):
    """Cut short at every second call, and made to wait at every other."""
    clean = play(name, monkeypatch, {}, at_once=False)
    failures = {k: SLOW[k % 2] for k in range(clean.kernel.calls.index("recv"), 600)}
    assert_same(play(name, monkeypatch, failures, at_once=False), clean)
