"""Handshakes on real sockets and both event loops: which connections pass, and what others get."""

from __future__ import annotations

import asyncio
import logging
import selectors
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

import pytest
import trustme
import uvloop

from aiowsgi.connection.handshake import Handshaker
from aiowsgi.net.acceptor import Acceptor
from aiowsgi.net.tls import ServerContexts, TLSFiles
from aiowsgi.proxy.headers import TrustedPeers, parse_trusted
from aiowsgi.proxy.protocol import Endpoint, ProxyHeader

UNIT = 0.2
"""Seconds; the only length of time in these tests, for deadlines that are meant to pass."""

SAFE = 10.0
"""Seconds after which a test that hangs fails."""

CA = trustme.CA()
SERVER = CA.issue_cert("localhost")

HEADER_V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n"
CLIENT = Endpoint("192.0.2.1", 4711)

Scenario: TypeAlias = Callable[["Site"], Coroutine[Any, Any, None]]


class Inner(asyncio.Protocol):
    """Answers what comes in capitals, and keeps a diary."""

    def __init__(self, site: Site, header: ProxyHeader | None) -> None:
        self.site = site
        self.header = header
        self.diary: list[str] = []
        self.lost = asyncio.get_running_loop().create_future()
        site.inner.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.diary.append("made")
        self.site.on_made()

    def data_received(self, data: bytes) -> None:
        self.diary.append("data")
        self.transport.write(data.upper())

    def connection_lost(self, exc: Exception | None) -> None:
        self.diary.append("lost")
        self.lost.set_result(None)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something has happened."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


class Site:
    """A server, and what its clients need to know of it."""

    def __init__(
        self, files: TLSFiles | None, proxies: TrustedPeers | None, timeout: float
    ) -> None:
        self.contexts = ServerContexts(files) if files else None
        self.inner: list[Inner] = []
        self.handshaker = Handshaker(
            lambda header: Inner(self, header),
            contexts=self.contexts,
            proxies=proxies,
            timeout=timeout,
            on_done=lambda: None,
        )
        self.on_made: Callable[[], None] = lambda: None
        self.complaints: list[dict[str, Any]] = []
        self.listeners: list[socket.socket] = []
        self.acceptors: list[Acceptor] = []
        self.address: Any = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.address = self.listen(socket.create_server(("127.0.0.1", 0)))
        return self

    def listen(self, listener: socket.socket) -> Any:
        """Have the connections of a listening socket come to the gate; return its address."""
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        self.listeners.append(listener)
        self.acceptors.append(Acceptor(loop, listener, self.handshaker.admit, lambda: None))
        self.acceptors[-1].start()
        return listener.getsockname()

    async def __aexit__(self, *_: object) -> None:
        for acceptor, listener in zip(self.acceptors, self.listeners, strict=True):
            acceptor.stop()
            listener.close()
        self.handshaker.close()
        for inner in self.inner:
            if inner.diary:
                inner.transport.abort()
                await inner.lost
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until nobody is in the gate."""
        await until(lambda: len(self.handshaker) == 0)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self.address)
            yield Client(sock)
        finally:
            sock.close()

    @asynccontextmanager
    async def tls_client(
        self, context: ssl.SSLContext | None = None, first: bytes = b""
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A TLS client, which sends some bytes in the clear before it begins."""
        async with self.client() as client:
            await client.send(first)
            sock = client.sock.dup()
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=context or client_context(), server_hostname="localhost"
            )
            try:
                yield reader, writer
            finally:
                writer.transport.abort()


class Client:
    """A client that does what it likes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def receive(self) -> bytes:
        """Everything until the server closes; a reset is told as such."""
        answer = b""
        try:
            while piece := await self.loop.sock_recv(self.sock, 4096):
                answer += piece
        except ConnectionResetError:
            return answer + b"[reset]"
        return answer

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    SERVER.private_key_and_cert_chain_pem.write_to_path(str(path))
    return TLSFiles(str(path))


def debugging_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop(selectors.DefaultSelector())
    loop.set_debug(True)
    return loop


@pytest.fixture(params=[debugging_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on either loop."""

    def run(scenario: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(scenario, SAFE))

    return run


Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


# TLS


def test_tls(run: Run, files: TLSFiles) -> None:
    """A TLS client gets an ordinary transport, on which connection_made comes first."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site, site.tls_client() as (reader, writer):
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"HELLO"
            (inner,) = site.inner
            assert inner.diary == ["made", "data"]
            assert inner.header is None
            assert inner.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert inner.transport.get_extra_info("peername")[0] == "127.0.0.1"
            assert inner.transport.get_extra_info("sockname") == site.address
            assert len(site.handshaker) == 0
            assert not site.complaints

    run(scenario())


def test_first_request_comes_with_the_handshake(run: Run, files: TLSFiles) -> None:
    """A request in the same segment as the client's last handshake message is not lost."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site, site.client() as client:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            end = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                end.do_handshake()
            await client.send(outgoing.read())
            while True:
                incoming.write(await client.loop.sock_recv(client.sock, 65536))
                try:
                    end.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            end.write(b"hello")
            await client.send(outgoing.read())
            answer = b""
            while len(answer) < 5:
                incoming.write(await client.loop.sock_recv(client.sock, 65536))
                try:
                    answer += end.read()
                except ssl.SSLWantReadError:
                    continue
            assert answer == b"HELLO"
            assert site.inner[0].diary == ["made", "data"]

    run(scenario())


def test_byte_by_byte(run: Run, files: TLSFiles) -> None:
    """A handshake that comes a byte at a time is a handshake."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site, site.client() as client:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            end = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
            while not site.inner or not site.inner[0].diary:
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                for byte in outgoing.read():
                    await client.send(bytes([byte]))
                if end.version() is None or not site.inner:
                    incoming.write(await client.loop.sock_recv(client.sock, 65536))
                await asyncio.sleep(0)
            assert site.inner[0].diary == ["made"]

    run(scenario())


@pytest.mark.parametrize("body", [b"", b"x" * 200_000])
def test_plain_http(run: Run, files: TLSFiles, body: bytes) -> None:
    """A client that speaks HTTP is told to speak TLS, even if it is still sending."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site, site.client() as client:
            sending = asyncio.ensure_future(
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n" + body)
            )
            answer = await client.receive()
            await sending
            head, _, text = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"\r\nConnection: close" in head
            assert b"Content-Length: %d" % len(text) in head
            assert text.startswith(b"This port speaks TLS")
            assert not site.inner
            assert not site.complaints

    run(scenario())


def test_plain_client_that_stays(
    run: Run, files: TLSFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused client that does not go is closed after a while."""
    monkeypatch.setattr("aiowsgi.connection.handshake._LINGER", UNIT)

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site, site.client() as client:
            await client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert await client.receive()
            with suppress(ConnectionError):
                while True:
                    await client.send(b"more")
                    await asyncio.sleep(0)
            assert not site.complaints

    run(scenario())


@pytest.mark.parametrize("data", [b"\x80\x2e\x01\x00\x02", b"\0", b"\r\n", b"\xff" * 5000])
def test_neither(run: Run, files: TLSFiles, data: bytes) -> None:
    """What is neither TLS nor HTTP is dropped without a word."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site, site.client() as client:
            await client.send(data)
            assert (await client.receive()).removesuffix(b"[reset]") == b""
            assert not site.inner
            assert not site.complaints

    run(scenario())


@pytest.mark.parametrize(
    "data", [b"\x16", b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\x40\x00", b"\x16" * 3000]
)
@pytest.mark.parametrize("ending", ["close", "reset", "half-close"])
def test_scanner(run: Run, files: TLSFiles, data: bytes, ending: str) -> None:
    """A client that breaks off its handshake, in whatever way, is no event for the loop."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site:
            async with site.client() as client:
                await client.send(data)
                if ending == "reset":
                    client.reset()
                elif ending == "half-close":
                    client.sock.shutdown(socket.SHUT_WR)
                    await client.receive()
            async with site.tls_client() as (reader, writer):
                writer.write(b"after that")
                assert await reader.readexactly(10) == b"AFTER THAT"
            await site.quiet()
            assert [inner.diary[:1] for inner in site.inner if inner.diary] == [["made"]]
            assert not site.complaints

    run(scenario())


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_silent_client_goes(run: Run, files: TLSFiles, ending: str) -> None:
    """A client that goes without a byte leaves nothing behind."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site:
            async with site.client() as client:
                await until(lambda: len(site.handshaker))
                if ending == "reset":
                    client.reset()
            await site.quiet()
            assert not site.inner
            assert not site.complaints

    run(scenario())


@pytest.mark.parametrize("data", [b"", b"\x16", b"\x16\x03\x01\x40\x00"])
def test_timeout(run: Run, files: TLSFiles, data: bytes) -> None:
    """One deadline covers the wait for the first byte and the handshake."""

    async def scenario() -> None:
        async with Site(files, None, UNIT) as site, site.client() as client:
            await client.send(data)
            assert (await client.receive()).removesuffix(b"[reset]") == b""
            await site.quiet()
            assert not site.complaints

    run(scenario())


def test_certificate_refused_by_the_client(run: Run, files: TLSFiles) -> None:
    """A client that does not believe our certificate is no event for the loop."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site:
            with pytest.raises(ssl.SSLCertVerificationError):
                async with site.tls_client(ssl.create_default_context()):
                    raise AssertionError
            await site.quiet()
            assert not site.complaints

    run(scenario())


def test_renewed_certificate(run: Run, tmp_path: Path) -> None:
    """After a reload new connections see the new certificate, and old ones go on."""
    path = tmp_path / "server.pem"
    SERVER.private_key_and_cert_chain_pem.write_to_path(str(path))

    def shown(writer: asyncio.StreamWriter) -> bytes:
        end = writer.get_extra_info("ssl_object")
        return cast(bytes, end.getpeercert(binary_form=True))

    async def scenario() -> None:
        async with (
            Site(TLSFiles(str(path)), None, SAFE) as site,
            site.tls_client() as (old_reader, old_writer),
        ):
            CA.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
            assert site.contexts
            site.contexts.reload()
            async with site.tls_client() as (_, new_writer):
                assert shown(old_writer) != shown(new_writer)
            old_writer.write(b"still here")
            assert await old_reader.readexactly(10) == b"STILL HERE"

    run(scenario())


# The PROXY protocol


LOOPBACK = parse_trusted("127.0.0.1")
HEADER_V2_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
HEADER_V2_LONG = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11"
    + struct.pack("!H", 12 + 3 + 6000)
    + bytes([192, 0, 2, 1, 192, 0, 2, 2])
    + struct.pack("!HH", 4711, 443)
    + struct.pack("!BH", 4, 6000)
    + bytes(6000)
)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("header", "source"),
    [(HEADER_V1, CLIENT), (HEADER_V2_LONG, CLIENT), (HEADER_V2_LOCAL, None)],
)
def test_proxy_header(run: Run, header: bytes, source: Endpoint | None, apart: bool) -> None:
    """The header is taken off, in one piece or in many, and what is behind it stays."""

    async def scenario() -> None:
        async with Site(None, LOOPBACK, SAFE) as site, site.client() as client:
            pieces = [bytes([byte]) for byte in header[:40]] + [header[40:]] if apart else [header]
            pieces[-1] += b"hello"
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                await client.send(piece)
                await asyncio.sleep(0)
            assert await client.loop.sock_recv(client.sock, 5) == b"HELLO"
            assert site.inner[0].header is not None
            assert site.inner[0].header.source == source
            assert site.inner[0].header.rest == b""

    run(scenario())


def test_server_speaks_first(run: Run) -> None:
    """Behind a header and nothing else, a connection is through: HTTP keeps the time from there."""

    async def scenario() -> None:
        async with Site(None, LOOPBACK, SAFE) as site, site.client() as client:
            await client.send(HEADER_V1)
            await until(lambda: site.inner and site.inner[0].diary)
            assert site.inner[0].diary == ["made"]

    run(scenario())


@pytest.mark.parametrize("header", [HEADER_V1, HEADER_V2_LONG, HEADER_V2_LOCAL])
def test_proxy_header_before_tls(run: Run, files: TLSFiles, header: bytes) -> None:
    """The header comes in the clear, and the handshake behind it."""

    async def scenario() -> None:
        async with (
            Site(files, LOOPBACK, SAFE) as site,
            site.tls_client(first=header) as (reader, writer),
        ):
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"HELLO"
            assert site.inner[0].header is not None
            assert site.inner[0].transport.get_extra_info("ssl_object") is not None

    run(scenario())


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"PROXY TCP9 \r\n"])
@pytest.mark.parametrize("secure", [False, True])
def test_proxy_header_missing(run: Run, files: TLSFiles, data: bytes, secure: bool) -> None:
    """Where the header is required, nothing is said to those who do not send it."""

    async def scenario() -> None:
        async with Site(files if secure else None, LOOPBACK, SAFE) as site, site.client() as client:
            await client.send(data)
            assert (await client.receive()).removesuffix(b"[reset]") == b""
            assert not site.inner
            assert not site.complaints

    run(scenario())


def test_proxy_header_in_time(run: Run) -> None:
    """A header that does not come to its end is not waited for forever."""

    async def scenario() -> None:
        async with Site(None, LOOPBACK, UNIT) as site, site.client() as client:
            await client.send(HEADER_V1[:20])
            assert (await client.receive()).removesuffix(b"[reset]") == b""
            assert not site.inner

    run(scenario())


def test_proxy_header_from_a_stranger(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A perfect header from a peer that is not trusted is not even read."""

    async def scenario() -> None:
        async with Site(None, parse_trusted("192.0.2.0/24"), SAFE) as site, site.client() as client:
            await client.send(HEADER_V1 + b"hello")
            assert (await client.receive()).removesuffix(b"[reset]") == b""
            assert not site.inner

    with caplog.at_level(logging.WARNING, "aiowsgi.gate"):
        run(scenario())
    assert "127.0.0.1, which is not a trusted proxy" in caplog.text


@pytest.mark.parametrize(("trusted", "passes"), [("unix", True), ("127.0.0.1", False)])
def test_unix_peer(run: Run, tmp_path: Path, trusted: str, passes: bool) -> None:
    """A unix socket's peer may send the header where such peers are trusted."""

    async def scenario() -> None:
        async with Site(None, parse_trusted(trusted), SAFE) as site:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            site.listen(listener)
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            try:
                writer.write(HEADER_V1 + b"hello")
                if passes:
                    assert await reader.readexactly(5) == b"HELLO"
                else:
                    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                        await reader.readexactly(5)
            finally:
                writer.transport.abort()

    run(scenario())


# The end


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x40\x00"])
def test_close(run: Run, files: TLSFiles, data: bytes) -> None:
    """Closing drops those who wait at the gate and those in their handshake."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site, site.client() as client:
            await client.send(data)
            await until(lambda: len(site.handshaker))
            for _ in range(10):  # into the handshake
                await asyncio.sleep(0)
            site.handshaker.close()
            site.handshaker.close()
            assert (await client.receive()).removesuffix(b"[reset]") == b""
            await site.quiet()
            assert not site.complaints

    run(scenario())


@pytest.mark.parametrize("secure", [False, True])
def test_close_at_the_last_moment(run: Run, files: TLSFiles, secure: bool) -> None:
    """A protocol that has got its transport lives, or hears of its end: it is never forgotten."""

    async def scenario() -> None:
        async with Site(files if secure else None, None, SAFE) as site:
            site.on_made = site.handshaker.close
            if secure:
                async with site.tls_client():
                    await until(lambda: site.inner and site.inner[0].diary)
            else:
                async with site.client() as client:
                    await client.send(b"hello")
                    assert await client.loop.sock_recv(client.sock, 5) == b"HELLO"
            await site.inner[0].lost
            assert not site.complaints

    run(scenario())


def test_close_before_the_handshake_begins(run: Run, files: TLSFiles) -> None:
    """A connection that is dropped between its first byte and its handshake is closed too."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.send(b"\x16")
            site.handshaker.admit(ours)
            (passage,) = site.handshaker._pending
            passage._readable()
            site.handshaker.close()
            await site.quiet()
            assert ours.fileno() == -1
            assert not site.inner
            theirs.close()

    run(scenario())


def test_wake_up_without_cause(run: Run, files: TLSFiles) -> None:
    """A wake-up with nothing to read changes nothing."""

    async def scenario() -> None:
        async with Site(files, None, SAFE) as site:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            site.handshaker.admit(ours)
            (passage,) = site.handshaker._pending
            passage._readable()
            assert len(site.handshaker) == 1
            site.handshaker.close()
            theirs.close()

    run(scenario())


def test_peer_that_has_gone(run: Run) -> None:
    """A peer whose address cannot be had any more is not trusted."""

    async def scenario() -> None:
        async with Site(None, LOOPBACK, SAFE) as site:
            with socket.socket() as unconnected:
                site.handshaker.admit(unconnected)
                assert unconnected.fileno() == -1
                assert len(site.handshaker) == 0

    run(scenario())
