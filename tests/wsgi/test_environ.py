"""Building environs: every key, and every rule about fields."""

from __future__ import annotations

import io
import sys
from wsgiref.validate import check_environ

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiowsgi.http1.messages import CHUNKED, Request
from aiowsgi.wsgi import environ as environ_module
from aiowsgi.wsgi.environ import (
    MAX_CACHED_ENVIRONS,
    MAX_CACHED_KEY_NAME,
    MAX_CACHED_KEYS,
    ConnectionInfo,
    EnvironBuilder,
    base_environ,
)
from aiowsgi.wsgi.file_wrapper import FileWrapper

PEER = ConnectionInfo("192.0.2.1", "1234", "198.51.100.1", "8000", "http")


def request(path="/", query="", fields=(), *, length=0, method="GET", target=None):
    """A request's head."""
    return Request(
        method,
        target or path + (f"?{query}" if query else ""),
        path,
        query,
        "example.com",
        "HTTP/1.1",
        [(b"Host", b"example.com"), *fields],
        length,
        True,
        False,
    )


def build(asked=None, length=0, *, peer=PEER, stream=None, **base):
    """Return the environ of a request."""
    facts = {
        "multithread": True,
        "multiprocess": False,
        "errors": sys.stderr,
        "script_name": "",
        "software": "aiowsgi",
        **base,
    }
    facts = base_environ(**facts)
    return EnvironBuilder(facts, peer).build(asked or request(), stream or io.BytesIO(), length)


def test_every_key():
    """The complete environ, and nothing else."""
    stream = io.BytesIO(b"abc")
    asked = request(
        "/a%20b", "c=d", [(b"Content-Type", b"text/plain"), (b"X-Y", b"z")], length=3, method="POST"
    )
    assert build(asked, 3, stream=stream) == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "c=d",
        "REQUEST_URI": "/a%20b?c=d",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "SERVER_NAME": "198.51.100.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "aiowsgi",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "1234",
        "HTTP_HOST": "example.com",
        "HTTP_X_Y": "z",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": stream,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
        "aiowsgi.deadline": None,
    }


def test_the_standard_library_finds_no_fault():
    """wsgiref.validate accepts types, names and required keys."""
    check_environ(build(request(fields=[(b"A", b"b")])))
    check_environ(build(script_name="/app"))
    check_environ(build(peer=ConnectionInfo("", "", "localhost", "80", "http")))


def test_an_environ_is_the_applications_own():
    """A change of one environ does not reach the next."""
    connection = EnvironBuilder(
        base_environ(
            multithread=False,
            multiprocess=True,
            errors=sys.stderr,
            script_name="",
            software="x",
        ),
        PEER,
    )
    asked = request(fields=[(b"A", b"b")])
    for _ in range(4):
        environ = connection.build(asked, io.BytesIO(), 0)
        assert type(environ) is dict
        assert environ["REMOTE_ADDR"] == "192.0.2.1"
        assert environ["HTTP_A"] == "b"
        assert not environ["wsgi.multithread"]
        assert environ["wsgi.multiprocess"]
        environ.clear()


def test_fields_that_come_again():
    """A request with the same fields as the one before gets them, and no other key of it."""
    connection = EnvironBuilder(
        base_environ(
            multithread=True, multiprocess=False, errors=None, script_name="", software="x"
        ),
        PEER,
    )
    fields = [(b"Host", b"a"), (b"A", b"b"), (b"A", b"c"), (b"Transfer-Encoding", b"chunked")]
    repeated = [
        request("/a", "b")._replace(fields=fields, content_length=CHUNKED),
        request("/c", "d", method="POST")._replace(fields=fields, content_length=CHUNKED),
        request("/e", "")._replace(fields=fields, content_length=CHUNKED),
    ]
    other = request("/f", fields=[(b"C", b"d")])
    for asked, length in [*zip(repeated, (3, CHUNKED, 4), strict=True), (other, 0), (other, 0)]:
        stream = io.BytesIO()
        alone = EnvironBuilder(connection.common, PEER).build(asked, stream, length)
        assert connection.build(asked, stream, length) == alone
    connection.clear_cache()
    assert connection.build(repeated[0], None, 0)["HTTP_A"] == "b, c"


@given(turns=st.lists(st.integers(0, MAX_CACHED_ENVIRONS + 2), max_size=40))
def test_requests_of_several_kinds(turns):
    """In any order, each request gets its own fields; the number of cached environs is bounded."""
    lists = [[(b"Host", b"a"), (b"X-%d" % kind, b"b")] for kind in range(MAX_CACHED_ENVIRONS + 3)]
    connection = EnvironBuilder({"SCRIPT_NAME": ""}, PEER)
    for kind in turns:
        asked = request(f"/{kind}")._replace(fields=lists[kind])
        alone = EnvironBuilder(connection.common, PEER).build(asked, None, 0)
        made = connection.build(asked, None, 0)
        assert made == alone
        made.clear()
        assert len(connection._seen) <= MAX_CACHED_ENVIRONS


def test_the_variables_of_tls_are_in_the_environ():
    """The variables of the connection."""
    peer = PEER._replace(scheme="https", variables={"SSL_PROTOCOL": "TLSv1.3"})
    made = build(peer=peer)
    assert made["wsgi.url_scheme"] == "https"
    assert made["SSL_PROTOCOL"] == "TLSv1.3"


@pytest.mark.parametrize(
    ("path", "info"),
    [
        ("/", "/"),
        ("*", "*"),
        ("/a%2Fb", "/a/b"),
        ("/%41%zz%", "/A%zz%"),
        ("/%C3%A9", "/Ã©"),
        ("/%00", "/\0"),
        ("/%ff", "/ÿ"),
        ("/a+b", "/a+b"),
        ("//a/../b", "//a/../b"),
    ],
)
def test_the_path_is_decoded_to_native_strings(path, info):
    """Percent-encoding is undone once, and each byte is one character (PEP 3333)."""
    assert build(request(path))["PATH_INFO"] == info


@pytest.mark.parametrize(
    ("path", "name", "info"),
    [
        ("/app/x", "/app", "/x"),
        ("/app", "/app", ""),
        ("/app/", "/app", "/"),
        ("/apple", "/app", "/apple"),
        ("/other", "/app", "/other"),
        ("/a%70p/x", "/app", "/x"),
    ],
)
def test_the_prefix_is_taken_off_the_path(path, name, info):
    """SCRIPT_NAME and PATH_INFO are two parts of one path; a proxy may have removed the first."""
    made = build(request(path), script_name=name)
    assert (made["SCRIPT_NAME"], made["PATH_INFO"]) == (name, info)
    assert made["REQUEST_URI"] == path


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([(b"accept", b"a")], {"HTTP_ACCEPT": "a"}),
        ([(b"X-A-B", b"")], {"HTTP_X_A_B": ""}),
        ([(b"X", b"\xe9\x80")], {"HTTP_X": "é\x80"}),
        ([(b"X", b"a"), (b"x", b"b"), (b"X", b"c")], {"HTTP_X": "a, b, c"}),
        ([(b"Cookie", b"a=1"), (b"cookie", b"b=2")], {"HTTP_COOKIE": "a=1; b=2"}),
        ([(b"X_Y", b"1")], {}),
        ([(b"X-Y", b"1"), (b"X_Y", b"2")], {"HTTP_X_Y": "1"}),
        ([(b"X_Y", b"2"), (b"X-Y", b"1"), (b"X_Y", b"3")], {"HTTP_X_Y": "1"}),
        ([(b"Proxy", b"evil")], {}),
        ([(b"PROXY", b"evil"), (b"A", b"1"), (b"A", b"2")], {"HTTP_A": "1, 2"}),
        ([(b"Content-Type", b"text/plain")], {"CONTENT_TYPE": "text/plain"}),
        ([(b"content-TYPE", b"a")], {"CONTENT_TYPE": "a"}),
        ([(b"SERVER-NAME", b"evil")], {"HTTP_SERVER_NAME": "evil"}),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_fields(monkeypatch, fields, expected, warm):
    """Names are translated, repeated values joined, and dangerous names dropped, cached or not."""
    monkeypatch.setattr(environ_module, "_keys", {})
    if warm:
        build(request(fields=fields))
    made = build(request(fields=fields))
    plain = build()
    assert {key: value for key, value in made.items() if key not in plain} == expected
    assert "" not in made


@pytest.mark.parametrize(
    ("field", "declared", "length", "expected"),
    [
        (None, 0, 0, {}),
        ((b"Content-Length", b"0"), 0, 0, {"CONTENT_LENGTH": "0"}),
        ((b"Content-Length", b"5"), 5, 5, {"CONTENT_LENGTH": "5"}),
        ((b"Content-Length", b"005"), 5, 5, {"CONTENT_LENGTH": "5"}),
        ((b"Transfer-Encoding", b"chunked"), CHUNKED, 7, {"CONTENT_LENGTH": "7"}),
        ((b"Transfer-Encoding", b"chunked"), CHUNKED, 0, {"CONTENT_LENGTH": "0"}),
        (
            (b"Transfer-Encoding", b"Chunked"),
            CHUNKED,
            CHUNKED,
            {"HTTP_TRANSFER_ENCODING": "chunked"},
        ),
    ],
)
def test_the_length_is_what_the_stream_will_give(field, declared, length, expected):
    """A chunked body that is complete has a length and no Transfer-Encoding."""
    made = build(request(fields=[field] if field else [], length=declared), length)
    keys = ("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_LENGTH")
    assert {key: made[key] for key in keys if key in made} == expected


def test_what_is_remembered_is_bounded(monkeypatch):
    """A client that invents names neither fills the memory nor affects later requests."""
    monkeypatch.setattr(environ_module, "_keys", {})
    build(request(fields=[(b"X" * (MAX_CACHED_KEY_NAME + 1), b"")]))
    assert len(environ_module._keys) == 1
    for number in range(0, MAX_CACHED_KEYS + 50, 10):
        build(request(fields=[(b"X-%d" % n, b"") for n in range(number, number + 10)]))
    assert len(environ_module._keys) == MAX_CACHED_KEYS
    assert build(request(fields=[(b"New-Name", b"1"), (b"New_Name", b"2")]))["HTTP_NEW_NAME"] == "1"


names = st.text("abXY-_09", min_size=1, max_size=5).map(str.encode)
values = st.binary(max_size=6).filter(lambda value: not set(value) & set(b"\r\n\0"))


@given(st.lists(st.tuples(names, values), max_size=8))
def test_fields_against_a_plain_reading(fields):
    """The fast path through the cache has the result of a simple loop."""
    expected = {}
    for name, value in fields:
        if b"_" not in name:
            key = "HTTP_" + name.decode().upper().replace("-", "_")
            text = value.decode("latin-1")
            expected[key] = f"{expected[key]}, {text}" if key in expected else text
    made = build(request(fields=fields))
    found = {k: v for k, v in made.items() if k.startswith("HTTP_") and k != "HTTP_HOST"}
    assert found == expected
