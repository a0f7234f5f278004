"""Parsers of single options: text to a value whose ``str()`` is its canonical text.

Each function is the ``parse`` of a `Parsed` option type and raises ValueError; the message
completes the sentence "--option: ...". Bind addresses are parsed in ``net/address.py``. Nothing is
opened, resolved or matched against a request here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final, NamedTuple

from aiowsgi.exceptions import ConfigError
from aiowsgi.net.address import TcpAddress, parse_bind
from aiowsgi.suggest import did_you_mean

__all__ = [
    "LOG_ATOMS",
    "LOG_FORMATS",
    "RouteLimit",
    "canonical_bind",
    "is_public",
    "parse_field_atom",
    "parse_log_format",
    "parse_path_prefix",
    "parse_route_limit",
    "parse_trusted_peer",
    "split_log_format",
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


# Logs

LOG_FORMATS: Final = ("timed", "combined", "common", "json")
"""Names of access log formats; ``logs/access_format.py`` defines them."""

LOG_ATOMS: Final = (
    *"hlutrmUqHsBbfaTMDLp",
    *("client_port", "request_id", "target"),
    *("duration_ms", "queue_ms", "read_ms", "app_ms", "write_ms"),
)
"""The atoms of access log formats, besides those of `parse_field_atom` (see ``logs/atoms.py``)."""


def parse_log_format(text: str) -> str:
    """Check the name of an access log format, or a format of ``%(atom)s`` such as gunicorn's."""
    if text in LOG_FORMATS:
        return text
    if "%" not in text:
        names = ", ".join(LOG_FORMATS)
        hint = did_you_mean(text, LOG_FORMATS)
        raise ValueError(f"{text!r} is none of {names}, and has no atom such as %(h)s{hint}")
    # Tabs are allowed as separators: the log escapes them in values.
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text):
        raise ValueError("a format may contain tabs, but no line end or other control character")
    for _, atom in split_log_format(text):
        if atom is not None and atom not in LOG_ATOMS and parse_field_atom(atom) is None:
            raise ValueError(f"there is no atom %({atom})s{_nearest_atom(atom)}")
    return text


def split_log_format(text: str) -> Iterator[tuple[str, str | None]]:
    """Split a format into pairs of literal text and the atom that follows it; the atom is None
    after a percent sign and at the end."""
    start = 0
    for match in re.finditer(r"%(?:(?P<percent>%)|\((?P<atom>[^()]*)\)s|)", text):
        before, start = text[start : match.start()], match.end()
        if match["percent"]:
            yield before + "%", None
        elif match["atom"] is not None:
            yield before, match["atom"]
        else:
            near = text[match.start() :][:12]
            raise ValueError(f"{near!r} does not begin with an atom; write %% for a percent sign")
    yield text[start:], None


def parse_field_atom(atom: str) -> tuple[str, str] | None:
    """Split an atom of a field or a variable: ``{name}i`` (request), ``{name}o`` (response) or
    ``{KEY}e`` (environ). Returns the name and the letter; None for another atom."""
    match = re.fullmatch(r"\{([^{}]+)\}([ioe])", atom)
    return None if match is None else (match[1], match[2])


def _nearest_atom(atom: str) -> str:
    if atom.startswith("{"):
        return "; write %({name}i)s, %({name}o)s or %({KEY}e)s"
    # For single letters, only the other case is a useful suggestion.
    near = did_you_mean(atom, LOG_ATOMS) or did_you_mean(atom.swapcase(), LOG_ATOMS)
    return near or f"; there are {', '.join(LOG_ATOMS)}, {{name}}i, {{name}}o and {{KEY}}e"
