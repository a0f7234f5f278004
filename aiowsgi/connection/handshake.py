"""What happens to an accepted connection before HTTP begins on it: PROXY protocol, then TLS.

A connection sends its PROXY protocol header if that is required, then completes a TLS handshake if
TLS is configured, and is then an ordinary transport with the HTTP protocol. A connection that fails
is closed without an answer, except for a client that speaks plain HTTP to the TLS port: it is told
so. A server with neither PROXY protocol nor TLS needs no `Handshaker`. HTTP does not belong here.

**Why the first bytes are peeked at.** A TLS handshake begins with byte 22 (RFC 8446 section 5.1), a
request with a letter. MSG_PEEK leaves the bytes in the socket, where the transport that is made for
it will find them. A PROXY header is peeked at too, and then exactly its bytes are read; the part of
an incomplete one is read as well, since a readable socket that nothing reads would spin the event
loop.

**Time.** One deadline covers everything from accepting to the end of the handshake.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from aiowsgi.exceptions import RequestError
from aiowsgi.proxy.protocol import ProxyHeader, ProxyHeaderParser

if TYPE_CHECKING:
    import ssl

    from aiowsgi.net.tls import ServerContexts
    from aiowsgi.proxy.headers import TrustedPeers

__all__ = ["Handshaker", "InnerFactory"]

InnerFactory: TypeAlias = Callable[[ProxyHeader | None], asyncio.Protocol]
"""Makes the HTTP protocol of a connection; its argument is None without the PROXY protocol."""

_log: Final = logging.getLogger("aiowsgi.gate")


class Handshaker:
    """The handshakes of one server's connections."""

    def __init__(
        self,
        inner: InnerFactory,
        *,
        contexts: ServerContexts | None,
        proxies: TrustedPeers | None,
        timeout: float,
        on_done: Callable[[], object],
    ) -> None:
        """
        ``contexts``: for TLS; a connection uses the one that is current when it comes. None: plain.
        ``proxies``: the peers whose PROXY header is required and used; all others are dropped.
        None: no PROXY protocol.
        ``timeout``: seconds from accepting to the end of the handshake; more than 0.
        ``on_done``: called when a connection is dropped, or HTTP begins on it.
        """
        self.inner: Final = inner
        self.contexts: Final = contexts
        self.proxies: Final = proxies
        self.timeout: Final = timeout
        self._on_done = on_done
        self._pending: set[_Handshake] = set()
        """Connections whose handshake is not complete; each removes itself."""

    def __len__(self) -> int:
        """Number of connections whose handshake is not complete, for the limit on connections."""
        return len(self._pending)

    def admit(self, sock: socket.socket) -> None:
        """Take over an accepted, non-blocking socket, within the running loop. Never raises."""
        peer = _peer_host(sock)
        if self.proxies is not None and not self.proxies.trusts(peer):
            _log.warning("closed a connection from %s, which is not a trusted proxy", peer)
            sock.close()
            return
        self._pending.add(_Handshake(self, sock))

    def finished(self, handshake: _Handshake) -> None:
        """Forget a connection that is complete or was dropped."""
        self._pending.discard(handshake)
        self._on_done()

    def close(self) -> None:
        """Drop all connections whose handshake is not complete: no request of theirs was read."""
        for handshake in tuple(self._pending):
            handshake.drop()


class _Handshake:
    """One connection: waiting for its first bytes, then in its TLS handshake."""

    def __init__(self, owner: Handshaker, sock: socket.socket) -> None:
        self._owner = owner
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + owner.timeout
        self._timer = self._loop.call_at(self._deadline, self.drop)
        self._parser = ProxyHeaderParser() if owner.proxies is not None else None
        """None once the PROXY header has come, or if none is required."""
        self._header: ProxyHeader | None = None
        self._connecting: asyncio.Task[None] | None = None
        """Set when a transport is made for the socket, which it owns from then on."""
        self._secure = False
        """TLS is spoken, whose handshake takes its time."""
        self._loop.add_reader(sock.fileno(), self._readable)

    def drop(self) -> None:
        """Close the connection at once, in whatever state it is."""
        if self._connecting is not None:
            # A plain transport will be there in the next step, and the server closes its protocol.
            # (If this is cancelled now, uvloop closes the transport without telling the protocol.)
            if self._secure:
                self._connecting.cancel()
            return
        self._stop_watching()
        self._sock.close()
        self._owner.finished(self)

    def _stop_watching(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())

    # The first bytes

    def _readable(self) -> None:
        try:
            seen = self._sock.recv(_PEEK, socket.MSG_PEEK)
            if not seen:
                self.drop()
            elif self._parser is not None:
                self._read_header(self._parser, seen)
            else:
                self._begin(seen)
        except BlockingIOError:
            pass  # readable without data (select(2), section Bugs)
        except (OSError, RequestError) as error:
            _log.debug("closed a connection before its first request: %s", error)
            self.drop()

    def _read_header(self, parser: ProxyHeaderParser, seen: bytes) -> None:
        """Read the PROXY header; the bytes after it make the socket readable again."""
        header = parser.feed(seen)
        rest = b"" if header is None else header.rest
        self._sock.recv(len(seen) - len(rest))
        if header is not None:
            self._header, self._parser = header._replace(rest=b""), None
            if self._owner.contexts is None:
                self._begin(rest)

    def _begin(self, seen: bytes) -> None:
        """Choose the next protocol by the first byte."""
        contexts = self._owner.contexts
        inner = partial(self._owner.inner, self._header)
        if contexts is None:
            self._connect(inner, None)
        elif seen[0] == _TLS_HANDSHAKE:
            self._connect(inner, contexts.current)
        elif seen[:1].isalpha():
            self._connect(_PlainRefusal, None)
        else:
            self.drop()

    # The transport, and the TLS handshake

    def _connect(
        self, factory: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None
    ) -> None:
        self._stop_watching()
        self._secure = context is not None
        make = self._make_plain(factory) if context is None else self._make_tls(factory, context)
        self._connecting = self._loop.create_task(make)
        self._connecting.add_done_callback(self._connected)

    async def _make_plain(self, factory: Callable[[], asyncio.Protocol]) -> None:
        try:
            await self._loop.connect_accepted_socket(factory, self._sock)
        except OSError as error:
            _log.debug("a connection could not be set up: %s", error)

    async def _make_tls(
        self, factory: Callable[[], asyncio.Protocol], context: ssl.SSLContext
    ) -> None:
        from aiowsgi.net.tls_transport import TLSProtocol  # not without TLS: it imports ssl

        protocol = TLSProtocol(context, factory)
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._loop.connect_accepted_socket(lambda: protocol, self._sock)
                await protocol.established
        except (OSError, asyncio.CancelledError) as error:
            # Scanners and clients that close early cause this all the time.
            _log.debug("TLS handshake failed: %s", error or type(error).__name__)
            protocol.abort()

    def _connected(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step: there is no transport
            self._sock.close()
        self._owner.finished(self)


_TLS_HANDSHAKE: Final = 22
"""ContentType of RFC 8446 section 5.1."""

_PEEK: Final = 4096
"""Bytes to peek at; a longer PROXY header is read in pieces."""


def _peer_host(sock: socket.socket) -> str | None:
    """The peer's address; None for a unix socket, empty if the peer has gone already."""
    if sock.family == socket.AF_UNIX:
        return None
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return ""


class _PlainRefusal(asyncio.Protocol):
    """Tells a client that speaks plain HTTP what this port speaks (RFC 9110 section 15.5.1)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        refused = cast(asyncio.Transport, transport)
        refused.write(_REFUSAL)
        refused.write_eof()
        # Closing with the request unread would reset the connection, and the reset can destroy the
        # answer (RFC 9112 section 9.6): what comes is read and dropped until the client closes, or
        # the time is up.
        self._timer = asyncio.get_running_loop().call_later(_LINGER, refused.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._timer.cancel()


_LINGER: Final = 2.0
"""Seconds to wait for a refused client to close. A guess; nginx waits for 5."""

_EXPLANATION: Final = b"This port speaks TLS: the URL begins with https, not http.\n"

_REFUSAL: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_EXPLANATION), _EXPLANATION)
)
