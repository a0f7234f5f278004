"""Response heads, byte for byte, and against the client sides of h11 and httptools."""

from __future__ import annotations

import email.utils
import re
from http import HTTPStatus

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import read_response

from aiowsgi.exceptions import ApplicationError
from aiowsgi.http1 import response as response_module
from aiowsgi.http1.response import (
    LAST_CHUNK,
    MAX_CACHED_LENGTH,
    MAX_CACHED_NAMES,
    Framing,
    check_fields,
    check_head,
    encode_chunk,
    encode_head,
    error_response,
    http_date,
    reason_phrase,
    response_context,
)

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def context(*, head_only=False, http_11=True, keep_alive=True, date="", server=""):
    """A context with the given facts only."""
    return response_context(
        head_only=head_only, http_11=http_11, keep_alive=keep_alive, date=date, server=server
    )


def head(status="200 OK", fields=(), body_length=None, **more):
    """An encoded head."""
    return encode_head(check_head(status, list(fields)), body_length, context(**more))


LENGTH_3 = [("Content-Length", "3")]


@pytest.mark.parametrize(
    ("given", "lines", "framing", "length", "kept"),
    [
        ({"body_length": 5}, ["Content-Length: 5"], Framing.LENGTH, 5, True),
        ({"body_length": 0}, ["Content-Length: 0"], Framing.LENGTH, 0, True),
        ({"fields": LENGTH_3}, ["Content-Length: 3"], Framing.LENGTH, 3, True),
        ({"fields": LENGTH_3, "body_length": 9}, ["Content-Length: 3"], Framing.LENGTH, 3, True),
        ({}, ["Transfer-Encoding: chunked"], Framing.CHUNKED, -1, True),
        ({"http_11": False}, ["Connection: close"], Framing.CLOSE, -1, False),
        (
            {"http_11": False, "body_length": 5},
            ["Content-Length: 5", "Connection: keep-alive"],
            Framing.LENGTH,
            5,
            True,
        ),
        (
            {"body_length": 5, "keep_alive": False},
            ["Content-Length: 5", "Connection: close"],
            Framing.LENGTH,
            5,
            False,
        ),
        (
            {"keep_alive": False},
            ["Transfer-Encoding: chunked", "Connection: close"],
            Framing.CHUNKED,
            -1,
            False,
        ),
        ({"head_only": True}, [], Framing.NONE, -1, True),
        ({"head_only": True, "body_length": 5}, ["Content-Length: 5"], Framing.NONE, -1, True),
        ({"head_only": True, "body_length": 0}, [], Framing.NONE, -1, True),
        ({"head_only": True, "fields": LENGTH_3}, ["Content-Length: 3"], Framing.NONE, -1, True),
        ({"head_only": True, "http_11": False}, ["Connection: keep-alive"], Framing.NONE, -1, True),
        (
            {"head_only": True, "keep_alive": False},
            ["Connection: close"],
            Framing.NONE,
            -1,
            False,
        ),
        ({"body_length": 5, "date": DATE}, [f"Date: {DATE}", "Content-Length: 5"], None, 5, True),
        (
            {"fields": [("date", "mine")], "date": DATE, "server": "ours", "body_length": 0},
            ["date: mine", "Server: ours", "Content-Length: 0"],
            None,
            0,
            True,
        ),
        (
            {"fields": [("SERVER", "mine")], "server": "ours", "date": DATE, "body_length": 0},
            ["SERVER: mine", f"Date: {DATE}", "Content-Length: 0"],
            None,
            0,
            True,
        ),
        (
            {"fields": [("Date", "a"), ("Server", "b")], "server": "c", "date": "d"},
            ["Date: a", "Server: b", "Transfer-Encoding: chunked"],
            None,
            -1,
            True,
        ),
        (
            {"date": DATE, "server": "ours", "body_length": 0},
            [f"Date: {DATE}", "Server: ours", "Content-Length: 0"],
            None,
            0,
            True,
        ),
        (
            {"fields": [("X-A", "1")], "date": DATE, "server": "ours", "body_length": 0},
            ["X-A: 1", f"Date: {DATE}", "Server: ours", "Content-Length: 0"],
            None,
            0,
            True,
        ),
        (
            {"fields": [("X-A", "1"), ("x-a", "2"), ("Set-Cookie", "é\t")], "body_length": 0},
            ["X-A: 1", "x-a: 2", "Set-Cookie: é\t", "Content-Length: 0"],
            None,
            0,
            True,
        ),
    ],
)
def test_head(given, lines, framing, length, kept):
    """Status, fields, body length and context determine these bytes."""
    made = head(**given)
    expected = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode("latin-1")
    assert made.data == expected
    assert (made.length, made.keep_alive, made.status) == (length, kept, 200)
    if framing is not None:
        assert made.framing is framing


@pytest.mark.parametrize(
    ("status", "fields", "lines"),
    [
        ("204 No Content", [], []),
        ("204 No Content", LENGTH_3, []),
        ("204 No Content", [*LENGTH_3, ("X", "y")], ["X: y"]),
        ("304 Not Modified", [], []),
        ("304 Not Modified", LENGTH_3, ["Content-Length: 3"]),
    ],
)
@pytest.mark.parametrize("body_length", [None, 0, 5])
def test_statuses_without_a_body(status, fields, lines, body_length):
    """204 has no Content-Length, 304 only the application's (RFC 9110 sections 8.6, 15.4.5)."""
    made = head(status, fields, body_length)
    assert made.data.decode() == "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""])
    assert made.framing is Framing.NONE
    assert made.keep_alive


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("200 OK", "200 OK"),
        ("200", "200 "),
        ("200 ", "200 "),
        ("404 Nicht gefunden: ü\tx", "404 Nicht gefunden: ü\tx"),
        ("599 x", "599 x"),
    ],
)
def test_status_line(status, line):
    """A status is a code, a space, and a reason that may be empty (RFC 9112 section 4)."""
    assert head(status).data.startswith(f"HTTP/1.1 {line}\r\n".encode("latin-1"))


@pytest.mark.parametrize(
    "status",
    [
        "",
        "2000 OK",
        "20 OK",
        "100 Continue",
        "101 Switching Protocols",
        "600 x",
        "abc",
        "200OK",
        " 200 OK",
        "200\tOK",
        "200 OK\r\nX: y",
        "200 OK\n",
        "200 \x00",
        "200 \x7f",
        "200 €",
        "\uff12\uff10\uff10 OK",
        b"200 OK",
        200,
        None,
        [],
    ],
)
def test_a_malformed_status_is_the_applications_error(status):
    """A malformed status is refused when it is passed."""
    with pytest.raises(ApplicationError):
        check_head(status, [])


@pytest.mark.parametrize(
    "fields",
    [
        None,
        5,
        [("X",)],
        [("X", "y", "z")],
        [("X", None)],
        [("X", 5)],
        [("X", b"y")],
        [(b"X", "y")],
        [(5, "y")],
        [([], "y")],
        ["X: y"],
        [("", "y")],
        [("X Y", "z")],
        [("X:", "y")],
        [("X\n", "y")],
        [("Ü", "y")],
        [("X", "y\r\nZ: w")],
        [("X", "y\n")],
        [("X", "y\r")],
        [("X", "y\0")],
        [("X", "\x01")],
        [("X", "\x7f")],
        [("X", "€")],
        [("Content-Length", "")],
        [("Content-Length", "-1")],
        [("Content-Length", "+1")],
        [("Content-Length", "1, 1")],
        [("Content-Length", " 1")],
        [("Content-Length", "1_0")],
        [("Content-Length", "\uff11")],
        [("Content-Length", "1" * 20)],
        [("Content-Length", "1"), ("content-length", "1")],
        *[
            [(name, "x")]
            for name in (*("Transfer-Encoding", "Upgrade", "transfer-encoding", "UPGRADE"),)
        ],
    ],
)
def test_a_field_that_cannot_be_sent_is_the_applications_error(fields):
    """Fields that could split the message or change the connection are never sent."""
    with pytest.raises(ApplicationError):
        check_head("200 OK", fields)
    with pytest.raises(ApplicationError):
        check_head("200 OK", fields)


DIGITS = set("0123456789")
TCHAR = set("!#$%&'*+-.^_`|~abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") | DIGITS
TEXT = set("\t") | set(map(chr, range(0x20, 0x7F))) | set(map(chr, range(0x80, 0x100)))


@pytest.mark.parametrize(
    ("status", "name", "value", "allowed"),
    [
        ("200 a{}b", "X", "", TEXT),
        ("{}00 OK", "X", "", set("2345")),
        ("2{}0 OK", "X", "", DIGITS),
        ("20{} OK", "X", "", DIGITS),
        ("200{}OK", "X", "", set(" ")),
        ("200 OK", "A{}B", "", TCHAR),
        ("200 OK", "X", "a{}b", TEXT),
        ("200 OK", "Content-Length", "1{}", DIGITS),
    ],
)
def test_which_characters_may_stand(status, name, value, allowed):
    """Exactly the characters that the RFCs allow are accepted."""

    def taken(character):
        try:
            check_head(
                status.format(character), [(name.format(character), value.format(character))]
            )
        except ApplicationError:
            return False
        return True

    assert {character for character in map(chr, range(0x180)) if taken(character)} == allowed


@pytest.mark.parametrize("digits", [1, 19])
def test_the_longest_content_length(digits):
    """Content-Length may have nineteen digits."""
    assert check_head("200 OK", [("Content-Length", "9" * digits)]).content_length == (
        10**digits - 1
    )


@pytest.mark.parametrize(
    ("status", "fields", "message"),
    [
        ("20 OK", [], "malformed status '20 OK'"),
        (200, [], "status must be a str, not int"),
        ("200 OK", [("X Y", "z")], "malformed field name 'X Y'"),
        ("200 OK", [(5, "y")], "malformed field name 5"),
        ("200 OK", [("Upgrade", "x")], "may not send Upgrade, a hop-by-hop field"),
        ("200 OK", [("X", "y\n")], r"field X contains .*: 'y\\n'"),
        ("200 OK", [("Content-Length", "x")], "malformed Content-Length 'x'"),
        ("200 OK", [("X",)], "start_response takes"),
        (None, None, "status must be a str, not NoneType"),
    ],
)
def test_the_error_says_what_is_wrong(status, fields, message):
    """The message names what the application did wrong."""
    with pytest.raises(ApplicationError, match=message):
        check_head(status, fields)


@pytest.mark.parametrize(
    ("name", "value", "close"),
    [
        ("Connection", "keep-alive", False),
        ("Connection", "close", True),
        ("connection", "Close", True),
        ("CONNECTION", "keep-alive, close", True),
        ("Connection", "closed", False),
        ("Keep-Alive", "timeout=5", False),
        ("Proxy-Authenticate", "Basic", False),
        ("Proxy-Authentication-Info", "a", False),
        ("Proxy-Authorization", "a", False),
        ("Proxy-Connection", "close", False),
        ("TE", "trailers", False),
        ("Trailer", "X", False),
        ("Trailers", "X", False),
    ],
)
def test_hop_by_hop_fields_are_left_out(name: str, value: str, close: bool) -> None:
    """The server leaves hop-by-hop fields out, and closes the connection if they ask for that."""
    for _ in range(2):
        checked = check_head("200 OK", [("A", "b"), (name, value), ("C", "d")])
        assert checked.lines == "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n"
        assert checked.dropped == (name.lower(),)
        assert checked.close is close
        head = encode_head(checked, 0, context())
        assert head.keep_alive is not close
        assert (b"\r\nConnection: close\r\n" in head.data) is close


def test_other_proxy_fields_are_sent() -> None:
    """Proxy-Status (RFC 9209) is an end-to-end field."""
    assert "Proxy-Status: x" in check_head("200 OK", [("Proxy-Status", "x")]).lines


def test_the_lines_of_interim_responses_are_checked_too():
    """The fields of an early hint are checked too."""
    assert check_fields([("Link", "<a>"), ("X", "")]) == "Link: <a>\r\nX: \r\n"
    assert check_fields([]) == ""
    # RFC 9110 section 8.6: no Content-Length with a status of 1xx.
    assert check_fields([("Content-Length", "5"), ("Link", "<a>")]) == "Link: <a>\r\n"
    assert check_fields([("Connection", "close"), ("Link", "<a>")]) == "Link: <a>\r\n"
    with pytest.raises(ApplicationError):
        check_fields([("Link", "<a>\r\n\r\n")])


def test_caches_are_bounded_in_entries_and_in_bytes(monkeypatch):
    """An application that invents names and reasons does not fill the memory."""
    monkeypatch.setattr(response_module, "_names", {})
    monkeypatch.setattr(response_module, "_status_lines", {})
    check_head("200 " + "a" * MAX_CACHED_LENGTH, [("X" * (MAX_CACHED_LENGTH + 1), "")])
    assert not response_module._names
    assert not response_module._status_lines
    for number in range(MAX_CACHED_NAMES + 10):
        check_head(f"200 {number}", [(f"X-{number}", "")])
    assert len(response_module._names) == len(response_module._status_lines) == MAX_CACHED_NAMES
    assert check_head("200 new", [("X-New", "")]).lines == "HTTP/1.1 200 new\r\nX-New: \r\n"


@given(st.integers(0, 253402300799))
def test_dates_are_those_of_the_standard_library(seconds):
    """IMF-fixdate (RFC 9110 section 5.6.7), for every second up to the year 9999."""
    assert http_date(seconds) == email.utils.formatdate(seconds, usegmt=True)


def test_dates_of_a_whole_year():
    """Every day of the week, and of every month."""
    for day in range(366):
        seconds = 946684800 + day * 86400
        assert http_date(seconds) == email.utils.formatdate(seconds, usegmt=True)


def test_dates_are_english_in_every_locale():
    """The months and days are ours."""
    assert http_date(784111777) == DATE


@pytest.mark.parametrize(
    "status", [400, 408, 413, 414, 417, 421, 431, 500, 501, 503, 504, 505, 507]
)
@pytest.mark.parametrize("head_only", [False, True])
def test_the_servers_own_answers(status, head_only):
    """The server's own responses are complete plain text; HEAD gets the length only."""
    made = error_response(
        status, "Because.", context(head_only=head_only, keep_alive=False), [("Retry-After", "1")]
    )
    seen = read_response(made.data, "HEAD" if head_only else "GET")
    assert seen.whole
    assert seen.status == status
    assert reason_phrase(status) != "Unknown"
    assert seen.fields["retry-after"] == "1"
    assert seen.fields["connection"] == "close"
    assert seen.fields["content-type"] == "text/plain; charset=utf-8"
    text = f"{status} {reason_phrase(status)}\nBecause.\n".encode()
    assert seen.fields["content-length"] == str(len(text))
    assert seen.body == (b"" if head_only else text)


def test_a_status_without_a_phrase_of_ours():
    """An unknown status gets a reason phrase."""
    assert reason_phrase(418) == "Unknown"


# Other implementations


class Recorder:
    """Receives the callbacks of httptools' response parser."""

    def __init__(self):
        self.fields, self.body, self.complete = [], b"", 0

    def on_header(self, name, value):
        self.fields.append((name.lower().decode(), value.decode("latin-1")))

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.complete += 1


token = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12)
names = token.filter(
    lambda name: (
        name.lower()
        not in ("connection", "transfer-encoding", "content-length", "te", "upgrade", "trailers")
    )
)
values = st.text(
    st.characters(codec="latin-1", exclude_categories=["Cc"], include_characters="\t"), max_size=20
).map(lambda value: value.strip("\t "))
reasons = st.from_regex(re.compile(r"[!-~ ]*", re.ASCII), fullmatch=True).map(str.strip)
codes = st.integers(200, 599).filter(lambda code: code not in (204, 304))


@given(
    codes,
    reasons,
    st.lists(st.tuples(names, values), max_size=6),
    st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    st.sampled_from(["known", "promised", "chunked"]),
)
def test_whatever_is_sent_is_read_back_the_same_by_two_others(code, reason, fields, blocks, how):
    """The clients of h11 and httptools read the status, fields and body that were passed."""
    body = b"".join(blocks)
    given = [*fields, ("Content-Length", str(len(body)))] if how == "promised" else fields
    made = head(f"{code} {reason}", given, len(body) if how == "known" else None)
    if how == "chunked":
        data = made.data + b"".join(map(encode_chunk, blocks)) + LAST_CHUNK
    else:
        data = made.data + body

    recorder = Recorder()
    parser = httptools.HttpResponseParser(recorder)
    parser.feed_data(data)
    assert recorder.complete == 1
    assert (parser.get_status_code(), recorder.body) == (code, body)
    expected = [(name.lower(), value) for name, value in fields]
    assert [f for f in recorder.fields if f[0] not in ("content-length", "transfer-encoding")] == (
        expected
    )

    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    event = client.next_event()
    assert (event.status_code, event.reason.decode()) == (code, reason)
    seen = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
    assert [f for f in seen if f[0] not in ("content-length", "transfer-encoding")] == expected
    whole = read_response(data)
    assert whole.whole
    assert whole.body == body


@pytest.mark.parametrize("first", ["0", "3"])
@pytest.mark.parametrize("second", ["0", "3"])
def test_content_length_is_said_once(first, second):
    """Content-Length is sent once, and the application may pass it once."""
    with pytest.raises(ApplicationError, match="more than once"):
        check_head("200 OK", [("Content-Length", first), ("content-length", second)])
    for head_only in (False, True):
        sent = head(fields=[("Content-Length", first)], body_length=5, head_only=head_only)
        assert sent.data.lower().count(b"content-length") == 1


RENAMED = {413: "Content Too Large", 414: "URI Too Long"}
"""The names of RFC 9110, which only later versions of Python have."""


@pytest.mark.parametrize("status", response_module._REASONS)
def test_phrases_are_those_of_the_standards(status):
    """The server's own responses have the standard reason phrases."""
    assert reason_phrase(status) == RENAMED.get(status, HTTPStatus(status).phrase)
