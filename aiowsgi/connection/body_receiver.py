"""Receives one request's body: collects it first, or passes it to an application that already runs.

=======================  ===========================================================================
``--request-buffering``  what happens to a body
=======================  ===========================================================================
``auto``                 a body of known length is collected until it is complete or `THRESHOLD`
                         bytes have come, and then streamed, beginning with those bytes; if the
                         client waits for 100 (Continue), it is streamed from the beginning, so that
                         the application can refuse it before it is sent (RFC 9110 section 10.1.1)
``auto``, chunked        collected until it is complete, beyond `THRESHOLD` bytes in a file: most
                         applications need the length (RFC 9112 section 7.1.3)
``on``                   collected until it is complete, beyond `THRESHOLD` bytes in a file
``off``                  streamed from the beginning
=======================  ===========================================================================

A worker thread waits while it reads a streamed body whose client is slow. So in ``auto`` at most
half of the threads can have such bodies (`BodyPolicy`); all others are collected in files first.

A `BodyReceiver` begins in one of two phases, collecting or streaming, and may go from collecting to
streaming once. Everything here runs on the event loop; what a worker thread reads from is the
`StreamedBody` or the file that the exchange is given.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from aiowsgi.connection.body_buffer import SCARCE_THRESHOLD, BodyBuffer
from aiowsgi.connection.body_rate import BodyRate
from aiowsgi.exceptions import RequestBodyError, RequestError
from aiowsgi.exchange.memory_budget import MemoryBudget
from aiowsgi.exchange.request_body import (
    BUFFER_SIZE,
    DIRECT_BUFFER_SIZE,
    DIRECT_HIGH_WATER,
    HIGH_WATER,
    StreamedBody,
    open_stream,
)
from aiowsgi.http1.messages import CHUNKED, END_OF_BODY, NEED_DATA, Request

if TYPE_CHECKING:
    from aiowsgi.connection.transport import ConnectionTransport
    from aiowsgi.exchange.exchange import Exchange
    from aiowsgi.http1.reader import RequestReader

__all__ = ["BodyPolicy", "BodyReceiver"]


@final
class BodyPolicy:
    """How all connections of a process receive bodies, and what they have in use for it."""

    __slots__ = ("_max_streams", "_streams", "budget", "min_rate", "mode")

    def __init__(
        self,
        mode: str = "auto",
        *,
        threads: int = 4,
        min_rate: int = 0,
        budget: MemoryBudget | None = None,
    ) -> None:
        """``mode`` is ``auto``, ``on`` or ``off``.

        ``threads`` is the number of worker threads; ``min_rate`` the bytes a second that a client
        must send, 0 for no such limit; ``budget`` what all bodies may take of memory.
        """
        self.mode: Final = mode
        self.min_rate: Final = min_rate
        self.budget: Final = MemoryBudget() if budget is None else budget
        # Half of the threads; with one thread none, so that it never waits for a client.
        self._max_streams = threads // 2
        # Bodies that still come and that a worker thread reads, or will.
        self._streams = 0

    def begin_stream(self) -> bool:
        """Reserve a thread for waiting for a client; False if enough threads do that."""
        if self._streams >= self._max_streams:
            return False
        self._streams += 1
        return True

    def end_stream(self) -> None:
        """Give back what `begin_stream` reserved."""
        self._streams -= 1


@final
class BodyReceiver:
    """One request's body on its way from the reader to the application."""

    __slots__ = (
        "_buffer",
        "_policy",
        "_reader",
        "_reserved",
        "_transport",
        "complete",
        "rate",
        "received",
        "request",
        "stream",
    )

    def __init__(
        self,
        request: Request,
        reader: RequestReader,
        transport: ConnectionTransport,
        policy: BodyPolicy,
    ) -> None:
        self.request: Final = request
        self._reader = reader
        self._transport = transport
        self._policy = policy
        # `BodyPolicy.begin_stream` has reserved a thread for this body.
        self._reserved = False
        # All of the body has come, and nothing was wrong with it.
        self.complete = False
        # Bytes that have come, without the transfer coding.
        self.received = 0
        self.rate: Final = BodyRate(policy.min_rate, monotonic())
        # What the application reads from while the body still comes; None while collecting.
        self.stream: StreamedBody | None = None
        # What has come so far; used while collecting.
        length_known = request.content_length != CHUNKED
        to_disk = policy.mode == "on" or (policy.mode == "auto" and not length_known)
        self._buffer = BodyBuffer(policy.budget, to_disk=to_disk)
        if policy.mode == "off" or (
            not to_disk and request.expect_continue and self._reserve_thread()
        ):
            self._start_stream()

    # Collecting

    def collect(self) -> bool:
        """Collect what has come; returns whether the application can start now.

        Raises RequestError for a malformed or too large body, and OSError if the disk is full.
        """
        while (event := self._reader.next_body()) is not NEED_DATA:
            if event is END_OF_BODY:
                self.complete = True
                return True
            self.received += len(event)
            self._buffer.add(event)
            if self._buffer.full:
                if self._reserve_thread():
                    self._start_stream()
                    return True
                self._buffer.to_disk = True
        return False

    # Streaming

    def _reserve_thread(self) -> bool:
        self._reserved = self._policy.begin_stream()
        return self._reserved

    def _release_thread(self) -> None:
        """No worker thread has to wait for this body's client any more. Idempotent."""
        if self._reserved:
            self._reserved = False
            self._policy.end_stream()

    def _start_stream(self) -> None:
        """Let the application read the body while it comes, beginning with what was collected."""
        high_water = DIRECT_HIGH_WATER if self._thread_may_receive else HIGH_WATER
        if self._policy.budget.scarce:
            high_water = SCARCE_THRESHOLD
        self.stream = StreamedBody(self._transport.wake, high_water, self._policy.budget)
        held = self._buffer.take()
        if held and self.stream.feed(held):
            self._transport.set_reading(reading=False)

    @property
    def _thread_may_receive(self) -> bool:
        """Whether the reading thread may take bytes of this body from the socket by itself."""
        return self._transport.writer.any_thread and self.request.content_length != CHUNKED

    def attach_to(self, exchange: Exchange) -> None:
        """Give the exchange its ``wsgi.input``. Raises OSError if the disk is full."""
        if self.stream is None:
            size = self._buffer.size
            exchange.set_body(self._buffer.open(), size)
            return
        size = DIRECT_BUFFER_SIZE if self._thread_may_receive else BUFFER_SIZE
        stream = open_stream(self.stream, size)
        exchange.set_body(stream, self.request.content_length, self.stream)

    def pump(self) -> None:
        """Pass what has come on to the application."""
        stream = self.stream
        assert stream is not None
        try:
            while (event := self._reader.next_body()) is not NEED_DATA:
                if event is END_OF_BODY:
                    self.complete = True
                    stream.end()
                    self._release_thread()
                    return
                self.received += len(event)
                if stream.feed(event):
                    self._transport.set_reading(reading=False)
        except RequestError as error:
            self.end(RequestBodyError(error.status, error.detail))
            return
        ahead = self._reader.body_remaining
        if ahead and not self._transport.reading and self._transport.writer.any_thread:
            stream.receive_directly(self._transport.output.receive_into, ahead)

    def resume(self) -> None:
        """Continue after the application has read or received a part of the body itself."""
        stream = self.stream
        assert stream is not None
        if received := stream.take_received():
            self.received += received
            self._reader.skip_body(received)
            self.pump()
        if not self.complete and stream.waits_for_client:
            self._transport.set_reading(reading=True)

    # Waiting and the end

    @property
    def waiting_since(self) -> float:
        """While streaming: since when the server waits for the client to send, monotonic seconds.

        Infinity if it does not wait, because the application has enough to read.
        """
        return inf if self.stream is None else self.stream.waiting_since

    def end(self, error: OSError) -> None:
        """Have the application's reads raise ``error``: the rest of the body will not come."""
        if self.stream is not None:
            self.stream.end(error)
        self._release_thread()

    def close(self) -> None:
        """Release what was collected and not given to an exchange."""
        self._buffer.close()
        self._release_thread()
