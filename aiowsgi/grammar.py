"""The grammars of single options: text in, a value whose ``str()`` is its canonical text out.

Each function here is the ``grammar`` of a ``Worded`` option and raises ValueError with words that
complete the sentence "--option: ...". Bind addresses have a module of their own (``address.py``).
Nothing is opened, resolved or matched against a request here.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Final, NamedTuple

from aiowsgi.address import TcpAddress, parse_bind
from aiowsgi.exceptions import ConfigError
from aiowsgi.kinds import did_you_mean

__all__ = [
    "LOG_FORMATS",
    "RouteLimit",
    "bind_text",
    "is_public",
    "log_format",
    "path_prefix",
    "route_limit",
    "trusted_peer",
]


# Addresses


def bind_text(text: str) -> str:
    """A bind address in its canonical spelling."""
    try:
        return str(parse_bind(text))
    except ConfigError as error:
        # The caller knows the option's name: it may be another one's address.
        raise ValueError(str(error).removeprefix("bind: ")) from None


def is_public(bind: str) -> bool:
    """Whether other machines may reach ``bind``; a name counts, unless it is localhost.

    An inherited descriptor counts as private: whoever bound it has decided.
    """
    address = parse_bind(bind)
    if not isinstance(address, TcpAddress) or address.host == "localhost":
        return False
    try:
        return not ip_network(address.host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def trusted_peer(text: str) -> str:
    """An address or a network of proxies, ``unix`` for every unix socket, ``*`` for everybody."""
    if text not in {"*", "unix"}:
        try:
            ip_network(text)
        except ValueError as error:
            raise ValueError(f"{error}; write addresses, networks, 'unix' or '*'") from None
    return text


# Paths


class RouteLimit(NamedTuple):
    """So many threads for requests whose path matches one of the patterns."""

    patterns: tuple[str, ...]
    """Absolute paths, where ``*`` stands for any characters, slashes included."""
    threads: int

    def __str__(self) -> str:
        return f"{','.join(self.patterns)}={self.threads}"


_ROUTE_LIMIT: Final = re.compile(r"(/[^\s,=]*(?:,/[^\s,=]*)*)=([1-9][0-9]{0,5})")


def route_limit(text: str) -> RouteLimit:
    """``/reports/*=2``, or ``/healthz,/login*=1`` where several patterns share the threads."""
    match = _ROUTE_LIMIT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not of the form /path/*=2 or /path,/other*=1")
    return RouteLimit(tuple(match[1].split(",")), int(match[2]))


def path_prefix(text: str) -> str:
    """The value of SCRIPT_NAME (PEP 3333): empty, or begins with a slash and ends without one."""
    prefix = text.rstrip("/")
    if prefix and not re.fullmatch(r"/[^\s?#]*", prefix):
        raise ValueError(f"{text!r} is not a path that begins with /")
    return prefix


# Logs

LOG_FORMATS: Final = ("timed", "combined", "common", "json")
"""Access log formats that have a name; ``access_log.py`` knows what they hold."""


def log_format(text: str) -> str:
    """The name of a format, or a format of ``%(atom)s`` such as gunicorn's."""
    if text not in LOG_FORMATS and "%" not in text:
        known = f"none of {', '.join(LOG_FORMATS)}, and has no atom such as %(h)s"
        raise ValueError(f"{text!r} is {known}{did_you_mean(text, LOG_FORMATS)}")
    return text
