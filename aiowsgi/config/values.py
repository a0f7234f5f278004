"""Parsers of single options: text to a value whose ``str()`` is its canonical text.

Each function is the ``parse`` of a `Parsed` option type and raises ValueError; the message
completes the sentence "--option: ...". Bind addresses are parsed in ``net/address.py``. Nothing is
opened, resolved or matched against a request here.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Final, NamedTuple

from aiowsgi.exceptions import ConfigError
from aiowsgi.net.address import TcpAddress, parse_bind

__all__ = [
    "RouteLimit",
    "canonical_bind",
    "is_public",
    "parse_path_prefix",
    "parse_route_limit",
    "parse_trusted_peer",
]


# Addresses


def canonical_bind(text: str) -> str:
    """Return the canonical text of a bind address."""
    try:
        return str(parse_bind(text))
    except ConfigError as error:
        # The address may belong to an option other than bind; the caller adds the option's name.
        raise ValueError(str(error).removeprefix("bind: ")) from None


def is_public(bind: str) -> bool:
    """Return whether other machines may be able to connect to ``bind``.

    A host name counts as public, except localhost. An inherited descriptor counts as private: the
    process that opened it made the choice.
    """
    address = parse_bind(bind)
    if not isinstance(address, TcpAddress) or address.host == "localhost":
        return False
    try:
        return not ip_network(address.host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def parse_trusted_peer(text: str) -> str:
    """Check an address or network of proxies, ``unix`` (any unix socket) or ``*`` (any peer)."""
    if text not in {"*", "unix"}:
        try:
            ip_network(text)
        except ValueError as error:
            raise ValueError(f"{error}; write addresses, networks, 'unix' or '*'") from None
    return text


# Paths


class RouteLimit(NamedTuple):
    """A number of threads for the requests whose path matches one of the patterns."""

    patterns: tuple[str, ...]
    """Absolute paths; ``*`` matches any characters, including slashes."""
    threads: int

    def __str__(self) -> str:
        return f"{','.join(self.patterns)}={self.threads}"


_ROUTE_LIMIT: Final = re.compile(r"(/[^\s,=]*(?:,/[^\s,=]*)*)=([1-9][0-9]{0,5})")


def parse_route_limit(text: str) -> RouteLimit:
    """Parse ``/reports/*=2``, or ``/healthz,/login*=1`` for patterns that share the threads."""
    match = _ROUTE_LIMIT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a route limit; write /path/*=2 or /path,/other*=1")
    return RouteLimit(tuple(match[1].split(",")), int(match[2]))


def parse_path_prefix(text: str) -> str:
    """Parse a SCRIPT_NAME (PEP 3333): empty, or a path with a leading and no trailing slash."""
    prefix = text.rstrip("/")
    if prefix and not re.fullmatch(r"/[^\s?#]*", prefix):
        raise ValueError(f"{text!r} is not a path; it must begin with / and have no space, ? or #")
    return prefix
