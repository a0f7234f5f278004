"""Who may see the admin endpoint."""

from __future__ import annotations

import pytest

from aiowsgi.admin.auth import Token, read_token, require_auth
from aiowsgi.admin.server import Answer
from aiowsgi.exceptions import ConfigError
from aiowsgi.http1.messages import Request

WORD = "correct-horse-battery"
HANDLERS = {"/": lambda _: Answer("page"), "/requests": lambda _: Answer("secret")}


def request(path="/requests", query="", host="127.0.0.1:9000", **fields):
    """A request for that path, with more fields."""
    lines = [(name.title().encode(), value.encode()) for name, value in fields.items()]
    return Request("GET", path, path, query, host, "HTTP/1.1", lines, 0, True, False)


def ask(asked, token=None):
    """The answer of the require_auth handlers."""
    return require_auth(HANDLERS, token)[asked.path](asked)


def status(*arguments):
    """Its status code."""
    return int(ask(*arguments).status.split()[0])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9000",
        "[::1]:9000",
        "[::1]",
        "localhost",
        "LOCALHOST:9",
        "192.0.2.1",
        "admin.localhost:9000",
        "",
    ],
)
def test_without_a_token_by_an_address(host):
    """Who names an address, or what can only be this machine, has not been led here by others."""
    assert ask(request(host=host)).body == "secret"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9000", "127.0.0.1.evil.example", "localhost.evil.example"],
)
@pytest.mark.parametrize("path", ["/", "/requests"])
def test_without_a_token_by_a_name(host, path):
    """A page of another site that points its name here gets nothing (DNS rebinding)."""
    assert status(request(path, host=host)) == 403


TOKEN = Token(WORD)
COOKIE = TOKEN.cookie[1].partition(";")[0]


@pytest.mark.parametrize(
    "asked",
    [
        request(authorization=f"Bearer {WORD}"),
        request(authorization=f"bearer  {WORD}"),
        request(query=f"a=b&token={WORD}"),
        request(cookie=COOKIE),
        request(cookie=f"theme=dark; {COOKIE}; a=b"),
        request(host="admin.example", authorization=f"Bearer {WORD}"),
    ],
)
def test_with_the_token(asked):
    """Shown in whichever way, it opens; the host is of no matter then."""
    assert ask(asked, TOKEN).body == "secret"


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(authorization="Bearer"),
        request(authorization=f"Bearer {WORD}x"),
        request(authorization=f"Bearer {WORD[:-1]}"),
        request(authorization=f"Basic {WORD}"),
        request(authorization=WORD),
        request(query="token="),
        request(query="token=%ff%00"),
        request(cookie=f"aiowsgi-admin={WORD}"),
        request(cookie="aiowsgi-admin="),
        request(cookie=f"x{COOKIE}"),
    ],
)
def test_without_the_token(asked):
    """The token itself is no cookie, and a part of it is nothing."""
    answer = ask(asked, TOKEN)
    assert (answer.status, answer.fields) == (
        "401 Unauthorized",
        (("WWW-Authenticate", 'Bearer realm="aiowsgi"'),),
    )
    assert "secret" not in answer.body


def test_the_door():
    """A browser is shown a form; with the token it gets a cookie and is led to a clean address."""
    form = ask(request("/"), TOKEN)
    assert form.status == "401 Unauthorized"
    assert "<form" in form.body
    assert "default-src 'none'" in dict(form.fields)["Content-Security-Policy"]
    for shown in (request("/", f"token={WORD}"), request("/", authorization=f"Bearer {WORD}")):
        answer = ask(shown, TOKEN)
        fields = dict(answer.fields)
        assert (answer.status, fields["Location"]) == ("303 See Other", "/")
        assert WORD not in fields["Set-Cookie"]
        assert fields["Set-Cookie"].endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert ask(request("/", cookie=COOKIE), TOKEN).body == "page"


def test_a_new_token_closes_the_door():
    """Cookies of an old one are worth nothing."""
    assert status(request(cookie=COOKIE), Token("another-horse-battery")) == 401


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"short\n", "one word of 16 characters"),
        (b"\n", "one word of 16 characters"),
        (b"correct horse battery\n", "one word of 16 characters"),
        ("correct-hörse-battery".encode(), "must be ASCII"),
        (None, "No such file"),
    ],
)
def test_bad_files(tmp_path, content, said):
    """A token that would protect nothing is an error of the configuration."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"admin-token-file: .*{said}"):
        read_token(str(path))


def test_a_good_file(tmp_path):
    """The end of the line is no part of it."""
    path = tmp_path / "token"
    path.write_text(f"{WORD}\n")
    assert read_token(str(path)) == WORD
