"""Parses the PROXY protocol header, versions 1 and 2.

A sans-I/O parser of the header with which HAProxy, AWS and others begin a connection
(https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt, cited as PP). The caller checks that
the peer is trusted before it parses a header (``proxy/headers.py``): any client can write one.

The protocol forbids guessing whether a header is present (PP section 2), so it is required if the
option is on, and every deviation from the specification is refused.

Of the type-length-values (PP section 2.2), the checksum is verified, and the TLS value tells
whether the client uses TLS; the others are skipped. What they say about a client's certificate is
not used: it would be a common name that only the proxy vouches for.
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
    """The client. None if the header names none (LOCAL, UNKNOWN, a unix socket): the connection's
    own addresses then count."""
    destination: Endpoint | None
    """The address that the client connected to; None like ``source``."""
    rest: bytes
    """Bytes after the header that arrived with it."""
    tls: bool = False
    """The client uses TLS to the proxy; version 1 cannot tell."""


class ProxyHeaderParser:
    """Takes a connection's first bytes, in any pieces, until the header is complete."""

    def __init__(self) -> None:
        self._seen = bytearray()
        """All bytes so far; at most the maximum header and one piece."""

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take the next bytes; return the header, or None if it is incomplete.

        Do not call it after it has returned a header. Raises RequestError if the bytes are not a
        header; the connection is then closed without an answer (PP section 2).
        """
        self._seen += data
        # The first bytes decide, so that a client without a header is refused at once.
        if _SIGNATURE.startswith(self._seen[: len(_SIGNATURE)]):
            return _read_v2(self._seen)
        if _V1_START.startswith(self._seen[: len(_V1_START)]):
            return _read_v1(self._seen)
        raise RequestError(400, "The connection does not begin with a PROXY protocol header.")


# Version 1 (PP section 2.1)

_V1_START: Final = b"PROXY "

_V1_MAX: Final = 107
"""Maximum length of the line in bytes, including CRLF."""

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
    """Return whether the bytes contain a CR or LF that cannot be the beginning of the final
    CRLF."""
    return b"\n" in seen or b"\r" in seen[:-1]


def _v1_host(family: bytes, text: bytes) -> str:
    try:
        address_type = IPv4Address if family == b"4" else IPv6Address
        return str(parse_ip(str(address_type(text.decode("ascii")))))
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
"""Maximum size of addresses and type-length-values in bytes. The specification allows 65,535;
proxies send less than 4 KiB, even with a client certificate."""

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
        # The proxy itself connects, for example for a health check, or does not know the client. PP
        # section 2.2: the receiver ignores the family and everything after it.
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
    address_type = IPv4Address if len(address) == 4 else IPv6Address
    return Endpoint(str(parse_ip(str(address_type(address)))), int.from_bytes(port, "big"))


_V2_FAMILIES: Final[dict[int, tuple[int, Callable[[bytes], _Endpoints]]]] = {
    _UNSPECIFIED: (0, _no_endpoints),
    0x11: (12, _ipv4_endpoints),
    0x21: (36, _ipv6_endpoints),
    0x31: (216, _no_endpoints),  # unix sockets: two paths of 108 bytes
}
"""Family and transport → size of the addresses, and their parser. Datagram families cannot occur on
a stream connection and are refused."""


# Type-length-values (PP sections 2.2.3 and 2.2.6)

_CRC32C: Final = 0x03
_TLS: Final = 0x20

_CLIENT_TLS: Final = 0x01
"""The bit of the `_TLS` value that says that the client uses TLS."""

_TLS_FIXED: Final = 5
"""Fixed bytes of the `_TLS` value before its sub-values: flags and result of a verification."""


def _read_values(header: bytes, position: int) -> bool:
    """Parse the type-length-values; return whether the client uses TLS."""
    tls = False
    for tlv_type, start, end in _values(header, position):
        if tlv_type == _CRC32C:
            blank = header[:start] + bytes(4) + header[end:]
            if header[start:end] != _crc32c(blank).to_bytes(4, "big"):
                raise _malformed("2")
        elif tlv_type == _TLS:
            for _ in _values(header[:end], start + _TLS_FIXED):
                pass
            tls = header[start] & _CLIENT_TLS != 0
    return tls


def _values(data: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield the type, begin and end of each value up to the end of ``data``."""
    while position < len(data):
        start = position + 3
        end = start + int.from_bytes(data[position + 1 : start], "big")
        if end <= len(data):
            yield data[position], start, end
        position = end
    if position > len(data):
        raise _malformed("2")


def _crc32c(data: bytes) -> int:
    """Compute CRC32c (RFC 9260 appendix A), which PP cites by the number of an older RFC."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _crc32c_of((crc ^ byte) & 0xFF) ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _crc32c_of(byte: int) -> int:
    """Return the table entry of one byte; the polynomial's bits are reversed."""
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


def _malformed(version: str) -> RequestError:
    return RequestError(400, f"The PROXY protocol header, version {version}, is malformed.")
