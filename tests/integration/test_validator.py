"""wsgiref.validate between applications and the server, over real sockets."""

from __future__ import annotations

import io
from wsgiref.validate import validator

import pytest


def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-A", "b")])
    return [b"body"]


def in_blocks(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"bo"
    yield b""
    yield b"dy"


def promised(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return iter([b"bo", b"dy"])


def written(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"bo")
    write(b"dy")
    return []


def reading(environ, start_response):
    stream = environ["wsgi.input"]
    parts = [stream.read(1), stream.readline(2), stream.readline(), *stream.readlines(5)]
    parts += list(stream)
    parts.append(stream.read(10))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"".join(parts)]


def replaced(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise KeyError
    except KeyError:
        import sys

        start_response("500 Oh", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"body"]


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def from_file(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"body"), 3)


def with_errors(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("a line\n")
    errors.writelines(["two\n", "more\n"])
    errors.flush()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"body"]


def hinted(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    return plain(environ, start_response)


APPS = [plain, in_blocks, promised, written, replaced, from_file, with_errors, hinted]


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_applications(serve_on_loops, connect, caplog, app, method):
    """The validator has no objection, twice on one connection."""
    client = connect(serve_on_loops(validator(app)))
    for _ in range(2):
        body = b"\r\nContent-Length: 3\r\n\r\nabc" if method == "POST" else b"\r\n\r\n"
        client.send(f"{method} /a/b?c=d HTTP/1.1\r\nHost: example.com".encode() + body)
        while (answer := client.read_response(head_only=method == "HEAD"))[0] == 103:
            pass
        assert answer[0] == (500 if app is replaced else 200)
        assert answer[2] == (b"" if method == "HEAD" else b"body")
    assert "AssertionError" not in caplog.text


@pytest.mark.parametrize("app", [no_content, not_modified])
def test_applications_without_content(serve_once, connect, caplog, app):
    """204 and 304 too."""
    client = connect(serve_once(validator(app)))
    for _ in range(2):
        client.get()
        assert client.read_response()[0] in (204, 304)
    assert "AssertionError" not in caplog.text


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies(serve_on_loops, connect, caplog, mode, chunked):
    """Every way of reading, in every mode."""
    client = connect(serve_on_loops(validator(reading), request_buffering=mode))
    body = b"first\nsecond\nthird\nfourth\nfifth, without an end"
    for _ in range(2):
        if chunked:
            framing = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            framing = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n" + framing)
        assert client.read_response()[2] == body
    assert "AssertionError" not in caplog.text


def test_old_clients(serve_on_loops, connect, caplog):
    """HTTP/1.0, with and without keep-alive."""
    client = connect(serve_on_loops(validator(promised)))
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert client.read_response()[2] == b"body"
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.read_response()[2] == b"body"
    assert client.read_to_end() == b""
    assert "AssertionError" not in caplog.text


def test_the_validator_does_object(serve_once, connect, caplog):
    """Or else this would prove nothing."""

    def wrong(environ, start_response):
        start_response("200 OK", [("content_type", "text/plain")])
        return [b"body"]

    client = connect(serve_once(validator(wrong)))
    client.get()
    assert client.read_response()[0] == 500
    assert "AssertionError" in caplog.text
