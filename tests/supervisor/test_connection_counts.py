"""The numbers that workers share, as several workers see them."""

from __future__ import annotations

import asyncio
import copy
import os
import socket
from collections.abc import Callable

import pytest

from aiowsgi.net.acceptor import Acceptor
from aiowsgi.supervisor.connection_counts import PLACES, ConnectionCounts


def at_places(*places: int) -> list[ConnectionCounts]:
    """The same memory, as workers with these places have it."""
    shared = ConnectionCounts()
    workers = [copy.copy(shared) for _ in places]
    for worker, place in zip(workers, places, strict=True):
        worker.place = place
    return workers


def test_whose_turn() -> None:
    """It is the turn of a worker if no other has fewer connections; free places do not count."""
    one, other = at_places(0, 7)
    assert one.is_my_turn(3)
    assert not other.is_my_turn(4)
    assert other.is_my_turn(3)
    assert other.is_my_turn(0)
    assert not one.is_my_turn(1)


def test_ended() -> None:
    """A worker that has ended keeps no other from accepting."""
    one, ended, supervisor = at_places(0, 1, -1)
    assert ended.is_my_turn(0)
    assert not one.is_my_turn(5)
    supervisor.clear(1)
    assert one.is_my_turn(5)


@pytest.mark.parametrize("place", [-1, PLACES, PLACES + 1])
def test_no_place(place: int) -> None:
    """A worker without a place accepts whenever it can, and keeps no other from it."""
    without, other = at_places(place, 0)
    assert without.is_my_turn(0)
    assert other.is_my_turn(9)
    assert without.is_my_turn(100)
    other.clear(place)
    assert other.is_my_turn(9)


@pytest.mark.slow("processes")
def test_shared_with_a_forked_process() -> None:
    """A number that a forked process has written is seen here."""
    (here,) = at_places(0)
    pid = os.fork()
    if pid == 0:
        here.place = 1
        os._exit(not here.is_my_turn(0))
    assert os.waitpid(pid, 0)[1] == 0
    assert not here.is_my_turn(1)


# Waiting for another


class Waiting:
    """Connections that wait at a listener, and an acceptor that never has its turn."""

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
    """Let the loop run until ``condition`` holds."""
    while not condition():  # noqa: ASYNC110 - the acceptor has no event for it
        await asyncio.sleep(0)


async def test_the_other_is_stuck() -> None:
    """If the other worker is stuck, fewer and fewer connections are left to it."""
    waiting = Waiting(12)
    waiting.acceptor.start()
    await until(lambda: len(waiting.accepted) >= 12)
    assert waiting.asked[:4] == [0, 1, 3, 7]
    waiting.close()


async def test_another_takes_it() -> None:
    """If the other takes a connection, the next one is left to it again."""
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
