"""Receives one request's body: collects it first, or passes it to an application that already runs.

=======================  ===========================================================================
``--request-buffering``  what happens to a body
=======================  ===========================================================================
``auto``                 collected until it is complete or `THRESHOLD` bytes have come; a longer
                         one is then streamed, beginning with those bytes
``on``                   collected until it is complete, beyond `THRESHOLD` bytes in a file
``off``                  streamed from the beginning
=======================  ===========================================================================

A `BodyReceiver` begins in one of two phases, collecting or streaming, and may go from collecting to
streaming once. Everything here runs on the event loop; what a worker thread reads from is the
`StreamedBody` or the file that the exchange is given.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, final

from aiowsgi.connection.body_buffer import BodyBuffer
from aiowsgi.exceptions import RequestBodyError, RequestError
from aiowsgi.exchange.request_body import (
    BUFFER_SIZE,
    HIGH_WATER,
    PLENTY,
    RECEIVE_SIZE,
    StreamedBody,
    open_stream,
)
from aiowsgi.http1.messages import CHUNKED, END_OF_BODY, NEED_DATA, Request

if TYPE_CHECKING:
    from aiowsgi.connection.transport import ConnectionTransport
    from aiowsgi.exchange.exchange import Exchange
    from aiowsgi.http1.reader import RequestReader

__all__ = ["BodyReceiver"]


@final
class BodyReceiver:
    """One request's body on its way from the reader to the application."""

    __slots__ = ("_buffer", "_reader", "_transport", "complete", "request", "stream")

    def __init__(
        self, request: Request, reader: RequestReader, transport: ConnectionTransport, mode: str
    ) -> None:
        """``mode`` is the option ``--request-buffering``."""
        self.request = request
        self._reader = reader
        self._transport = transport
        # All of the body has come, and nothing was wrong with it.
        self.complete = False
        # What the application reads from while the body still comes; None while collecting.
        self.stream: StreamedBody | None = None
        # What has come so far; used while collecting.
        self._buffer = BodyBuffer(to_disk=mode == "on")
        # RFC 9110 section 10.1.1: a client that waits for 100 (Continue) leaves the decision to the
        # application, which can refuse the body before any of it is sent.
        if mode == "off" or (mode == "auto" and request.expect_continue):
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
            self._buffer.add(event)
            if self._buffer.full:
                self._start_stream()
                return True
        return False

    # Streaming

    def _start_stream(self) -> None:
        """Let the application read the body while it comes, beginning with what was collected."""
        self.stream = StreamedBody(
            self._transport.wake, PLENTY if self._thread_may_receive else HIGH_WATER
        )
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
            exchange.carry(self._buffer.open(), size)
            return
        size = RECEIVE_SIZE if self._thread_may_receive else BUFFER_SIZE
        stream = open_stream(self.stream, size)
        exchange.carry(stream, self.request.content_length, self.stream)

    def pump(self) -> None:
        """Pass what has come on to the application."""
        stream = self.stream
        assert stream is not None
        try:
            while (event := self._reader.next_body()) is not NEED_DATA:
                if event is END_OF_BODY:
                    self.complete = True
                    stream.end()
                    return
                if stream.feed(event):
                    self._transport.set_reading(reading=False)
        except RequestError as error:
            stream.end(RequestBodyError(error.status, error.detail))
            return
        ahead = self._reader.body_remaining
        if ahead and not self._transport.reading and self._transport.writer.any_thread:
            stream.lend(self._transport.output.receive_into, ahead)

    def resume(self) -> None:
        """Continue after the application has read or received a part of the body itself."""
        stream = self.stream
        assert stream is not None
        if received := stream.returned():
            self._reader.skip_body(received)
            self.pump()
        if not self.complete and stream.hungry:
            self._transport.set_reading(reading=True)

    # Waiting and the end

    @property
    def waiting_since(self) -> float:
        """Since when the server waits for the client to send, monotonic seconds; else infinity.

        Meaningful while streaming.
        """
        return inf if self.stream is None else self.stream.hungry_since

    def end(self, error: OSError) -> None:
        """Have the application's reads raise ``error``: the rest of the body will not come."""
        if self.stream is not None:
            self.stream.end(error)

    def close(self) -> None:
        """Release what was collected and not given to an exchange."""
        self._buffer.close()
