"""TLS on a plain transport: both ends in memory, bytes handed over by the tests."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

import pytest
import trustme

from aiowsgi.net.tls_transport import TLSProtocol

CA = trustme.CA()
CERTIFICATE = CA.issue_cert("localhost")


class Below(asyncio.Transport):
    """The plain transport: keeps what is sent until a test takes it."""

    def __init__(self):
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.sent = b""
        self.held = 0
        self.limit = None
        self.calls = []

    def set_write_buffer_limits(self, high=None, low=None):
        self.limit = high

    def get_write_buffer_size(self):
        return self.held

    def write(self, data):
        assert "close" not in self.calls
        assert "write_eof" not in self.calls
        self.sent += data

    def write_eof(self):
        self.calls.append("write_eof")

    def close(self):
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")

    def is_closing(self):
        return "close" in self.calls or "abort" in self.calls

    def pause_reading(self):
        self.calls.append("pause_reading")

    def resume_reading(self):
        self.calls.append("resume_reading")


class Above(asyncio.Protocol):
    """The protocol above: notes what it is told."""

    def __init__(self):
        self.received = b""
        self.events = []
        self.stays_open = True

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        assert data
        self.received += data

    def eof_received(self):
        self.events.append("eof")
        return self.stays_open

    def connection_lost(self, exc):
        self.events.append("lost")

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")


class Pair:
    """A client and a server that have not shaken hands."""

    def __init__(self, version=ssl.TLSVersion.TLSv1_3, authority=CA):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CERTIFICATE.configure_cert(server)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(client)
        client.maximum_version = version
        self.above, self.below = Above(), Below()
        self.protocol = TLSProtocol(server, lambda: self.above)
        self.protocol.connection_made(self.below)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def to_server(self, step=None):
        """Hand over what the client has to send, ``step`` bytes at a time."""
        data = self._outgoing.read()
        for start in range(0, len(data), step or max(1, len(data))):
            self.protocol.data_received(data[start : start + (step or len(data))])

    def to_client(self):
        """Hand over what the server has sent."""
        data, self.below.sent = self.below.sent, b""
        self._incoming.write(data)

    def shake_hands(self, step=None):
        """Complete the handshake."""
        while not self.protocol.established.done() or self.below.sent:
            with suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            self.to_server(step)
            self.to_client()

    def send(self, data, step=None):
        """Have the client send ``data``."""
        self.client.write(data)
        self.to_server(step)

    def read(self):
        """What the client can read; None at the end."""
        self.to_client()
        pieces = []
        while True:
            try:
                data = self.client.read(65536)
            except ssl.SSLWantReadError:
                return b"".join(pieces)
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                return b"".join(pieces) if pieces else None
            pieces.append(data)

    def close_notify(self):
        """Have the client say that it sends no more."""
        with pytest.raises(ssl.SSLWantReadError):
            self.client.unwrap()
        self.to_server()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("step", [None, 1, 7])
async def test_bytes_go_both_ways(version, step):
    """However the records are split."""
    pair = Pair(version)
    pair.shake_hands(step)
    assert pair.above.events == ["made"]
    pair.send(b"hello" * 10_000, step)
    assert pair.above.received == b"hello" * 10_000
    pair.above.transport.write(b"world" * 10_000)
    assert pair.read() == b"world" * 10_000
    pair.above.transport.writelines([b"a", b"", memoryview(b"b")])
    assert pair.read() == b"ab"
    pair.above.transport.write(b"")
    assert pair.below.sent == b""


async def test_the_first_request_may_come_with_the_end_of_the_handshake():
    """TLS 1.3: the client sends data behind its Finished."""
    pair = Pair()
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.do_handshake()
    pair.to_server()
    pair.to_client()
    pair.client.do_handshake()
    pair.client.write(b"request")
    pair.to_server()
    assert (pair.above.events, pair.above.received) == (["made"], b"request")


async def test_a_client_that_sends_no_more_can_still_be_answered():
    """RFC 8446 section 6.1: close_notify closes one direction."""
    pair = Pair()
    pair.shake_hands()
    pair.client.write(b"request")
    pair.close_notify()
    assert (pair.above.received, pair.above.events) == (b"request", ["made", "eof"])
    assert not pair.below.calls
    pair.above.transport.write(b"response")
    assert pair.read() == b"response"
    # What comes behind the close_notify is ignored, and the end below it says nothing new.
    pair.protocol.data_received(b"nonsense")
    assert pair.protocol.eof_received() is True
    assert pair.above.events == ["made", "eof"]
    pair.above.transport.close()
    assert pair.read() is None
    assert pair.below.calls == ["close"]


async def test_a_protocol_that_does_not_stay_open_is_closed_at_the_end_of_input():
    """With a close_notify of ours."""
    pair = Pair()
    pair.shake_hands()
    pair.above.stays_open = False
    pair.close_notify()
    assert pair.below.calls == ["close"]
    assert pair.read() is None


async def test_an_end_below_tls_is_an_end_of_input():
    """Many clients close without a close_notify."""
    pair = Pair()
    pair.shake_hands()
    assert pair.protocol.eof_received() is True
    assert pair.above.events == ["made", "eof"]


async def test_the_sending_side_can_be_closed_alone():
    """close_notify comes first; nothing is sent behind it, and what still comes is dropped."""
    pair = Pair()
    pair.shake_hands()
    transport = pair.above.transport
    assert transport.can_write_eof()
    transport.write(b"last")
    transport.write_eof()
    transport.write(b"too late")
    assert pair.read() == b"last"
    assert pair.read() is None
    assert pair.below.calls == ["write_eof"]
    pair.send(b"more")
    assert pair.above.received == b""
    transport.close()
    assert pair.below.calls == ["write_eof", "close"]


async def test_the_only_buffer_is_below():
    """Its size is known, and any byte in it pauses the protocol above."""
    pair = Pair()
    assert pair.below.limit == 0
    pair.protocol.pause_writing()
    pair.shake_hands()
    pair.below.held = 42
    assert pair.above.transport.get_write_buffer_size() == 42
    pair.protocol.pause_writing()
    pair.protocol.resume_writing()
    pair.above.transport.pause_reading()
    pair.above.transport.resume_reading()
    assert pair.above.events == ["made", "pause", "resume"]
    assert pair.below.calls == ["pause_reading", "resume_reading"]


async def test_what_is_known_of_the_connection():
    """TLS from here, addresses from the transport below."""
    pair = Pair()
    pair.shake_hands()
    transport = pair.above.transport
    assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert transport.get_extra_info("peername") == ("192.0.2.1", 1)
    assert transport.get_extra_info("nothing", 1) == 1


async def test_a_malformed_handshake_fails_with_an_alert():
    """The client hears of it, and the protocol above is never made."""
    pair = Pair()
    pair.protocol.data_received(b"\x16\x03\x01\x00\x05hello")
    with pytest.raises(ssl.SSLError):
        await pair.protocol.established
    assert pair.below.sent[0] == 21  # the content type of alerts
    assert pair.below.calls == ["close"]
    assert not pair.above.events


async def test_a_malformed_record_aborts():
    """After the handshake there is nobody to be told."""
    pair = Pair()
    pair.shake_hands()
    pair.protocol.data_received(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert pair.below.calls == ["abort"]
    pair.protocol.connection_lost(None)
    assert pair.above.events == ["made", "lost"]


@pytest.mark.parametrize("how", ["eof", "lost", "refused"])
async def test_a_client_that_goes_during_the_handshake(how):
    """Whoever waits for the handshake hears of it."""
    pair = Pair(authority=trustme.CA() if how == "refused" else CA)
    if how == "refused":
        with pytest.raises(ssl.SSLCertVerificationError):
            pair.shake_hands()
        pair.to_server()
    elif how == "eof":
        assert pair.protocol.eof_received() is False
    pair.protocol.connection_lost(None)
    if how == "refused":
        # In TLS 1.3 the server has nothing to wait for but the client's Finished.
        assert pair.protocol.established.done()
    with pytest.raises(OSError):  # noqa: PT011 - the class depends on how it ended
        await pair.protocol.established


async def test_it_can_be_aborted_at_any_time():
    """Before the connection is made, too."""
    protocol = TLSProtocol(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Above)
    protocol.abort()
    assert protocol.established.cancelled()
    pair = Pair()
    pair.shake_hands()
    pair.above.transport.abort()
    assert pair.below.calls == ["abort"]
    assert pair.above.transport.is_closing()
