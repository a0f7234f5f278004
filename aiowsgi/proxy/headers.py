"""Behind a proxy: who the client is, and by which scheme, host and prefix it came.

Sans-I/O: header fields and the peer's address go in, effective facts come out. The PROXY protocol,
which says the same before HTTP begins, is ``proxy/protocol.py``'s. Fields are the pairs of bytes
that ``http1`` yields; the grammar of their values stands in ``proxy/syntax.py``.

The law of this module: **nothing that a client can write changes anything.** What follows from it:

- Fields count only when the peer is trusted. An untrusted peer's are removed, so that the
  application cannot believe them either. So are, from any peer, spellings with an underscore
  (``X_Forwarded_For``), which CGI cannot tell from the real ones (RFC 3875 section 4.1.18).
- In X-Forwarded-For and Forwarded, proxies append on the right. From there, hops are passed over as
  long as they are trusted; **the right-most untrusted address is the client.** If all are trusted,
  it is the left-most. A hop that is no address (``unknown``, RFC 7239 section 6.2) hides all that
  is left of it, and the last address seen stands.
- The token ``*`` trusts whoever connects. It says nothing of the hops, any of which a client may
  have invented; these are trusted as addresses and networks only. With ``*`` alone, the client is
  what the nearest proxy saw.
- Of X-Forwarded-Proto, -Host, -Port and -Prefix the right-most value counts: that of the nearest
  proxy. Of Forwarded, the parameters that stand beside the client's address, which the proxy that
  saw the client wrote.
- Where any X-Forwarded field comes, Forwarded is ignored and removed. Most proxies write the
  former and pass the latter on as the client sent it.
- A value that a trusted peer sends and that makes no sense is answered with 400, rather than
  leaving the application with half a truth. Hops of X-Forwarded-For are the exception, as above.

What no server can know: whether a trusted proxy sets or removes each of these fields. One that does
neither passes the client's own on, and must be told to clear it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple, TypeAlias, TypeVar

from aiowsgi.exceptions import ConfigError, RequestError
from aiowsgi.net.address import parse_ip
from aiowsgi.proxy.syntax import (
    Node,
    parse_authority,
    parse_forwarded,
    parse_node,
    parse_port,
    parse_prefix,
    parse_scheme,
)

__all__ = [
    "DEFAULT_TRUSTED",
    "DirectPeer",
    "ForwardedInfo",
    "TrustedPeers",
    "apply_forwarded",
    "parse_trusted",
]

DEFAULT_TRUSTED: Final = "127.0.0.1,::1,unix"
"""This machine: what connects by loopback or by a unix socket is governed by its permissions."""

_Field: TypeAlias = tuple[bytes, bytes]
_T = TypeVar("_T")


# Whom to trust


class TrustedPeers:
    """The peers whose word is taken for the client's address; made by `parse_trusted`."""

    def __init__(
        self, networks: Iterable[IPv4Network | IPv6Network], *, unix: bool, everyone: bool
    ) -> None:
        self._networks = tuple(networks)
        self._unix = unix
        self._everyone = everyone
        self.trusts_hop: Callable[[str], bool] = lru_cache(_CACHED_HOSTS)(self._holds)
        """Whether an address that a proxy has written down is a trusted proxy's."""

    def trusts(self, peer_host: str | None) -> bool:
        """Whether who connects is trusted; None is the peer of a unix socket."""
        if self._everyone:
            return True
        return self._unix if peer_host is None else self.trusts_hop(peer_host)

    def _holds(self, host: str) -> bool:
        try:
            address = parse_ip(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


_CACHED_HOSTS: Final = 1024
"""Addresses whose answer is remembered: more than there are proxies, and few enough to forget."""


def parse_trusted(text: str) -> TrustedPeers:
    """Read a comma-separated list of addresses, networks, ``unix`` and ``*``.

    Empty trusts nobody. Raises ConfigError, which quotes the item at fault.
    """
    items = [item.strip() for item in text.split(",") if item.strip()]
    networks = [_parse_network(item) for item in items if item not in {"unix", "*"}]
    return TrustedPeers(networks, unix="unix" in items, everyone="*" in items)


def _parse_network(item: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(item if "/" in item else parse_ip(item))
    except ValueError as error:
        raise ConfigError(
            f"forwarded_allow_ips: {item!r} is no address, network, 'unix' or '*' ({error})"
        ) from None


# What the fields say


class DirectPeer(NamedTuple):
    """Who is connected, and how, before any header field is considered."""

    host: str | None
    """None for a unix socket."""
    port: int | None
    scheme: str
    """``http`` or ``https``."""


class ForwardedInfo(NamedTuple):
    """What holds for a request once the proxies have been heard."""

    client_host: str | None
    """``REMOTE_ADDR``; None where the client is known only as the peer of a unix socket."""
    client_port: int | None
    """``REMOTE_PORT``; None where a proxy did not tell."""
    scheme: str
    """``wsgi.url_scheme``."""
    host: str | None
    """The uri-host that the client asked for, without port; None: the request's own stands."""
    port: int | None
    """The port that the client connected to; None: the request's own, or the scheme's default
    where ``host`` is given."""
    prefix: str
    """To go before ``SCRIPT_NAME``: decoded, a latin-1 string as PEP 3333 has it, beginning with
    a slash and not ending with one; empty for none."""
    fields: list[_Field]
    """The request's fields without those that must not be believed."""

    @property
    def authority(self) -> str | None:
        """``HTTP_HOST``: host and port, the scheme's own port left out (RFC 9110 section 4.2.3)."""
        if self.host is None or self.port in {None, _DEFAULT_PORTS[self.scheme]}:
            return self.host
        return f"{self.host}:{self.port}"


_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_X_FOR: Final = b"x-forwarded-for"
_X_HOST: Final = b"x-forwarded-host"
_X_PORT: Final = b"x-forwarded-port"
_X_PREFIX: Final = b"x-forwarded-prefix"
_X_PROTO: Final = b"x-forwarded-proto"
_FORWARDED: Final = b"forwarded"

_NAMES: Final = frozenset({_X_FOR, _X_HOST, _X_PORT, _X_PREFIX, _X_PROTO, _FORWARDED})
_INITIALS: Final = frozenset(b"xXfF")


def apply_forwarded(fields: list[_Field], peer: DirectPeer, trusted: TrustedPeers) -> ForwardedInfo:
    """Work out what holds for a request.

    Raises RequestError with status 400 where a trusted peer sends a value that makes no sense.
    """
    # The first letter sorts out most names of a request before a new string is made of any.
    found = [
        field
        for field in fields
        if field[0][0] in _INITIALS and field[0].lower().replace(b"_", b"-") in _NAMES
    ]
    if not found:
        return ForwardedInfo(*peer, None, None, "", fields)
    values = _believed(found, peer, trusted)
    dropped = [field for field in found if field[0].lower() not in values]
    kept = [field for field in fields if field not in dropped] if dropped else fields
    if _FORWARDED in values:
        return _by_forwarded(values[_FORWARDED], peer, trusted, kept)
    return _by_x_forwarded(values, peer, trusted, kept)


def _believed(found: list[_Field], peer: DirectPeer, trusted: TrustedPeers) -> dict[bytes, str]:
    """The fields that count, by lower-case name, several lines of one joined (RFC 9110, 5.3)."""
    values: dict[bytes, str] = {}
    if not trusted.trusts(peer.host):
        return values
    for field_name, value in found:
        name, text = field_name.lower(), value.decode("latin-1")
        if name in _NAMES:
            values[name] = f"{values[name]},{text}" if name in values else text
    if len(values) > 1:
        values.pop(_FORWARDED, None)
    return values


def _by_x_forwarded(
    values: dict[bytes, str], peer: DirectPeer, trusted: TrustedPeers, kept: list[_Field]
) -> ForwardedInfo:
    hops = [hop for item in values.get(_X_FOR, "").split(",") if (hop := item.strip())]
    _, client = _walk(hops, trusted)
    nearest = {name: text.rpartition(",")[2].strip() for name, text in values.items()}
    scheme = _read(_X_PROTO, nearest.get(_X_PROTO), parse_scheme)
    host, port = _read(_X_HOST, nearest.get(_X_HOST), parse_authority) or (None, None)
    # The port in the host is the one in the client's URL; the other may be an inner port.
    port = port or _read(_X_PORT, nearest.get(_X_PORT), parse_port)
    prefix = _read(_X_PREFIX, nearest.get(_X_PREFIX), parse_prefix) or ""
    return ForwardedInfo(*(client or peer[:2]), scheme or peer.scheme, host, port, prefix, kept)


def _by_forwarded(
    text: str, peer: DirectPeer, trusted: TrustedPeers, kept: list[_Field]
) -> ForwardedInfo:
    elements = _read(_FORWARDED, text, parse_forwarded) or [{}]
    index, client = _walk([element.get("for", "") for element in elements], trusted)
    scheme = _read(_FORWARDED, elements[index].get("proto"), parse_scheme)
    host, port = _read(_FORWARDED, elements[index].get("host"), parse_authority) or (None, None)
    return ForwardedInfo(*(client or peer[:2]), scheme or peer.scheme, host, port, "", kept)


def _walk(hops: Sequence[str], trusted: TrustedPeers) -> tuple[int, Node | None]:
    """From right to left over trusted hops: where that ends, and the last address on the way.

    The hop at which it ends was still written down by a trusted proxy. None: no hop has an address,
    and the peer itself is all that is known.
    """
    client: Node | None = None
    for index in range(len(hops) - 1, -1, -1):
        node = parse_node(hops[index])
        if node is None:
            return index, client
        client = node
        if not trusted.trusts_hop(node.host):
            return index, client
    return 0, client


def _read(name: bytes, text: str | None, parse: Callable[[str], _T | None]) -> _T | None:
    """Parse a value of the field ``name``; None where it is absent or empty."""
    if not text:
        return None
    value = parse(text)
    if value is None:
        detail = f"a trusted proxy sent a malformed {name.decode()} field"
        raise RequestError(400, detail, keeps_connection=True)
    return value
