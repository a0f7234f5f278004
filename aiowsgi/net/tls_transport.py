"""TLS between an asyncio transport and a protocol, both directions of which end by themselves.

asyncio's own TLS transports lack two things that a server needs. A client's close_notify says that
the client sends no more, and not that it does not read (RFC 8446 section 6.1): here the protocol
hears of it by ``eof_received`` and can still answer, as on a plain connection. And what was written
is in two buffers there, so that nothing says when the client's kernel can have all of it: here
every byte is encrypted at once, and the transport below has the only buffer.

`TLSProtocol` is the protocol of the plain transport below; `TLSTransport` is the transport of the
protocol above. Everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, cast, final

__all__ = ["TLSProtocol", "TLSTransport"]

READ_SIZE: Final = 256 * 1024
"""Bytes decrypted in one call; OpenSSL returns one record (16 KiB) at most."""

Buffer = bytes | bytearray | memoryview


@final
class TLSProtocol(asyncio.Protocol):
    """Decrypts what comes; makes the protocol above when the handshake is complete."""

    def __init__(self, context: ssl.SSLContext, factory: Callable[[], asyncio.Protocol]) -> None:
        """``factory`` makes the protocol above. To be made within the running event loop."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls: Final = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._factory = factory
        # The plain transport; None until the connection is made.
        self._below: asyncio.Transport | None = None
        # Made when the handshake is complete.
        self._above: asyncio.Protocol | None = None
        # The client has sent its close_notify, or has closed the connection below.
        self._client_finished = False
        # Our close_notify is sent: nothing more is written, and what comes is not decrypted.
        self._finished = False
        self.established: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        """Done when the handshake is complete, or has failed with an OSError."""

    # The transport below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._below = cast("asyncio.Transport", transport)
        # `pause_writing` is called whenever bytes remain that the kernel has not taken, and
        # `resume_writing` when it has taken all.
        self._below.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with bytes from the client."""
        if self._finished or self._client_finished:
            # RFC 8446 section 6.1: data after the client's close_notify is ignored. After ours,
            # nothing that comes can matter.
            return
        self._incoming.write(data)
        try:
            if self._above is None and not self._shake_hands():
                return
            received, at_end = self._decrypt()
            self._send()
        except OSError as error:
            self._fail(error)
            return
        assert self._above is not None
        if received:
            self._above.data_received(received)
        if at_end:
            self._end_of_input()

    def eof_received(self) -> bool:
        """Called by asyncio when the client has closed its sending side below TLS."""
        if self._above is None:
            self._fail(ConnectionResetError("the client closed during the TLS handshake"))
            return False
        if not self._client_finished:
            self._end_of_input()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio, once."""
        if not self.established.done():
            self.established.set_exception(
                exc if isinstance(exc, OSError) else ConnectionResetError("the client has gone")
            )
        # Without it, no cycle is left for the garbage collector.
        above, self._above = self._above, None
        if above is not None:
            above.connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by asyncio while bytes wait for the kernel."""
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """Called by asyncio when the kernel has taken all bytes."""
        if self._above is not None:
            self._above.resume_writing()

    # TLS

    def _shake_hands(self) -> bool:
        """Go on with the handshake; returns whether it is complete. Raises ssl.SSLError."""
        assert self._below is not None
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            # An alert that says why a handshake failed is sent, too.
            self._send()
        self._above = self._factory()
        self._above.connection_made(TLSTransport(self, self._below))
        if not self.established.done():
            self.established.set_result(None)
        return True

    def _decrypt(self) -> tuple[bytes, bool]:
        """What has come, and whether the client's close_notify was behind it."""
        pieces: list[bytes] = []
        at_end = False
        # Without a last call that only says that more is needed, which would cost an exception.
        while self._incoming.pending or self.tls.pending():
            try:
                data = self.tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                at_end = True
                break
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), at_end

    def _send(self) -> None:
        if self._outgoing.pending and self._below is not None:
            self._below.write(self._outgoing.read())

    def _end_of_input(self) -> None:
        self._client_finished = True
        assert self._below is not None
        if self._above is None or not self._above.eof_received():
            self.finish()
            self._below.close()

    def _fail(self, error: OSError) -> None:
        """A malformed record, a wrong key, or a handshake that cannot be completed."""
        if not self.established.done():
            self.established.set_exception(error)
        self._finished = True
        if self._below is not None:
            self._below.close() if self._above is None else self._below.abort()

    def abort(self) -> None:
        """Close at once. May be called before the connection is made."""
        self.established.cancel()
        if self._below is not None:
            self._below.abort()

    # For the transport above

    def write(self, data: Buffer) -> None:
        """Encrypt and send ``data``."""
        assert self._below is not None
        if self._finished or not data:
            return
        try:
            self.tls.write(data)
        except OSError as error:
            self._fail(error)
        else:
            self._send()

    def finish(self) -> None:
        """Send our close_notify: nothing more will be written. Idempotent."""
        if not self._finished:
            self._finished = True
            # It would like to wait for the client's close_notify.
            with suppress(OSError):
                self.tls.unwrap()
            self._send()


@final
class TLSTransport(asyncio.Transport):
    """What the protocol above writes to."""

    def __init__(self, protocol: TLSProtocol, below: asyncio.Transport) -> None:
        super().__init__()
        self._protocol = protocol
        self._below = below

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``ssl_object``, or what the transport below knows."""
        if name == "ssl_object":
            return self._protocol.tls
        return self._below.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Number of bytes, encrypted, that the kernel has not taken."""
        return self._below.get_write_buffer_size()

    def write(self, data: Buffer) -> None:
        """Send ``data``."""
        self._protocol.write(data)

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Send all in one piece, so that a small response is one record."""
        self._protocol.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Each direction can be closed by itself."""
        return True

    def write_eof(self) -> None:
        """Send close_notify, and then FIN, when all that was written is sent."""
        self._protocol.finish()
        self._below.write_eof()

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._below.is_closing()

    def pause_reading(self) -> None:
        """Receive no more."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Go on receiving."""
        self._below.resume_reading()

    def close(self) -> None:
        """Send close_notify, and close when all that was written is sent."""
        self._protocol.finish()
        self._below.close()

    def abort(self) -> None:
        """Close at once, and drop what was not sent."""
        self._below.abort()
