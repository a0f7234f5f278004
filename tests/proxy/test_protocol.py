"""The PROXY protocol's header: both versions, in any pieces, and all that is not quite one."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiowsgi.exceptions import RequestError
from aiowsgi.proxy.protocol import Endpoint, ProxyHeader, ProxyHeaderParser

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, family: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + payload


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def client_tls(bits: int, *values: bytes) -> bytes:
    """The value that tells of a client's TLS; its certificate, if any, was not verified."""
    return tlv(0x20, struct.pack("!BI", bits, 1) + b"".join(values))


def summed(*values: bytes, before: bytes = b"") -> bytes:
    """A header with a checksum among its values."""
    tail = b"".join(values)
    header = v2(0x21, 0x11, IPV4 + before + tlv(3, bytes(4)) + tail)
    at = len(header) - len(tail)
    return header[: at - 4] + crc32c(header).to_bytes(4, "big") + header[at:]


def crc32c(data: bytes) -> int:
    """Bit by bit, by the definition: a division of polynomials (RFC 9260 appendix A)."""
    bits = [byte >> n & 1 for byte in data for n in range(8)] + [0] * 32
    bits[:32] = [bit ^ 1 for bit in bits[:32]]
    remainder = 0
    for bit in bits:
        remainder = (remainder << 1 | bit) ^ 0x11EDC6F41 * (remainder >> 31)
    return int(f"{remainder:032b}"[::-1], 2) ^ 0xFFFFFFFF


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
    (v2(0x21, 0x21, IPV6 + tlv(0x22, bytes(300))), ENDS6),
    (v2(0x21, 0x11, IPV4 + tlv(0xEA, b"\xff\xff\xff") + tlv(4, b"")), ENDS4),
    (summed(), ENDS4),
    (summed(tlv(5, b"id"), before=tlv(4, b"a")), ENDS4),
    # As HAProxy 2.6 sends it, with all its options.
    (
        bytes.fromhex(
            "0d0a0d0a000d0a515549540a211100507f0000017f00000187b4b6ab03000426aeabb602000c73686f702e"
            "6578616d706c650500002000280100000000210007544c5376312e33230016544c535f4145535f3235365f"
            "47434d5f534841333834"
        ),
        (Endpoint("127.0.0.1", 34740), Endpoint("127.0.0.1", 46763)),
    ),
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
    v2(0x21, 0x11, IPV4 + tlv(3, bytes(4))),
    v2(0x21, 0x11, IPV4 + tlv(3, b"")),
    v2(0x21, 0x11, IPV4 + tlv(3, bytes(3))),
    v2(0x21, 0x11, IPV4 + tlv(3, bytes(5))),
    summed()[:-1] + bytes([summed()[-1] ^ 1]),
    # Of another client, or with more behind it, than its checksum is of.
    summed().replace(IPV4, IPV4[::-1]),
    v2(0x21, 0x11, summed()[16:] + tlv(4, b"")),
    v2(0x21, 0x11, IPV4 + tlv(0x20, b"")),
    v2(0x21, 0x11, IPV4 + tlv(0x20, b"\x01\0\0\0")),
    v2(0x21, 0x11, IPV4 + client_tls(1, b"\x21")),
    v2(0x21, 0x11, IPV4 + client_tls(1, b"\x21\0")),
    v2(0x21, 0x11, IPV4 + client_tls(1, tlv(0x21, b"TLSv1.3")[:-1])),
    # A value of its own must end with it, not with the header.
    v2(0x21, 0x11, IPV4 + client_tls(1, tlv(0x21, b"TLSv1.3")[:-1]) + tlv(4, b"")),
    v2(0x21, 0x11, IPV4, 8193),
    v2(0x20, 0x00, b"", 65535),
]


def feed(pieces: list[bytes]) -> ProxyHeader:
    """The header, with all that is behind it."""
    parser = ProxyHeaderParser()
    for number, piece in enumerate(pieces):
        header = parser.feed(piece)
        if header is not None:
            return header._replace(rest=header.rest + b"".join(pieces[number + 1 :]))
    raise AssertionError("the header is not complete")


@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n\r\n", b"PROXY UNKNOWN\r\n", SIGNATURE])
@pytest.mark.parametrize(("data", "ends"), GOOD)
def test_good(data: bytes, ends: tuple[Endpoint | None, Endpoint | None], rest: bytes) -> None:
    """A header says who is at both ends, and hands on what is behind it, whole or byte by byte."""
    expected = (*ends, rest)
    assert feed([data + rest])[:3] == expected
    assert feed([bytes([byte]) for byte in data + rest])[:3] == expected


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


@pytest.mark.parametrize(
    ("values", "tls"),
    [
        (b"", False),
        (client_tls(0), False),
        (client_tls(0x06), False),
        (client_tls(0x01), True),
        (client_tls(0x07, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"ann"), tlv(0xFF, b"")), True),
        (tlv(4, b"a") + client_tls(0x01, tlv(0x21, b"TLSv1.2")) + tlv(2, b"shop.example"), True),
        (tlv(0x21, b"TLSv1.3"), False),
    ],
)
@pytest.mark.parametrize(("family", "addresses"), [(0x11, IPV4), (0x21, IPV6), (0x31, bytes(216))])
def test_client_tls(values: bytes, tls: bool, family: int, addresses: bytes) -> None:
    """Whether the client speaks TLS with the proxy is told by one bit of one value."""
    assert feed([v2(0x21, family, addresses + values)]).tls is tls


@pytest.mark.parametrize("values", [client_tls(1), client_tls(1)[:-1], tlv(3, bytes(4))])
@pytest.mark.parametrize(("command", "family"), [(0x20, 0x11), (0x21, 0x00)])
def test_nothing_is_read_of_a_header_that_names_nobody(
    values: bytes, command: int, family: int
) -> None:
    """All of it is to be ignored where the proxy speaks for itself, or knows no addresses."""
    assert feed([v2(command, family, IPV4 + values)]) == ProxyHeader(None, None, b"", tls=False)


@given(st.binary(max_size=40), st.data())
def test_any_wrong_bit_fails_the_checksum(value: bytes, data: st.DataObject) -> None:
    """Of the addresses, of the checksum, and of what is behind it."""
    good = summed(tlv(5, value))
    assert feed([good]) == ProxyHeader(*ENDS4, b"")
    # One of the checksum's type would hide it.
    places = [place for place in range(16, len(good)) if place != 16 + len(IPV4)]
    place, bit = data.draw(st.sampled_from(places)), data.draw(st.integers(0, 7))
    bad = good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :]
    with pytest.raises(RequestError, match="PROXY protocol header"):
        feed([bad])


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
    assert feed(pieces)[:3] == (*case[1], rest)


@given(st.binary(max_size=64), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE]))
def test_any_bytes(data: bytes, start: bytes) -> None:
    """Any bytes are a header, the beginning of one, or refused."""
    try:
        header = ProxyHeaderParser().feed(start + data)
    except RequestError:
        return
    assert header is None or (start + data).endswith(header.rest)
