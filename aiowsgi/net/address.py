"""Parses bind addresses: the values of ``--bind`` and ``--admin``.

Text becomes one of three frozen values and can be converted back. Nothing is resolved or opened, so
``--check-config`` works on another machine than the one that will bind the address. `parse_ip`
parses the addresses of peers for the whole project. Sockets belong to ``net/listeners.py``.

============================  ==================================================================
``host:port``                 an IPv4 address or a name; the name is resolved when it is bound
``[::1]:port``                an IPv6 address, with an optional zone (``%eth0``)
``:port``                     all interfaces, IPv6 and IPv4
``unix:path``, ``unix:@name``  a unix socket; the second form is in Linux's abstract namespace
``fd://n``                    a listening socket that the process has inherited
============================  ==================================================================

``str()`` of a value is its canonical text, which parses to an equal value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from aiowsgi.exceptions import ConfigError

__all__ = ["BindAddress", "FdAddress", "TcpAddress", "UnixAddress", "parse_bind", "parse_ip"]


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port on one host or on all interfaces."""

    host: str
    """An IPv4 address, an IPv6 address without brackets, a name, or empty for all interfaces."""
    port: int
    """The port; 0 lets the kernel choose one."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, scheme: str = "http") -> str:
        """Return the address as a URL for the start-up line; RFC 6874 writes a zone with
        ``%25``."""
        authority = str(TcpAddress(self.host or "::", self.port))
        return f"{scheme}://{authority.replace('%', '%25')}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix stream socket."""

    path: str
    """A path of the file system, or ``@`` and a name of the abstract namespace."""

    @property
    def abstract(self) -> bool:
        """Whether the socket has no file (unix(7)); the kernel removes the name by itself."""
        return self.path.startswith("@")

    def __str__(self) -> str:
        return f"unix:{self.path}"

    def url(self, scheme: str = "http") -> str:  # noqa: ARG002 - no URL scheme names a unix socket
        """Return the canonical text, the form used in the configuration of curl and of proxies."""
        return str(self)


@dataclass(frozen=True, slots=True)
class FdAddress:
    """A listening socket inherited as a file descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"

    def url(self, scheme: str = "http") -> str:  # noqa: ARG002 - what it is bound to is not known yet
        """Return the canonical text; the bound address is known only after opening."""
        return str(self)


BindAddress: TypeAlias = TcpAddress | UnixAddress | FdAddress


def parse_bind(text: str) -> BindAddress:
    """Parse a bind address in any of the forms above.

    Raises ConfigError; the message quotes ``text`` and says how to write it.
    """
    if text.startswith("unix:"):
        return _parse_unix(text)
    if text.startswith("fd:"):
        return _parse_fd(text)
    return _parse_tcp(text)


def parse_ip(text: str) -> IPv4Address | IPv6Address:
    """Parse the IP address of a peer; an IPv4-mapped IPv6 address becomes IPv4.

    A dual-stack socket reports an IPv4 client as ``::ffff:192.0.2.1`` (RFC 4291 section 2.5.5.2). A
    rule for 192.0.2.1 must match it. Raises ValueError.
    """
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


# The three forms

_PORT: Final = re.compile(r"[0-9]{1,5}")
_DESCRIPTOR: Final = re.compile(r"fd://([0-9]{1,7})")

_NAME: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_-]{1,63}\.?")
"""RFC 1123 section 2.1, and the underscore, which container networks use."""

_LIKE_IPV4: Final = re.compile(r"(?:.*\.)?[0-9]+\.?")
"""A name whose last label is digits must be an IPv4 address: no such top-level domain exists."""

_NAME_MAX: Final = 253
"""Maximum length of a name (RFC 1035 section 2.3.4, without the root's length octet)."""


def _parse_unix(text: str) -> UnixAddress:
    path = text.removeprefix("unix:").removeprefix("//")
    if path in {"", "@"}:
        raise _bad(text, "a path must follow 'unix:', as in unix:/run/app.sock")
    if "\0" in path:
        raise _bad(text, "a path cannot hold a NUL")
    return UnixAddress(path)


def _parse_fd(text: str) -> FdAddress:
    match = _DESCRIPTOR.fullmatch(text)
    if match is None:
        raise _bad(text, "a descriptor is written fd://3")
    return FdAddress(int(match[1]))


def _parse_tcp(text: str) -> TcpAddress:
    if "/" in text:
        raise _bad(text, "write host:port without a scheme or path, or unix:path for a unix socket")
    host, colon, port = text.rpartition(":")
    if not colon or (host.startswith("[") and not host.endswith("]")):
        hint = f":{text}" if _PORT.fullmatch(text) else f"{text or '127.0.0.1'}:8000"
        raise _bad(text, f"the port is missing; did you mean {hint}?")
    return TcpAddress(_parse_host(text, host), _parse_port(text, port))


def _parse_port(text: str, port: str) -> int:
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise _bad(text, f"{port!r} is not a port from 0 to 65535")
    return int(port)


def _parse_host(text: str, host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        return _parse_ipv6(text, host[1:-1])
    if ":" in host:
        raise _bad(text, "an IPv6 address is written in brackets, as in [::1]:8000")
    if host == "*":
        raise _bad(text, "all interfaces are written without a host, as in :8000")
    if _LIKE_IPV4.fullmatch(host):
        return _parse_ipv4(text, host)
    name = host.lower()
    if host and (len(host) > _NAME_MAX or not _NAME.fullmatch(name)):
        raise _bad(text, f"{host!r} is neither an IP address nor a host name")
    return name


def _parse_ipv4(text: str, host: str) -> str:
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise _bad(text, f"{host!r} is not an IPv4 address") from None


def _parse_ipv6(text: str, host: str) -> str:
    try:
        return str(IPv6Address(host))
    except AddressValueError:
        raise _bad(text, f"{host!r} is not an IPv6 address") from None


def _bad(text: str, reason: str) -> ConfigError:
    return ConfigError(f"bind: cannot use {text!r}: {reason}")
