"""The grammars of single options."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiowsgi.config.options import Config
from aiowsgi.config.values import (
    LOG_ATOMS,
    LOG_FORMATS,
    RouteLimit,
    bind_text,
    is_public,
    log_format,
    path_prefix,
    route_limit,
    trusted_peer,
)
from aiowsgi.logs.access_format import DEFAULT_FORMAT, NAMED_FORMATS
from aiowsgi.logs.atoms import NUMBERS, TEXTS
from aiowsgi.proxy.headers import DEFAULT_TRUSTED


@pytest.mark.parametrize(
    ("grammar", "text", "value"),
    [
        (bind_text, "127.0.0.1:80", "127.0.0.1:80"),
        (bind_text, "unix:/run/a.sock", "unix:/run/a.sock"),
        (trusted_peer, "10.0.0.1", "10.0.0.1"),
        (trusted_peer, "10.0.0.0/8", "10.0.0.0/8"),
        (trusted_peer, "fd00::/8", "fd00::/8"),
        (trusted_peer, "unix", "unix"),
        (trusted_peer, "*", "*"),
        (route_limit, "/reports/*=2", RouteLimit(("/reports/*",), 2)),
        (route_limit, "/healthz,/login*=1", RouteLimit(("/healthz", "/login*"), 1)),
        (path_prefix, "", ""),
        (path_prefix, "/", ""),
        (path_prefix, "/shop/", "/shop"),
        (log_format, "json", "json"),
        (log_format, '%(h)s "%(r)s"', '%(h)s "%(r)s"'),
        (log_format, "100%%\t%({Via}i)s é", "100%%\t%({Via}i)s é"),
    ],
)
def test_accept(grammar: Callable[[str], object], text: str, value: object) -> None:
    """Each grammar gives a value whose text the grammar gives the value for again."""
    assert grammar(text) == value
    assert grammar(str(value)) == value


@pytest.mark.parametrize(
    ("grammar", "text", "complaint"),
    [
        (bind_text, "nowhere", "cannot use 'nowhere'"),
        (trusted_peer, "proxy.example", "write addresses, networks, 'unix' or '*'"),
        (trusted_peer, "10.0.0.1/8", "host bits"),
        (route_limit, "/reports", "not of the form"),
        (route_limit, "reports=2", "not of the form"),
        (route_limit, "/reports=0", "not of the form"),
        (route_limit, "/a,b=1", "not of the form"),
        (path_prefix, "shop", "begins with /"),
        (path_prefix, "/a b", "begins with /"),
        (log_format, "combine", "did you mean combined?"),
        (log_format, "", "'' is none of timed, combined, common, json"),
        (log_format, "%(x)s", "there is no atom %(x)s; there are h, l, u, "),
        (log_format, "%(x)s", "write_ms, {name}i, {name}o and {KEY}e"),
        (log_format, "%(S)s", "there is no atom %(S)s; did you mean s?"),
        (log_format, "%(duration)s", "no atom %(duration)s; did you mean duration_ms?"),
        (log_format, "%()s", "there is no atom %()s"),
        (log_format, "%({x-y})s", "there is no atom %({x-y})s; write %({name}i)s"),
        (log_format, "%({x-y}z)s", "write %({name}i)s, %({name}o)s or %({KEY}e)s"),
        (log_format, "%({}i)s", "there is no atom"),
        (log_format, "%(h)s %s", "'%s' does not begin with an atom; write %% for a percent sign"),
        (log_format, "%(h)d", "'%(h)d' does not begin with an atom"),
        (log_format, "100%", "'%' does not begin with an atom"),
        (log_format, "%(h)s\n", "a format may hold tabs, but no line end"),
        (log_format, "%(h)s\x1b[0m", "no other control character"),
        (log_format, "%(h)s\ud800", "no other control character"),
    ],
)
def test_refuse(grammar: Callable[[str], object], text: str, complaint: str) -> None:
    """Text that is not of the grammar is a ValueError that says what is."""
    with pytest.raises(ValueError, match=r".") as caught:
        grammar(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("bind", "public"),
    [
        ("127.0.0.1:1", False),
        ("127.8.0.1:1", False),
        ("[::1]:1", False),
        ("localhost:1", False),
        ("unix:/x", False),
        ("fd://3", False),
        ("0.0.0.0:1", True),
        (":1", True),
        ("10.0.0.1:1", True),
        ("[fe80::1%eth0]:1", True),
        ("host.example:1", True),
    ],
)
def test_is_public(bind: str, public: bool) -> None:
    """Only loopback, localhost, unix sockets and inherited ones are out of others' reach."""
    assert is_public(bind) is public


def test_agreement() -> None:
    """The names and defaults are those of the modules that give them their meaning."""
    assert set(LOG_FORMATS) == set(NAMED_FORMATS)
    assert {*LOG_ATOMS} == {"l", "p", *NUMBERS, *TEXTS}
    assert Config().access_logformat == DEFAULT_FORMAT
    assert ",".join(Config().forwarded_allow_ips) == DEFAULT_TRUSTED
