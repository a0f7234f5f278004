"""Parses the values that proxies write: addresses, authorities, and Forwarded (RFC 7239).

Text in, values out; trust is decided in ``proxy/headers.py``. Each parser accepts a whole value or
nothing. For Forwarded, that is a matter of security: a client can send an opening quote that would
hide what the proxy appends; a lenient parser would then lose the proxy's element.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from aiowsgi.net.address import parse_ip

__all__ = [
    "Node",
    "parse_authority",
    "parse_forwarded",
    "parse_node",
    "parse_port",
    "parse_prefix",
    "parse_scheme",
]


class Node(NamedTuple):
    """An element of a field that has an address (RFC 7239 section 6)."""

    host: str
    """Canonical address; an IPv4-mapped IPv6 address becomes IPv4."""
    port: int | None


_NODE: Final = re.compile(
    r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]+))?"
)
_BARE_IPV6: Final = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*")
"""X-Forwarded-For has no specification; most proxies write IPv6 without brackets."""

_NODE_MAX: Final = 64
"""Maximum length in characters; no address with a port is longer. It also bounds the cache."""


def parse_node(text: str) -> Node | None:
    """Parse an element: an address with an optional port.

    Returns None if it has no address: ``unknown``, an obfuscated identifier, a malformed one.
    """
    return _parse_node(text) if len(text) <= _NODE_MAX else None


@lru_cache(1024)
def _parse_node(text: str) -> Node | None:
    host, port = text, None
    if not _BARE_IPV6.fullmatch(text):
        match = _NODE.fullmatch(text)
        if match is None or not (match[3] is None or parse_port(match[3])):
            return None
        host, port = match[1] or match[2], match[3]
    try:
        return Node(str(parse_ip(host)), int(port) if port else None)
    except ValueError:
        return None


# Values; None if they are malformed

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""Some proxies send the scheme of a WebSocket handshake, which is an HTTP request."""

_AUTHORITY: Final = re.compile(r"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_UNSAFE_IN_PREFIX: Final = re.compile(r"[\x00-\x1f\x7f\\]")


def parse_scheme(text: str) -> str | None:
    """Parse the scheme of a request: ``http`` or ``https``."""
    return _SCHEMES.get(text.lower())


def parse_port(text: str) -> int | None:
    """Parse a TCP port."""
    return int(text) if _PORT.fullmatch(text) and 0 < int(text) <= 65535 else None


def parse_authority(text: str) -> tuple[str, int | None] | None:
    """Parse ``uri-host [":" port]`` (RFC 9110 section 7.2)."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    host, digits = match.groups()
    port = parse_port(digits) if digits else None
    return None if digits and port is None else (host, port)


def parse_prefix(text: str) -> str | None:
    """Parse the path that a proxy has removed: decoded, latin-1, without a trailing slash.

    Returns None for a path that browsers take for another host (``//host``, ``/\\host``), because
    applications build links that begin with the prefix.
    """
    prefix = unquote_to_bytes(text.encode("latin-1")).decode("latin-1")
    if not prefix.startswith("/") or prefix.startswith("//") or _UNSAFE_IN_PREFIX.search(prefix):
        return None
    return prefix.rstrip("/")


# Forwarded (RFC 7239 section 4)

_PAIR: Final = re.compile(
    r"""[ \t]*+
    (?: (?P<name>  [!#$%&'*+.^_`|~0-9A-Za-z-]+ ) =
        (?: (?P<plain>  [!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]+ )   # colon, brackets: common, harmless
          | "(?P<quoted> (?: [^"\\] | \\. )*+ )" )
    )?
    [ \t]*+ (?P<end> [;,] | \Z )""",
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(.)")


def parse_forwarded(text: str) -> list[dict[str, str]] | None:
    """Parse a Forwarded field, its lines joined by commas: one dictionary for each proxy, in order.

    Parameter names are in lower case. None if any part is malformed.
    """
    elements: list[dict[str, str]] = [{}]
    position, end = 0, ","
    while end:
        match = _PAIR.match(text, position)
        if match is None:
            return None
        name, end = (match["name"] or "").lower(), match["end"]
        if name in elements[-1]:
            return None  # "MUST NOT occur more than once per field-value" (section 4)
        if name:
            elements[-1][name] = match["plain"] or _ESCAPE.sub(r"\1", match["quoted"] or "")
        if end == ",":
            elements.append({})
        position = match.end()
    return [element for element in elements if element]
