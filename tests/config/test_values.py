"""The parsers of single options."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiowsgi.config.options import Config
from aiowsgi.config.values import (
    RouteLimit,
    canonical_bind,
    is_public,
    parse_path_prefix,
    parse_route_limit,
    parse_trusted_peer,
)
from aiowsgi.proxy.headers import DEFAULT_TRUSTED


@pytest.mark.parametrize(
    ("grammar", "text", "value"),
    [
        (canonical_bind, "127.0.0.1:80", "127.0.0.1:80"),
        (canonical_bind, "unix:/run/a.sock", "unix:/run/a.sock"),
        (parse_trusted_peer, "10.0.0.1", "10.0.0.1"),
        (parse_trusted_peer, "10.0.0.0/8", "10.0.0.0/8"),
        (parse_trusted_peer, "fd00::/8", "fd00::/8"),
        (parse_trusted_peer, "unix", "unix"),
        (parse_trusted_peer, "*", "*"),
        (parse_route_limit, "/reports/*=2", RouteLimit(("/reports/*",), 2)),
        (parse_route_limit, "/healthz,/login*=1", RouteLimit(("/healthz", "/login*"), 1)),
        (parse_path_prefix, "", ""),
        (parse_path_prefix, "/", ""),
        (parse_path_prefix, "/shop/", "/shop"),
    ],
)
def test_accept(grammar: Callable[[str], object], text: str, value: object) -> None:
    """Each parser returns a value whose text parses to an equal value."""
    assert grammar(text) == value
    assert grammar(str(value)) == value


@pytest.mark.parametrize(
    ("grammar", "text", "complaint"),
    [
        (canonical_bind, "nowhere", "cannot use 'nowhere'"),
        (parse_trusted_peer, "proxy.example", "write addresses, networks, 'unix' or '*'"),
        (parse_trusted_peer, "10.0.0.1/8", "host bits"),
        (parse_route_limit, "/reports", "not a route limit"),
        (parse_route_limit, "reports=2", "not a route limit"),
        (parse_route_limit, "/reports=0", "not a route limit"),
        (parse_route_limit, "/a,b=1", "not a route limit"),
        (parse_path_prefix, "shop", "must begin with /"),
        (parse_path_prefix, "/a b", "must begin with /"),
    ],
)
def test_refuse(grammar: Callable[[str], object], text: str, complaint: str) -> None:
    """Text that does not match is a ValueError that says what is expected."""
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
    """Only loopback addresses, localhost, unix sockets and inherited sockets are private."""
    assert is_public(bind) is public


def test_agreement() -> None:
    """The names and defaults are those of the modules that use them."""
    assert ",".join(Config().forwarded_allow_ips) == DEFAULT_TRUSTED
