"""The numbers that workers share, seen from several places."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from aiowsgi.net.acceptor import Acceptor
from aiowsgi.supervisor.load_board import PLACES, ConnectionCounts


@pytest.fixture(params=["memfd", "file"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The memory of a board; systems without memfd_create(2) have a file for it."""
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    descriptor = ConnectionCounts.make()
    yield descriptor
    os.close(descriptor)


def test_whose_turn(memory: int) -> None:
    """It is the turn of whoever nobody has fewer connections than; idle places do not count."""
    one, other = ConnectionCounts(memory, 0), ConnectionCounts(memory, 7)
    assert one.is_my_turn(3)
    assert not other.is_my_turn(4)
    assert other.is_my_turn(3)
    assert other.is_my_turn(0)
    assert not one.is_my_turn(1)


def test_gone(memory: int) -> None:
    """Nobody gives way to one that is gone."""
    one, gone = ConnectionCounts(memory, 0), ConnectionCounts(memory, 1)
    assert gone.is_my_turn(0)
    assert not one.is_my_turn(5)
    ConnectionCounts(memory).clear(1)
    assert one.is_my_turn(5)


@pytest.mark.parametrize("place", [-1, PLACES, PLACES + 1])
def test_no_place(memory: int, place: int) -> None:
    """Whoever has no place accepts whenever it can, and is in nobody's way."""
    board, other = ConnectionCounts(memory, place), ConnectionCounts(memory, 0)
    assert board.is_my_turn(0)
    assert other.is_my_turn(9)
    assert board.is_my_turn(100)
    other.clear(place)
    assert other.is_my_turn(9)


# Giving way


class Waiting:
    """Connections that wait at a listener, and an acceptor whose turn it is not."""

    def __init__(self, count: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=count)
        self.listener.settimeout(0)
        address = self.listener.getsockname()
        self.clients = [socket.create_connection(address) for _ in range(count)]
        self.accepted: list[socket.socket] = []
        # How many had been accepted each time it was asked.
        self.asked: list[int] = []
        loop = asyncio.get_running_loop()
        self.acceptor = Acceptor(loop, self.listener, self.accepted.append, print, self.is_my_turn)

    def is_my_turn(self) -> bool:
        self.asked.append(len(self.accepted))
        return False

    def close(self) -> None:
        self.acceptor.stop()
        for sock in (self.listener, *self.clients, *self.accepted):
            sock.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until it is so."""
    while not condition():  # noqa: ASYNC110 - the acceptor tells nobody
        await asyncio.sleep(0)


async def test_nobody_takes_them() -> None:
    """Where the other is stuck, it is given way to less and less."""
    waiting = Waiting(12)
    waiting.acceptor.start()
    await until(lambda: len(waiting.accepted) >= 12)
    assert waiting.asked[:4] == [0, 1, 3, 7]
    waiting.close()


async def test_another_takes_it() -> None:
    """Where the other takes it, the next one is left to it again for itself."""
    waiting = Waiting(3)
    waiting.acceptor.start()
    await until(lambda: len(waiting.accepted) >= 1)
    # The next time, it would accept two.
    await until(lambda: len(waiting.asked) >= 2)
    other = [waiting.listener.accept()[0] for _ in range(2)]
    await until(lambda: waiting.acceptor._left_over == 1)
    assert len(waiting.accepted) == 1
    waiting.close()
    for sock in other:
        sock.close()
