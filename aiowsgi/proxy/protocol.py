"""The PROXY protocol, versions 1 and 2: who is behind the proxy, said before all else.

A sans-I/O parser of the header with which HAProxy, AWS and others open a connection
(https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt, cited as PP). Whether a peer may send
one is decided by its address before the parser is asked (``proxy/headers.py``): anybody can write a
header.

The protocol forbids guessing whether there is a header (PP section 2), so it is required where it
is switched on, and everything that departs from the specification is refused.

Of the type-length-values (PP section 2.2) the checksum is verified, and that of TLS says whether
the client speaks it; the others are skipped. What they tell of a client's certificate is not taken
over: that would be a common name, and nobody's word for it but the proxy's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

from aiowsgi.exceptions import RequestError
from aiowsgi.net.address import parse_ip

__all__ = ["Endpoint", "ProxyHeader", "ProxyHeaderParser"]


class Endpoint(NamedTuple):
    """One end of the connection between client and proxy."""

    host: str
    port: int


class ProxyHeader(NamedTuple):
    """A complete header."""

    source: Endpoint | None
    """The client. None where the header names none (LOCAL, UNKNOWN, a unix socket): then the
    connection's own addresses stand."""
    destination: Endpoint | None
    """What the client connected to; None like ``source``."""
    rest: bytes
    """Bytes behind the header that came with its last piece."""
    tls: bool = False
    """The client speaks TLS with the proxy; version 1 cannot tell."""


class ProxyHeaderParser:
    """Takes a connection's first bytes, in any pieces, until the header is complete."""

    def __init__(self) -> None:
        self._seen = bytearray()
        """All bytes so far; at most a header's maximum and one piece."""

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take the next bytes; None asks for more. Not to be called after a header was returned.

        Raises RequestError for what is not a header; the connection is then closed without an
        answer (PP section 2).
        """
        self._seen += data
        # Told by their first bytes, so that a client without a header is refused at once.
        if _SIGNATURE.startswith(self._seen[: len(_SIGNATURE)]):
            return _read_v2(self._seen)
        if _V1_START.startswith(self._seen[: len(_V1_START)]):
            return _read_v1(self._seen)
        raise RequestError(400, "the connection does not begin with a PROXY protocol header")


# Version 1 (PP section 2.1)

_V1_START: Final = b"PROXY "

_V1_MAX: Final = 107
"""Bytes of the longest line, its CRLF included."""

_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [ -~]*)?")
_V1_KNOWN: Final = re.compile(rb"PROXY TCP([46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (\d+) (\d+)")
_V1_PORT: Final = re.compile(rb"0|[1-9]\d{0,4}")


def _read_v1(seen: bytearray) -> ProxyHeader | None:
    end = seen.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(seen) >= _V1_MAX or _has_line_end(seen):
            raise _malformed("1")
        return None
    line, rest = bytes(seen[:end]), bytes(seen[end + 2 :])
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(None, None, rest)
    match = _V1_KNOWN.fullmatch(line)
    if match is None:
        raise _malformed("1")
    family, source, destination, source_port, destination_port = match.groups()
    return ProxyHeader(
        Endpoint(_v1_host(family, source), _v1_port(source_port)),
        Endpoint(_v1_host(family, destination), _v1_port(destination_port)),
        rest,
    )


def _has_line_end(seen: bytearray) -> bool:
    """A CR or LF which cannot be the beginning of the CRLF that is still to come."""
    return b"\n" in seen or b"\r" in seen[:-1]


def _v1_host(family: bytes, text: bytes) -> str:
    try:
        kind = IPv4Address if family == b"4" else IPv6Address
        return str(parse_ip(str(kind(text.decode("ascii")))))
    except AddressValueError:
        raise _malformed("1") from None


def _v1_port(text: bytes) -> int:
    if not _V1_PORT.fullmatch(text) or int(text) > 65535:
        raise _malformed("1")
    return int(text)


# Version 2 (PP section 2.2)

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

_V2_FIXED: Final = 16
"""Bytes before the addresses: signature, version and command, family, length."""

_V2_MAX: Final = 8192
"""Bytes of addresses and type-length-values. The specification allows 65,535; what is sent in
practice stays below 4 KiB even with a client certificate in it."""

_LOCAL: Final = 0x20
_PROXY: Final = 0x21

_UNSPECIFIED: Final = 0x00


def _read_v2(seen: bytearray) -> ProxyHeader | None:
    if len(seen) < _V2_FIXED:
        return None
    command, family, length = seen[12], seen[13], int.from_bytes(seen[14:16], "big")
    known = command == _LOCAL or (command == _PROXY and family in _V2_FAMILIES)
    if not known or length > _V2_MAX:
        raise _malformed("2")
    end = _V2_FIXED + length
    if len(seen) < end:
        return None
    header, rest = bytes(seen[:end]), bytes(seen[end:])
    if command == _LOCAL or family == _UNSPECIFIED:
        # The proxy speaks for itself, as for a health check, or does not know: the specification
        # has the family and all that follows ignored.
        return ProxyHeader(None, None, rest)
    size, endpoints = _V2_FAMILIES[family]
    tls = _read_values(header, _V2_FIXED + size)
    return ProxyHeader(*endpoints(header[_V2_FIXED:]), rest, tls)


_Endpoints = tuple[Endpoint | None, Endpoint | None]


def _no_endpoints(payload: bytes) -> _Endpoints:  # noqa: ARG001 - one signature for all families
    return None, None


def _ipv4_endpoints(payload: bytes) -> _Endpoints:
    return _v2_endpoint(payload[0:4], payload[8:10]), _v2_endpoint(payload[4:8], payload[10:12])


def _ipv6_endpoints(payload: bytes) -> _Endpoints:
    return _v2_endpoint(payload[0:16], payload[32:34]), _v2_endpoint(payload[16:32], payload[34:36])


def _v2_endpoint(address: bytes, port: bytes) -> Endpoint:
    kind = IPv4Address if len(address) == 4 else IPv6Address
    return Endpoint(str(parse_ip(str(kind(address)))), int.from_bytes(port, "big"))


_V2_FAMILIES: Final[dict[int, tuple[int, Callable[[bytes], _Endpoints]]]] = {
    _UNSPECIFIED: (0, _no_endpoints),
    0x11: (12, _ipv4_endpoints),
    0x21: (36, _ipv6_endpoints),
    0x31: (216, _no_endpoints),  # unix sockets: two paths of 108 bytes
}
"""Family and transport → size of the addresses, and what they say. Datagrams are no such thing as
a connection of ours, so their numbers are refused."""


# Type-length-values (PP sections 2.2.3 and 2.2.6)

_CRC32C: Final = 0x03
_TLS: Final = 0x20

_CLIENT_TLS: Final = 0x01
"""The bit by which the value of `_TLS` says that the client speaks it."""

_TLS_FIXED: Final = 5
"""Bytes of that value before values of its own: the bits, and the outcome of a verification."""


def _read_values(header: bytes, position: int) -> bool:
    """Read what is behind the addresses; whether the client speaks TLS."""
    tls = False
    for kind, start, end in _values(header, position):
        if kind == _CRC32C:
            blank = header[:start] + bytes(4) + header[end:]
            if header[start:end] != _crc32c(blank).to_bytes(4, "big"):
                raise _malformed("2")
        elif kind == _TLS:
            for _ in _values(header[:end], start + _TLS_FIXED):
                pass
            tls = header[start] & _CLIENT_TLS != 0
    return tls


def _values(data: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """The type of each value, where it begins and where it ends: the last one with ``data``."""
    while position < len(data):
        start = position + 3
        end = start + int.from_bytes(data[position + 1 : start], "big")
        if end <= len(data):
            yield data[position], start, end
        position = end
    if position > len(data):
        raise _malformed("2")


def _crc32c(data: bytes) -> int:
    """The checksum of RFC 9260 (appendix A), which PP cites by the number of its predecessor."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _crc32c_of((crc ^ byte) & 0xFF) ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _crc32c_of(byte: int) -> int:
    """What one byte comes to; the polynomial's bits are in reverse."""
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


def _malformed(version: str) -> RequestError:
    return RequestError(400, f"malformed PROXY protocol header, version {version}")
