"""The supervisor's log to every kind of descriptor, with readers that are slow."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import PATIENCE

from aiowsgi.supervisor import log_stream as module
from aiowsgi.supervisor.log_stream import CAPACITY, LogStream

RECORD = "x" * 1023 + "\n"


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe, for reading and for writing."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@contextmanager
def refused() -> Iterator[tuple[int, int]]:
    """A pipe that cannot be opened a second time."""
    with pytest.MonkeyPatch.context() as patch, pipe() as ends:
        patch.setattr(module.os, "open", lambda *_: (_ for _ in ()).throw(PermissionError()))
        yield ends


@contextmanager
def pair() -> Iterator[tuple[int, int]]:
    """The ends of a connection, as journald has it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours.fileno(), theirs.fileno()


KINDS = pytest.mark.parametrize("kind", [pipe, refused, pair])


def write_until_stuck(stream: LogStream) -> int:
    """Write records nobody reads until some are lost; how many were written."""
    count = 0
    while not stream._lost:
        stream.write(RECORD)
        stream.flush()
        count += 1
    return count


@KINDS
async def test_a_reader_that_stops(kind: object) -> None:
    """Writing goes on at once; when the reader does, it gets whole records and the number lost."""
    with kind() as (reader, writer):  # type: ignore[operator]
        stream = LogStream(writer)
        stream.attach(asyncio.get_running_loop())
        count = write_until_stuck(stream)
        assert count * len(RECORD) > CAPACITY
        for _ in range(9):
            stream.write(RECORD)
        seen = b""
        while not seen.endswith(b"did not keep up\n"):
            await asyncio.sleep(0)
            os.set_blocking(reader, False)
            try:
                seen += os.read(reader, 1 << 20)
            except BlockingIOError:
                await asyncio.sleep(0.001)
        *records, lost = seen.decode().splitlines(keepends=True)
        assert records == [RECORD] * (count - 1)
        assert lost.startswith("10 log records were lost")
        assert not os.get_inheritable(writer)
        stream.attach(None)
        stream.finish(0)


@KINDS
def test_others_flags(kind: object) -> None:
    """The descriptor itself stays blocking, for the others that write to it."""
    with kind() as (_, writer):  # type: ignore[operator]
        stream = LogStream(writer)
        stream.write("a record\n")
        stream.flush()
        assert os.get_blocking(writer)
        stream.finish(0)


def test_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end the reader has a moment; what it has not read then is dropped."""
    with pipe() as (_, writer):
        stream = LogStream(writer)
        write_until_stuck(stream)
        stream.finish(0.01)
        # It can still be written to, and never waits.
        stream.write(RECORD)
        stream.flush()


def test_a_reader_that_has_gone() -> None:
    """What nobody can read any more is dropped."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = LogStream(writer)
    for _ in range(CAPACITY // len(RECORD) + 2):
        stream.write(RECORD)
        stream.flush()
    assert stream._lost == 0
    stream.finish(PATIENCE)
    os.close(writer)


def test_a_file(tmp_path: Path) -> None:
    """A file is written through the descriptor itself, whose offset others share."""
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as file:
        file.write(b"before\n")
        stream = LogStream(file.fileno())
        stream.write("é\udc80\n")
        stream.flush()
        file.write(b"after\n")
        stream.finish(0)
    assert path.read_bytes() == "before\né\\udc80\nafter\n".encode()
