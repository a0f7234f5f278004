"""Applies the X-Forwarded-* and Forwarded fields of trusted proxies.

Sans-I/O: header fields and the peer's address go in; the effective address, scheme, host and prefix
come out. The PROXY protocol, which carries similar facts before HTTP begins, is parsed in
``proxy/protocol.py``, the values of the fields in ``proxy/syntax.py``.

The guarantee: **nothing that an untrusted client can write has an effect.** It follows that:

- Fields count only if the peer is trusted. Those of an untrusted peer are removed, so that the
  application cannot use them either. Spellings with an underscore (``X_Forwarded_For``), which CGI
  variables do not distinguish (RFC 3875 section 4.1.18), are removed from any peer.
- Proxies append to X-Forwarded-For and Forwarded on the right. Read from the right, addresses of
  trusted proxies are skipped; **the right-most untrusted address is the client.** If all are
  trusted, it is the left-most. An element that is not an address (``unknown``, RFC 7239 section
  6.2) ends the search, and the last address found is the client.
- ``*`` trusts any peer, but no address in these fields, which a client may have invented; they are
  trusted only by address or network. With ``*`` alone, the client is the address that the nearest
  proxy added.
- Of X-Forwarded-Proto, -Host, -Port and -Prefix the right-most value counts: that of the nearest
  proxy. Of Forwarded, the parameters in the element with the client's address count: the proxy that
  the client connected to wrote them.
- If any X-Forwarded field is present, Forwarded is ignored and removed. Most proxies write the
  former and pass the latter on unchanged.
- A malformed value from a trusted peer is answered 400, so that the application never gets half of
  the facts. Elements of X-Forwarded-For are the exception, as above.

No server can know whether a trusted proxy sets or removes each of these fields. A proxy that does
neither passes the client's own field on; configure it to remove the field.

Parsing takes linear time in the size of the fields.
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
"""The default list: this machine. Permissions of the machine protect loopback and unix sockets."""

_Field: TypeAlias = tuple[bytes, bytes]
_T = TypeVar("_T")


# Trusted peers


class TrustedPeers:
    """The trusted proxies, made by `parse_trusted`."""

    def __init__(
        self, networks: Iterable[IPv4Network | IPv6Network], *, unix: bool, everyone: bool
    ) -> None:
        self._networks = tuple(networks)
        self._unix = unix
        self._everyone = everyone
        self.trusts_hop: Callable[[str], bool] = lru_cache(_CACHED_HOSTS)(self._holds)
        """Whether an address in a proxy's field is that of a trusted proxy."""

    def trusts(self, peer_host: str | None) -> bool:
        """Return whether a peer is trusted; None stands for the peer of a unix socket."""
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
"""Number of addresses whose result is cached; more than a site has proxies."""


def parse_trusted(text: str) -> TrustedPeers:
    """Parse a comma-separated list of addresses, networks, ``unix`` and ``*``.

    An empty list trusts no peer. Raises ConfigError that quotes the wrong item.
    """
    items = [item.strip() for item in text.split(",") if item.strip()]
    networks = [_parse_network(item) for item in items if item not in {"unix", "*"}]
    return TrustedPeers(networks, unix="unix" in items, everyone="*" in items)


def _parse_network(item: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(item if "/" in item else parse_ip(item))
    except ValueError as error:
        raise ConfigError(
            f"forwarded_allow_ips: {item!r} is not an address, a network, 'unix' or '*' ({error})"
        ) from None


# The effective facts


class DirectPeer(NamedTuple):
    """The peer of the connection, before header fields are considered."""

    host: str | None
    """Address; None for a unix socket."""
    port: int | None
    scheme: str
    """``http`` or ``https``."""


class ForwardedInfo(NamedTuple):
    """The effective facts of a request after the fields of trusted proxies are applied."""

    client_host: str | None
    """``REMOTE_ADDR``; None if the client is only known as the peer of a unix socket."""
    client_port: int | None
    """``REMOTE_PORT``; None if no proxy sent it."""
    scheme: str
    """``wsgi.url_scheme``."""
    host: str | None
    """The host that the client requested, without port; None: that of the request."""
    port: int | None
    """The port that the client connected to; None: that of the request, or the scheme's default
    port if ``host`` is given."""
    prefix: str
    """Prefix of ``SCRIPT_NAME``: decoded, latin-1 as PEP 3333 requires, with a leading and no
    trailing slash; empty for none."""
    fields: list[_Field]
    """The request's fields without those that are not trusted."""

    @property
    def authority(self) -> str | None:
        """``HTTP_HOST``: host and port, without the scheme's default port (RFC 9110 section
        4.2.3)."""
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
    """Apply the fields of trusted proxies to a request.

    Raises RequestError(400) for a malformed value from a trusted peer. Returns the same list of
    fields if nothing is removed.
    """
    # The first letter excludes most names before a new string is created.
    found = [
        field
        for field in fields
        if field[0][0] in _INITIALS and field[0].lower().replace(b"_", b"-") in _NAMES
    ]
    if not found:
        return ForwardedInfo(*peer, None, None, "", fields)
    values = _trusted_values(found, peer, trusted)
    dropped = {name for name, _ in found if name.lower() not in values}
    kept = [field for field in fields if field[0] not in dropped] if dropped else fields
    if _FORWARDED in values:
        return _by_forwarded(values[_FORWARDED], peer, trusted, kept)
    return _by_x_forwarded(values, peer, trusted, kept)


def _trusted_values(
    found: list[_Field], peer: DirectPeer, trusted: TrustedPeers
) -> dict[bytes, str]:
    """Return the values of the trusted fields by lower-case name; several lines of a field are
    joined (RFC 9110 section 5.3)."""
    lines: dict[bytes, list[bytes]] = {}
    if not trusted.trusts(peer.host):
        return {}
    for name, value in found:
        if name.lower() in _NAMES:
            lines.setdefault(name.lower(), []).append(value)
    if len(lines) > 1:
        lines.pop(_FORWARDED, None)
    return {name: b",".join(values).decode("latin-1") for name, values in lines.items()}


def _by_x_forwarded(
    values: dict[bytes, str], peer: DirectPeer, trusted: TrustedPeers, kept: list[_Field]
) -> ForwardedInfo:
    hops = [hop for item in values.get(_X_FOR, "").split(",") if (hop := item.strip())]
    _, client = _walk(hops, trusted)
    nearest = {name: text.rpartition(",")[2].strip() for name, text in values.items()}
    scheme = _read(_X_PROTO, nearest.get(_X_PROTO), parse_scheme)
    host, port = _read(_X_HOST, nearest.get(_X_HOST), parse_authority) or (None, None)
    # The port in X-Forwarded-Host is that of the client's URL; X-Forwarded-Port may be an inner
    # port.
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
    """Skip trusted addresses from right to left; return the index where that ends, and the client.

    A trusted proxy wrote the element at that index. The client is None if no element is an address;
    then only the peer is known.
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
    """Parse a value of the field ``name``; None if it is absent or empty."""
    if not text:
        return None
    value = parse(text)
    if value is None:
        detail = f"A trusted proxy sent a malformed {name.decode().title()} field."
        raise RequestError(400, detail, keeps_connection=True)
    return value
