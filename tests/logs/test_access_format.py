"""The access log's formats: what a line says, and that nobody can forge one."""

from __future__ import annotations

import json
import re
import timeit
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiowsgi.cli.main import main
from aiowsgi.config.log_format import ATOMS, DEFAULT_FORMAT
from aiowsgi.exchange.record import RequestRecord
from aiowsgi.http1.messages import Request
from aiowsgi.logs import access_format as module
from aiowsgi.logs.access_format import compile_format
from aiowsgi.logs.atoms import CUT, LONGEST, REMEMBERED, Memo, namespace

FACTS: dict[str, Any] = {
    "client_host": "192.0.2.7",
    "client_port": 51234,
    "method": "GET",
    "target": "/a%20b?x=1&y=%22",
    "version": "HTTP/1.1",
    "status": 200,
    "response_bytes": 13,
    "time": 1_700_000_000.25,
    "duration": 1.2345678,
    "queue_time": 0.001,
    "read_time": 0.002,
    "app_time": 1.2,
    "write_time": 0.0315,
    "request_id": "r-1",
}

PHASES = ("duration", "queue_time", "read_time", "app_time", "write_time")

ENVIRON = {
    "HTTP_REFERER": "http://example.com/",
    "HTTP_USER_AGENT": "curl/8",
    "HTTP_AUTHORIZATION": "Basic " + b64encode(b"ann:secret").decode(),
    "HTTP_X_TRACE": "t1",
    "CONTENT_TYPE": "text/plain",
    "CONTENT_LENGTH": "5",
    "wsgi.url_scheme": "https",
    "wsgi.multithread": True,
    "app.object": object(),
    "app.text": "\u20ac \U0001f600",
}

RESPONSE_FIELDS = [("Content-Type", "text/html"), ("X-Tag", "a"), ("x-tag", "b")]

NATIVE = st.text(st.characters(max_codepoint=0xFF), max_size=30)
"""What the bytes of a request can become (PEP 3333)."""

TOKEN = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF), min_size=1, max_size=30)
"""As far as a request line can be split: anything without whitespace in ASCII."""


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clocks show what the facts are made for."""
    monkeypatch.setattr(module, "time", lambda: FACTS["time"])
    monkeypatch.setattr(module, "monotonic", lambda: DONE)


DONE = 1000.0
"""When the thread was done with the request, monotonic seconds."""


def a_record(facts: dict[str, Any]) -> RequestRecord:
    """A record of which ``facts`` are true."""
    method, target, version = facts["method"], facts["target"], facts["version"]
    request = Request(method, target, "", "", "x", version, [], 0, True, False)
    client = facts["client_host"], facts["client_port"]
    started_at = DONE - facts["app_time"]
    finished_at = DONE - facts["write_time"]
    received_at = finished_at - facts["duration"]
    queued_at = received_at + facts["read_time"]
    record = RequestRecord(request, client, facts["request_id"], received_at, queued_at)
    record.started_at, record.finished_at = started_at, finished_at
    record.waited_before = facts["queue_time"] - (started_at - queued_at)
    record.status, record.response_bytes = facts["status"], facts["response_bytes"]
    return record


class FakeResponse:
    """What the application said."""

    fields = RESPONSE_FIELDS


def line(text: str, environ: Mapping[str, object] = ENVIRON, **facts: Any) -> str:
    """The line of one request, of which ``facts`` are special."""
    compiled = compile_format(text, str, pid=42)
    return compiled(a_record({**FACTS, **facts}), FakeResponse(), environ)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%(h)s", "192.0.2.7"),
        ("%(l)s", "-"),
        ("%(u)s", "ann"),
        ("%(r)s", "GET /a%20b?x=1&y=%22 HTTP/1.1"),
        ('"%(r)s"', '"GET /a%20b?x=1&y=%22 HTTP/1.1"'),
        ("%(m)s", "GET"),
        ("%(target)s", "/a%20b?x=1&y=%22"),
        ("%(U)s", "/a%20b"),
        ("%(q)s", "x=1&y=%22"),
        ("%(H)s", "HTTP/1.1"),
        ("%(s)s", "200"),
        ("%(B)s", "13"),
        ("%(b)s", "13"),
        ("%(f)s", "http://example.com/"),
        ("%(a)s", "curl/8"),
        ("%(T)s", "1"),
        ("%(M)s", "1234"),
        ("%(D)s", "1234567"),
        ("%(L)s", "1.234568"),
        ("%(p)s", "<42>"),
        ("%({X-Trace}i)s", "t1"),
        ("%({x-trace}i)s", "t1"),
        ("%({content-type}i)s %({Content-Length}i)s", "text/plain 5"),
        ("%({x-absent}i)s", "-"),
        ("%({content-type}o)s", "text/html"),
        ('"%({X-Tag}o)s"', '"a, b"'),
        ("%({x-absent}o)s", "-"),
        ("%({wsgi.url_scheme}e)s", "https"),
        ("%({wsgi.multithread}e)s", "True"),
        ("%({app.object}e)s", "-"),
        ('"%({app.text}e)s"', '"\\u20ac \\U0001f600"'),
        ("%({absent}e)s", "-"),
        ("%(client_port)s", "51234"),
        ("%(request_id)s", "r-1"),
        ("%(duration_ms)s", "1234.568"),
        ("%(queue_ms)s", "1.000"),
        ("%(read_ms)s", "2.000"),
        ("%(app_ms)s", "1200.000"),
        ("%(write_ms)s", "31.500"),
        ("%(time)s", "2023-11-14T22:13:20.250Z"),
        ("100%% of\t%(m)s: é", "100% of\tGET: é"),
    ],
)
def test_atoms(text: str, expected: str) -> None:
    """Each atom gives what gunicorn's documentation, or its own name, promises."""
    assert line(text) == expected


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a?b://c", "/a"),
        ("/a://b", "/a://b"),
        ("http://example.com/x/y?q", "/x/y"),
        ("http://example.com", "/"),
        ("*", "*"),
    ],
)
def test_path_of_each_form_of_target(target: str, path: str) -> None:
    """The path has neither query nor, in absolute form, an authority."""
    assert line("%(U)s", target=target) == path


def test_nothing_known_is_a_dash_in_every_place() -> None:
    """A connection refused before its request line was read still gives a line of all fields."""
    text = '%(h)s %(u)s "%(r)s" %(r)s %(b)s "%(a)s" %(client_port)s "%(u)s" %({x-y}o)s'
    record = RequestRecord(None, ("", 0), "id", 0.0, 0.0)
    assert compile_format(text, str)(record, None, {}) == '- - "-" - - - - "-" - "-" -'


@pytest.mark.parametrize(
    ("credentials", "user"),
    [
        ("Basic " + b64encode(b"ann:secret").decode(), "ann"),
        ("bAsIc " + b64encode(b"ann").decode(), "ann"),
        ("Basic " + b64encode(b"a b\n:x").decode(), r"a\x20b\x0a"),
        ("Basic " + b64encode("jürg:x".encode()).decode(), r"j\xc3\xbcrg"),
        ("Basic !!!!", "-"),
        ("Basic YQ", "-"),
        ("Basic \xff", "-"),
        ("Bearer abc", "-"),
        ("", "-"),
    ],
)
def test_user_of_basic_credentials(credentials: str, user: str) -> None:
    """The user name is logged, never a password, and never what is no Basic credentials."""
    assert line("%(u)s", environ={"HTTP_AUTHORIZATION": credentials}) == user


def test_time_is_local_with_its_offset() -> None:
    """The time stands in brackets, in English, with an offset that makes it unambiguous."""
    stamp = line("%(t)s")
    assert datetime.strptime(stamp, "[%d/%b/%Y:%H:%M:%S %z]").timestamp() == int(FACTS["time"])


def test_time_is_that_of_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remembered second is never used for another one."""
    seconds = [1_700_000_000, 1_700_000_000, 1_700_000_001, 1_700_000_000, 1_700_086_400]
    clock = iter(second + 0.9 for second in seconds)
    monkeypatch.setattr(module, "time", lambda: next(clock))
    compiled = compile_format("%(t)s", str)
    stamps = [compiled(a_record(FACTS), None, {}) for _ in seconds]
    parsed = [datetime.strptime(stamp, "[%d/%b/%Y:%H:%M:%S %z]").timestamp() for stamp in stamps]
    assert parsed == seconds


class Unprintable:
    """An object that has no text."""

    def __str__(self) -> str:
        raise LookupError("no text")


class Unhashable:
    """An object that cannot be looked up, and says so in a way of its own."""

    def __hash__(self) -> int:
        raise LookupError("no hash")


class Forger(str):
    """A string that shows something else than it is."""

    def __str__(self) -> str:
        return 'x" 200 "'

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self)


@pytest.mark.parametrize("text", ['"%(a)s"', "%(a)s", '"%({User-Agent}i)s"', "json"])
@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Unprintable(), None),
        (Unhashable(), None),
        ([], None),
        (Forger("me"), "me"),
        ("", None),
        (None, None),
    ],
)
def test_what_the_application_may_leave_in_the_environ(
    text: str, value: object, written: str | None
) -> None:
    """Formatting neither fails nor believes an object's own methods."""
    result = line(text, {"HTTP_USER_AGENT": value})
    if text == "json":
        assert json.loads(result)["user_agent"] == written
    else:
        assert result.strip('"') == (written or "-")


def test_what_is_kept_ready_is_bounded() -> None:
    """In number and in length; and what is looked up is rendered once."""
    seen: list[object] = []

    def render(value: object) -> str:
        seen.append(value)
        return f"<{value}>"

    memo = Memo(render)
    for text in ("a", "b", "a", None, None, 7, 7):
        assert memo[text] == f"<{text}>"
    assert seen == ["a", "b", None, 7]
    long = "x" * (LONGEST + 1)
    assert (memo[long], memo[long], long in memo) == (f"<{long}>", f"<{long}>", False)


@pytest.mark.parametrize("size", [10, LONGEST])
def test_what_is_kept_ready_is_bounded_in_bytes(size: int) -> None:
    """However many texts come, and however long they are."""
    memo = Memo(lambda value: f"<{value}>")
    for number in range(3 * REMEMBERED // size):
        memo[f"{number:0{size}}"]
        assert sum(len(str(key)) + len(text) for key, text in memo.items()) <= REMEMBERED
    assert memo


# Values that are too long


@pytest.mark.parametrize("text", ['"%(a)s"', "%(a)s", '"%({Via}i)s"', "%({own}e)s", '"%(r)s"'])
@pytest.mark.parametrize("character", ["x", "\xff", '"', "\\", "\x1b", "\u20ac", "\U0001f600", " "])
@pytest.mark.parametrize("size", [LONGEST // 12, LONGEST - 1, LONGEST + 1, 60_000])
def test_a_long_value_is_cut(text: str, character: str, size: int) -> None:
    """It is bounded, says that it was cut, is never cut within an escape, and ends no field."""
    value = character * size
    environ = {"HTTP_USER_AGENT": value, "HTTP_VIA": value, "own": value}
    result = line(f"%(s)s {text} %(B)s", environ, target="/" + value)
    before, rest = result.split(" ", 1)
    logged, after = rest.rsplit(" ", 1)
    assert (before, after) == ("200", "13")
    logged = logged[1:-1] if '"' in text else logged
    logged = logged.removeprefix("GET ").removesuffix(" HTTP/1.1")
    assert logged.isascii()
    assert logged.isprintable()
    unit = len(escaped(character, bare='"' not in text))
    if unit * size <= LONGEST - 1:
        assert logged.removeprefix("/") == escaped(character, bare='"' not in text) * size
    else:
        assert logged.endswith(CUT)
        assert LONGEST - 10 <= len(logged) <= LONGEST + len(CUT)
        kept = logged.removesuffix(CUT).removeprefix("/")
        assert kept == escaped(character, bare='"' not in text) * (len(kept) // unit)


def escaped(character: str, *, bare: bool) -> str:
    """What one character is in a line."""
    if character in '"\\':
        return "\\" + character
    if character == " ":
        return r"\x20" if bare else " "
    plain = character.encode("ascii", "backslashreplace").decode()
    return plain if plain.isprintable() else f"\\x{ord(character):02x}"


def test_a_long_value_is_cut_in_json() -> None:
    """The value itself is bounded, and the line is an object still."""
    members = json.loads(
        line("json", {"HTTP_USER_AGENT": "\xff" * 60_000, "HTTP_REFERER": "x" * 9})
    )
    assert members["user_agent"] == "\xff" * LONGEST + CUT
    assert members["referer"] == "x" * 9


def test_escaping_60_kb_takes_less_than_a_tenth_of_a_millisecond() -> None:
    """The best of many runs, so that a busy machine does not matter."""
    escapes = namespace()
    value = "\xff" * 60_000
    for name in ("quoted", "bare", "json"):
        escape = escapes[name]
        assert min(timeit.repeat(lambda escape=escape: escape(value), number=1, repeat=300)) < 1e-4


# Named formats


def test_default_is_combined_and_the_duration() -> None:
    """Readers of the combined format find everything where they know it."""
    assert line(DEFAULT_FORMAT) == line("combined") + " 1234.568ms"
    assert line("combined").startswith(line("common") + ' "')


COMBINED = re.compile(
    r'(?P<h>\S+) (?P<l>\S+) (?P<u>\S+) \[(?P<t>[^\]]+)\] "(?P<r>(?:[^"\\]|\\.)*)" '
    r'(?P<s>\d+) (?P<b>\d+|-) "(?P<f>(?:[^"\\]|\\.)*)" "(?P<a>(?:[^"\\]|\\.)*)"(?: [0-9.]+ms)?'
)


def unescape(text: str) -> str:
    """Undo the escapes of a native string."""
    return re.sub(
        r"\\(?:x([0-9a-f]{2})|(.))",
        lambda match: chr(int(match[1], 16)) if match[1] else match[2],
        text,
    )


@given(method=TOKEN, target=TOKEN, version=TOKEN, host=NATIVE, referer=NATIVE, agent=NATIVE)
@pytest.mark.parametrize("name", ["combined", DEFAULT_FORMAT])
@pytest.mark.slow("soak")
def test_no_field_can_be_forged(
    name: str, method: str, target: str, version: str, host: str, referer: str, agent: str
) -> None:
    """Whatever a client sends, the usual expression finds the very values in their places."""
    environ = {"HTTP_REFERER": referer, "HTTP_USER_AGENT": agent}
    result = line(name, environ, method=method, target=target, version=version, client_host=host)
    assert result.isascii()
    assert result.isprintable()
    match = COMBINED.fullmatch(result)
    assert match is not None
    assert unescape(match["h"]) == (host or "-")
    assert unescape(match["r"]) == f"{method} {target} {version}"
    assert unescape(match["f"]) == (referer or "-")
    assert unescape(match["a"]) == (agent or "-")


@given(values=st.lists(NATIVE, min_size=7, max_size=7))
@pytest.mark.slow("soak")
def test_bare_fields_split_at_spaces(values: list[str]) -> None:
    """Outside quotes no value adds a field, not even one in a place that has no spaces."""
    method, target, version, user, agent, field, request_id = values
    text = "%(r)s %(u)s %(a)s %({x-y}i)s %(request_id)s %(U)s %(q)s"
    environ = {
        "HTTP_AUTHORIZATION": "Basic " + b64encode(user.encode("latin-1")).decode(),
        "HTTP_USER_AGENT": agent,
        "HTTP_X_Y": field,
    }
    facts = {"method": method, "target": target, "version": version, "request_id": request_id}
    fields = line(text, environ, **facts).split(" ")
    assert len(fields) == 9
    expected = [method, target, version, user.partition(":")[0], agent, field, request_id]
    assert [unescape(text) for text in fields[:7]] == [value or "-" for value in expected]


# JSON


@given(
    texts=st.lists(NATIVE, min_size=6, max_size=6),
    numbers=st.lists(st.integers(0, 2**40), min_size=3, max_size=3),
    times=st.lists(st.floats(0, 1e6), min_size=5, max_size=5),
)
@pytest.mark.slow("soak")
def test_json_round_trip(texts: list[str], numbers: list[int], times: list[float]) -> None:
    """A line of JSON is one object on one line, whose members are the facts."""
    host, method, target, request_id, referer, agent = texts
    port, status, size = numbers
    result = line(
        "json",
        {"HTTP_REFERER": referer, "HTTP_USER_AGENT": agent},
        client_host=host,
        client_port=port,
        method=method,
        target=target,
        status=status,
        response_bytes=size,
        request_id=request_id,
        **dict(zip(PHASES, times, strict=True)),
    )
    assert result.isascii()
    assert result.isprintable()
    assert json.loads(result) == {
        "level": "info",
        "logger": "aiowsgi.access",
        "pid": 42,
        "time": "2023-11-14T22:13:20.250Z",
        "client": host or None,
        "client_port": port or None,
        "user": None,
        "method": method or None,
        "target": target or None,
        "protocol": "HTTP/1.1",
        "status": status,
        "bytes": size,
        "referer": referer or None,
        "user_agent": agent or None,
        "request_id": request_id or None,
        "duration_ms": pytest.approx(times[0] * 1e3, abs=0.001),
        "queue_ms": pytest.approx(times[1] * 1e3, abs=0.001),
        "read_ms": pytest.approx(times[2] * 1e3, abs=0.001),
        "app_ms": pytest.approx(times[3] * 1e3, abs=0.001),
        "write_ms": pytest.approx(times[4] * 1e3, abs=0.001),
    }


# The table


def test_every_atom_gives_a_line() -> None:
    """Each expression evaluates, of a request that was read and of one that was not."""
    unread = RequestRecord(None, ("", 0), "id", 0.0, 0.0).refused(400, 0)
    for name in ATOMS:
        for text in (f"%({name})s", f'"%({name})s"'):
            assert line(text).strip('"')
            assert compile_format(text, str)(unread, None, {}).strip('"')


# Refused formats


@pytest.mark.parametrize("command", [["--check-config"], []])
def test_an_unknown_atom_is_found_before_anything_is_served(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a mistake of the command line like any other."""
    argv = ["hello:app", "--app-dir", "examples", "--access-logformat", "%(h)s %(duration)s"]
    assert main([*argv, *command]) == 2
    assert capsys.readouterr().err.startswith(
        "aiowsgi: --access-logformat: there is no atom %(duration)s; did you mean duration_ms?\n"
    )
