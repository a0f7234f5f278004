"""Clients that overload a server and wait after a refusal, which wrk cannot do."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from bench.servers import HOST

GOOD_SECONDS = 1.0
"""Seconds within which an answer counts as good."""
ANSWER_SECONDS = 30.0
"""Seconds after which a client closes a connection without an answer."""
REFUSED_SECONDS = 1.0
"""Seconds that a refused client waits: the Retry-After of the servers."""


class Shopper:
    """A client that sends one request after another, and waits after a refusal."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.latencies: list[float] = []
        self.refused = self.late = self.lost = 0

    async def shop(self, until: float) -> None:
        """Ask until then."""
        while time.monotonic() < until:
            with suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await self._connected(until)
            await asyncio.sleep(0.05)

    async def _connected(self, until: float) -> None:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            while (now := time.monotonic()) < until:
                writer.write(b"GET /work HTTP/1.1\r\nHost: x\r\n\r\n")
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + ANSWER_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = head.lower().partition(b"content-length:")[2].split()[0]
                    await reader.readexactly(int(length))
                await self._take(head, time.monotonic() - now)
        finally:
            writer.close()

    async def _take(self, head: bytes, latency: float) -> None:
        if b" 200 " not in head.partition(b"\r\n")[0]:
            self.refused += 1
            await asyncio.sleep(REFUSED_SECONDS)
        elif latency > GOOD_SECONDS:
            self.late += 1
        else:
            self.latencies.append(latency)
