"""The gate: what happens to an accepted connection before HTTP begins on it.

A connection passes the PROXY protocol where it is required, then TLS where it is spoken, and comes
out as an ordinary transport with the HTTP protocol upon it. Whoever does not pass is dropped
without a word, apart from a client that speaks plain HTTP to the TLS port, which is told so. A
server with neither PROXY protocol nor TLS needs no gate. HTTP must not live here.

**Why it looks before it reads.** A TLS handshake begins with byte 22 (RFC 8446 section 5.1), a
request with a letter; once the event loop's TLS layer has seen the first bytes, it keeps them to
itself, and the client gets an alert instead of an answer. So the gate looks with MSG_PEEK, which
leaves the bytes where TLS will find them. A PROXY header is peeked at too, and exactly its bytes
are then read; what is there of an incomplete one is read as well, as a readable socket that nobody
reads from would spin the loop.

**Why it takes bare sockets.** ``loop.start_tls`` would upgrade a transport, but it hands the first
decrypted bytes to the protocol before anyone can call ``connection_made``, whereas
``loop.connect_accepted_socket`` makes TLS transports exactly as a listening server does, on asyncio
and on uvloop, and leaves the socket alone until then. A TLS layer of our own upon `ssl.MemoryBIO`
would do as well, at the price of several hundred lines of flow control and shutdown.

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
"""Makes the HTTP protocol of a connection that has passed; None without the PROXY protocol."""

_log: Final = logging.getLogger("aiowsgi.gate")


class Handshaker:
    """The gate of one server."""

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
        ``contexts``: TLS, with the context that is current when a connection comes; None: plain.
        ``proxies``: the peers whose PROXY header is required and believed; all others are dropped.
        None: no PROXY protocol.
        ``timeout``: seconds for the way through the gate; more than 0.
        ``on_done``: called when a connection has left the gate, be it dropped or passed.
        """
        self.inner: Final = inner
        self.contexts: Final = contexts
        self.proxies: Final = proxies
        self.timeout: Final = timeout
        self._on_done = on_done
        self._passing: set[_Handshake] = set()
        """Connections that are in the gate; each leaves by itself."""

    def __len__(self) -> int:
        """Number of connections in the gate, for the limit on connections."""
        return len(self._passing)

    def admit(self, sock: socket.socket) -> None:
        """Take over an accepted, non-blocking socket, within the running loop. Never raises."""
        peer = _peer_host(sock)
        if self.proxies is not None and not self.proxies.trusts(peer):
            _log.warning("closed a connection from %s, which is not a trusted proxy", peer)
            sock.close()
            return
        self._passing.add(_Handshake(self, sock))

    def leave(self, passage: _Handshake) -> None:
        """Forget a connection that has passed or was dropped."""
        self._passing.discard(passage)
        self._on_done()

    def close(self) -> None:
        """Drop all connections that are in the gate: none has sent a request that we know of."""
        for passage in tuple(self._passing):
            passage.drop()


class _Handshake:
    """One connection in the gate: waiting for its first bytes, then in its handshake."""

    def __init__(self, gate: Handshaker, sock: socket.socket) -> None:
        self._gate = gate
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + gate.timeout
        self._timer = self._loop.call_at(self._deadline, self.drop)
        self._parser = ProxyHeaderParser() if gate.proxies is not None else None
        """None once the PROXY header has come, or where none is required."""
        self._header: ProxyHeader | None = None
        self._handover: asyncio.Task[None] | None = None
        """Set when the socket goes to a transport, which closes it from then on."""
        self._handshake = False
        """The transport is a TLS one, which takes its time."""
        self._loop.add_reader(sock.fileno(), self._readable)

    def drop(self) -> None:
        """Close the connection at once, in whatever state it is."""
        if self._handover is not None:
            # A plain transport is as good as made, and its protocol is the server's to close.
            # (Cancelled now, uvloop would close it without telling the protocol.)
            if self._handshake:
                self._handover.cancel()
            return
        self._stop_looking()
        self._sock.close()
        self._gate.leave(self)

    def _stop_looking(self) -> None:
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
                self._enter(seen)
        except BlockingIOError:
            pass  # a wake-up without cause (select(2), Bugs)
        except (OSError, RequestError) as error:
            _log.debug("closed a connection before its first request: %s", error)
            self.drop()

    def _read_header(self, parser: ProxyHeaderParser, seen: bytes) -> None:
        """Read what belongs to the PROXY header; what is behind it wakes us up again."""
        header = parser.feed(seen)
        rest = b"" if header is None else header.rest
        self._sock.recv(len(seen) - len(rest))
        if header is not None:
            self._header, self._parser = header._replace(rest=b""), None
            if self._gate.contexts is None:
                self._enter(rest)

    def _enter(self, seen: bytes) -> None:
        """Choose by the first byte what comes upon the connection."""
        contexts = self._gate.contexts
        inner = partial(self._gate.inner, self._header)
        if contexts is None:
            self._hand_over(inner, None)
        elif seen[0] == _TLS_HANDSHAKE:
            self._hand_over(inner, contexts.current)
        elif seen[:1].isalpha():
            self._hand_over(_PlainRefusal, None)
        else:
            self.drop()

    # The handshake

    def _hand_over(
        self, factory: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None
    ) -> None:
        self._stop_looking()
        self._handshake = context is not None
        self._handover = self._loop.create_task(self._connect(factory, context))
        self._handover.add_done_callback(self._handed_over)

    async def _connect(
        self, factory: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None
    ) -> None:
        remaining = max(self._deadline - self._loop.time(), _SHORTEST) if context else None
        try:
            await self._loop.connect_accepted_socket(
                factory, self._sock, ssl=context, ssl_handshake_timeout=remaining
            )
        except (OSError, asyncio.CancelledError) as error:
            # Scanners and impatient browsers do this all day. The transport has closed the socket.
            _log.debug("TLS handshake failed: %s", error)

    def _handed_over(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step: there is no transport
            self._sock.close()
        self._gate.leave(self)


_TLS_HANDSHAKE: Final = 22
"""ContentType of RFC 8446 section 5.1."""

_PEEK: Final = 4096
"""Bytes to look at; a longer PROXY header is read in pieces."""

_SHORTEST: Final = 0.001
"""Seconds; the loops refuse a handshake timeout of zero."""


def _peer_host(sock: socket.socket) -> str | None:
    """The peer's address; None for a unix socket, empty for a peer that has gone already."""
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
        # Closing with the request unread would reset the connection, and the reset may overtake
        # the answer (RFC 9112 section 9.6): what comes is read and forgotten until the client
        # closes, for a while.
        self._timer = asyncio.get_running_loop().call_later(_LINGER, refused.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._timer.cancel()


_LINGER: Final = 2.0
"""Seconds to wait for a refused client to close; a guess, nginx has 5."""

_EXPLANATION: Final = b"This port speaks TLS: the URL begins with https, not http.\n"

_REFUSAL: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_EXPLANATION), _EXPLANATION)
)
