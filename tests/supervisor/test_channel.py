"""Messages over a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from aiowsgi.supervisor.channel import Channel, Message, encode


class Receiver:
    """Notes what a channel delivers, and can be waited for."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.ended = 0
        self._news = asyncio.Event()

    def received(self, message: Message) -> None:
        self.messages.append(message)
        self._news.set()

    def end(self) -> None:
        self.ended += 1
        self._news.set()

    async def news(self) -> None:
        """Wait for the next message or the end."""
        await self._news.wait()
        self._news.clear()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def test_both_ways(pair: tuple[socket.socket, socket.socket]) -> None:
    """What one end says, the other hears, until it closes."""
    loop = asyncio.get_running_loop()
    one, other = Receiver(), Receiver()
    left = Channel(loop, pair[0], one.received, one.end)
    right = Channel(loop, pair[1], other.received, other.end)
    left.send("retire", grace=None)
    right.send("ready", broken="")
    await other.news()
    await one.news()
    assert other.messages == [{"kind": "retire", "grace": None}]
    assert one.messages == [{"kind": "ready", "broken": ""}]
    left.close()
    left.close()
    await other.news()
    assert (one.ended, other.ended) == (0, 1)
    right.send("beat")
    right.close()


async def test_more_than_the_kernel_takes(pair: tuple[socket.socket, socket.socket]) -> None:
    """A message of any size arrives whole, and those after it in order; beats are left out."""
    loop = asyncio.get_running_loop()
    receiver = Receiver()
    left = Channel(loop, pair[0], print, print)
    left.send("failed", traceback="x" * (4 << 20))
    left.beat()
    left.send("expired", reason="")
    right = Channel(loop, pair[1], receiver.received, receiver.end)
    while len(receiver.messages) < 2:
        await receiver.news()
    assert [message["kind"] for message in receiver.messages] == ["failed", "expired"]
    assert len(receiver.messages[0]["traceback"]) == 4 << 20
    left.beat()
    await receiver.news()
    assert receiver.messages[2] == {"kind": "beat"}
    left.close()
    right.close()


async def test_other_side_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    """What is said to nobody is lost; what was said last is still heard, then the end."""
    loop = asyncio.get_running_loop()
    receiver = Receiver()
    left = Channel(loop, pair[0], receiver.received, receiver.end)
    pair[1].sendall(encode("expired", reason="a") + encode("failed", message="b"))
    pair[1].close()
    left.send("retire", grace=1)
    left.pump()
    assert [message["kind"] for message in receiver.messages] == ["expired", "failed"]
    assert receiver.ended == 1


async def test_closed_by_who_hears(pair: tuple[socket.socket, socket.socket]) -> None:
    """A channel may be closed while it is heard; then nothing more is."""
    receiver = Receiver()
    left = Channel(asyncio.get_running_loop(), pair[0], lambda _: left.close(), receiver.end)
    pair[1].sendall(encode("expired", reason="a"))
    pair[1].close()
    left.pump()
    assert receiver.ended == 0


async def test_reset(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection that breaks is an end too."""
    loop = asyncio.get_running_loop()
    receiver = Receiver()
    Channel(loop, pair[0], receiver.received, receiver.end)
    pair[0].send(b"never read")
    pair[1].close()
    await receiver.news()
    assert receiver.ended == 1
