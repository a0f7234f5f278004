"""Messages over a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from aiowsgi.supervisor.channel import Channel, Message, encode, read_first


class Ear:
    """Notes what a channel says, and lets itself be waited for."""

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
    one, other = Ear(), Ear()
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
    ear = Ear()
    left = Channel(loop, pair[0], print, print)
    left.send("failed", traceback="x" * (4 << 20))
    left.beat()
    left.send("worn", reason="")
    right = Channel(loop, pair[1], ear.received, ear.end)
    while len(ear.messages) < 2:
        await ear.news()
    assert [message["kind"] for message in ear.messages] == ["failed", "worn"]
    assert len(ear.messages[0]["traceback"]) == 4 << 20
    left.beat()
    await ear.news()
    assert ear.messages[2] == {"kind": "beat"}
    left.close()
    right.close()


async def test_other_side_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    """What is said to nobody is lost; what was said last is still heard, then the end."""
    loop = asyncio.get_running_loop()
    ear = Ear()
    left = Channel(loop, pair[0], ear.received, ear.end)
    pair[1].sendall(encode("worn", reason="a") + encode("failed", message="b"))
    pair[1].close()
    left.send("retire", grace=1)
    left.pump()
    assert [message["kind"] for message in ear.messages] == ["worn", "failed"]
    assert ear.ended == 1


async def test_closed_by_who_hears(pair: tuple[socket.socket, socket.socket]) -> None:
    """A channel may be closed while it is heard; then nothing more is."""
    ear = Ear()
    left = Channel(asyncio.get_running_loop(), pair[0], lambda _: left.close(), ear.end)
    pair[1].sendall(encode("worn", reason="a"))
    pair[1].close()
    left.pump()
    assert ear.ended == 0


async def test_reset(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection that breaks is an end too."""
    loop = asyncio.get_running_loop()
    ear = Ear()
    Channel(loop, pair[0], ear.received, ear.end)
    pair[0].send(b"never read")
    pair[1].close()
    await ear.news()
    assert ear.ended == 1


def test_first(pair: tuple[socket.socket, socket.socket]) -> None:
    """The first message is read whatever its size, and nothing of the next."""
    first = encode("charge", config={"app": "x" * 150_000})
    pair[1].sendall(first + encode("retire", grace=1))
    assert read_first(pair[0])["config"] == {"app": "x" * 150_000}
    assert pair[0].recv(1000) == encode("retire", grace=1)


def test_no_first(pair: tuple[socket.socket, socket.socket]) -> None:
    """EOFError says that there will be none."""
    pair[1].send(b'{"kind"')
    pair[1].close()
    with pytest.raises(EOFError):
        read_first(pair[0])
