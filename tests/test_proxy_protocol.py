"""The PROXY protocol's header: both versions, in any pieces, and all that is not quite one."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiowsgi.exceptions import RequestError
from aiowsgi.proxy_protocol import Endpoint, ProxyHeader, ProxyHeaderParser

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, family: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + payload


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


IPV4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 4711, 443)
IPV6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.2")
    + struct.pack("!HH", 4711, 443)
)
ENDS4 = (Endpoint("192.0.2.1", 4711), Endpoint("192.0.2.2", 443))
ENDS6 = (Endpoint("2001:db8::1", 4711), Endpoint("192.0.2.2", 443))
NONE = (None, None)

GOOD: list[tuple[bytes, tuple[Endpoint | None, Endpoint | None]]] = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n", ENDS4),
    (b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 4711 443\r\n", ENDS6),
    (b"PROXY TCP6 2001:DB8:0::1 ::ffff:c000:202 4711 443\r\n", ENDS6),
    (
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        (Endpoint("0.0.0.0", 0), Endpoint("255.255.255.255", 65535)),
    ),
    (b"PROXY UNKNOWN\r\n", NONE),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", NONE),
    (b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n", NONE),
    (v2(0x21, 0x11, IPV4), ENDS4),
    (v2(0x21, 0x21, IPV6), ENDS6),
    (v2(0x21, 0x11, IPV4 + tlv(4, b"padding") + tlv(1, b"")), ENDS4),
    (v2(0x21, 0x21, IPV6 + tlv(0x20, bytes(300))), ENDS6),
    (v2(0x21, 0x11, IPV4 + tlv(4, bytes(8192 - 12 - 3))), ENDS4),
    (v2(0x21, 0x31, bytes(216)), NONE),
    (v2(0x21, 0x00, b""), NONE),
    (v2(0x21, 0x00, b"ignored"), NONE),
    (v2(0x20, 0x00, b""), NONE),
    (v2(0x20, 0x11, IPV4), NONE),
    (v2(0x20, 0xFF, b"ignored"), NONE),
]

BAD: list[bytes] = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"\n",
    b"proxy TCP4 192.0.2.1 192.0.2.2 4711 443\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY  TCP4 192.0.2.1 192.0.2.2 4711 443\r\n",
    b"PROXY TCP4  192.0.2.1 192.0.2.2 4711 443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443 \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\rX",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 04711 443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 -1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 111111\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 4711 443\r\n",
    b"PROXY TCP4 192.0.2 192.0.2.2 4711 443\r\n",
    b"PROXY TCP4 2001:db8::1 192.0.2.2 4711 443\r\n",
    b"PROXY TCP6 192.0.2.1 ::1 4711 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 4711 443\r\n",
    b"PROXY TCP5 192.0.2.1 192.0.2.2 4711 443\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.2 4711 443\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN \xff\r\n",
    b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
    b"PROXY UNKNOWN".ljust(107, b"x"),
    SIGNATURE[:-1] + b"\r",
    v2(0x11, 0x11, IPV4),
    v2(0x31, 0x11, IPV4),
    v2(0x22, 0x11, IPV4),
    v2(0x21, 0x12, IPV4),
    v2(0x21, 0x22, IPV6),
    v2(0x21, 0x32, bytes(216)),
    v2(0x21, 0x01, b""),
    v2(0x21, 0x10, b""),
    v2(0x21, 0x41, IPV4),
    v2(0x21, 0x11, IPV4[:-1]),
    v2(0x21, 0x21, IPV4),
    v2(0x21, 0x31, bytes(215)),
    v2(0x21, 0x11, IPV4 + b"\x04"),
    v2(0x21, 0x11, IPV4 + b"\x04\x00"),
    v2(0x21, 0x11, IPV4 + tlv(4, b"abc")[:-1]),
    v2(0x21, 0x11, IPV4 + b"\x04\xff\xff"),
    v2(0x21, 0x11, IPV4, 8193),
    v2(0x20, 0x00, b"", 65535),
]


def feed(pieces: list[bytes]) -> ProxyHeader | None:
    parser = ProxyHeaderParser()
    for number, piece in enumerate(pieces):
        header = parser.feed(piece)
        if header is not None:
            return header._replace(rest=header.rest + b"".join(pieces[number + 1 :]))
    return None


@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n\r\n", b"PROXY UNKNOWN\r\n", SIGNATURE])
@pytest.mark.parametrize(("data", "ends"), GOOD)
def test_good(data: bytes, ends: tuple[Endpoint | None, Endpoint | None], rest: bytes) -> None:
    """A header says who is at both ends, and hands on what is behind it, whole or byte by byte."""
    expected = ProxyHeader(*ends, rest)
    assert feed([data + rest]) == expected
    assert feed([bytes([byte]) for byte in data + rest]) == expected


@pytest.mark.parametrize(("data", "ends"), GOOD)
def test_incomplete(data: bytes, ends: object) -> None:
    """No beginning of a header is taken for a whole one, nor refused."""
    for size in {*range(min(len(data), 300)), len(data) - 1}:
        assert ProxyHeaderParser().feed(data[:size]) is None


@pytest.mark.parametrize("data", BAD)
def test_bad(data: bytes) -> None:
    """Whatever departs from the specification is refused, whole or byte by byte."""
    with pytest.raises(RequestError, match="PROXY protocol header"):
        feed([data])
    with pytest.raises(RequestError, match="PROXY protocol header"):
        feed([bytes([byte]) for byte in data])


@pytest.mark.parametrize("first", [b"G", b"\x16", b"\0", b"\n"])
def test_refused_at_once(first: bytes) -> None:
    """A client that sends no header is not waited for."""
    with pytest.raises(RequestError, match="does not begin with"):
        ProxyHeaderParser().feed(first)


@given(st.sampled_from(GOOD), st.binary(max_size=40), st.data())
def test_any_split(
    case: tuple[bytes, tuple[Endpoint | None, Endpoint | None]], rest: bytes, data: st.DataObject
) -> None:
    """Any pieces give the same header and the same rest."""
    whole = case[0] + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert feed(pieces) == ProxyHeader(*case[1], rest)


@given(st.binary(max_size=64), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE]))
def test_any_bytes(data: bytes, start: bytes) -> None:
    """Any bytes are a header, the beginning of one, or refused."""
    try:
        header = ProxyHeaderParser().feed(start + data)
    except RequestError:
        return
    assert header is None or (start + data).endswith(header.rest)
