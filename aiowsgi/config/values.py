"""The grammars of single options: text in, a value whose ``str()`` is its canonical text out.

Each function here is the ``grammar`` of a ``Parsed`` option and raises ValueError with words that
complete the sentence "--option: ...". Bind addresses have a module of their own
(``net/address.py``). Nothing is opened, resolved or matched against a request here.
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
    "bind_text",
    "field_atom",
    "format_parts",
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
"""Access log formats that have a name; ``logs/access_format.py`` knows what they hold."""

LOG_ATOMS: Final = (
    *"hlutrmUqHsBbfaTMDLp",
    *("client_port", "request_id", "target"),
    *("duration_ms", "queue_ms", "read_ms", "app_ms", "write_ms"),
)
"""Atoms of other formats, beside those of `field_atom`; ``logs/atoms.py`` knows what they say."""


def log_format(text: str) -> str:
    """The name of a format, or a format of ``%(atom)s`` such as gunicorn's."""
    if text in LOG_FORMATS:
        return text
    if "%" not in text:
        known = f"none of {', '.join(LOG_FORMATS)}, and has no atom such as %(h)s"
        raise ValueError(f"{text!r} is {known}{did_you_mean(text, LOG_FORMATS)}")
    # A tab may part the fields: no value can hold one.
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text):
        raise ValueError("a format may hold tabs, but no line end and no other control character")
    for _, atom in format_parts(text):
        if atom is not None and atom not in LOG_ATOMS and field_atom(atom) is None:
            raise ValueError(f"there is no atom %({atom})s{_nearest_atom(atom)}")
    return text


def format_parts(text: str) -> Iterator[tuple[str, str | None]]:
    """Cut a format up: pairs of its own text and of the atom behind that, None at a percent sign
    and at the end."""
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


def field_atom(atom: str) -> tuple[str, str] | None:
    """The name and the kind of ``{name}i`` (a request's field), ``{name}o`` (a response's) and
    ``{KEY}e`` (a variable of the environ); None for another atom."""
    match = re.fullmatch(r"\{([^{}]+)\}([ioe])", atom)
    return None if match is None else (match[1], match[2])


def _nearest_atom(atom: str) -> str:
    if atom.startswith("{"):
        return "; write %({name}i)s, %({name}o)s or %({KEY}e)s"
    # Of single letters only the case can be near.
    near = did_you_mean(atom, LOG_ATOMS) or did_you_mean(atom.swapcase(), LOG_ATOMS)
    return near or f"; there are {', '.join(LOG_ATOMS)}, {{name}}i, {{name}}o and {{KEY}}e"
