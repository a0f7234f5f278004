"""What a client has not read yet: order, bounds, the ring on disk, and its failures."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FakeWriter, no_descriptor_leaks

from aiowsgi.exchange.memory_budget import MemoryBudget
from aiowsgi.exchange.output_buffer import (
    BUFFERS_PER_CALL,
    READ_SIZE,
    SCARCE_MEMORY,
    OutputBuffer,
    OutputLimits,
    Spool,
)
from aiowsgi.wsgi.file_wrapper import FileRange


def spill(spool, data):
    """Write ``data`` to the spool as far as there is space; returns the rest."""
    view = memoryview(data)
    while view and (region := spool.free_region()).size:
        written = Spool.write_at(region, view)
        spool.add(written)
        view = view[written:]
    return bytes(view)


@given(st.integers(1, 50), st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 60))))
def test_the_ring_gives_back_what_was_written_in_order(limit, steps):
    """Whatever is written and dropped, the spool is a queue of at most its limit."""
    spool = Spool(limit)
    try:
        held = b""
        for data, drop in steps:
            rest = spill(spool, data)
            held += data[: len(data) - len(rest)]
            assert len(held) == spool.size <= limit
            assert not rest or spool.free_region().size == 0
            seen = spool.peek()
            assert held.startswith(seen)
            assert bool(seen) == bool(held)
            dropped = min(drop, len(seen))
            spool.drop(dropped)
            held = held[dropped:]
    finally:
        spool.close()


def test_a_spool_is_read_in_bounded_pieces():
    """One look at a large spool reads no more than `READ_SIZE`."""
    spool = Spool(READ_SIZE * 2)
    spill(spool, bytes(READ_SIZE + 1))
    assert len(spool.peek()) == READ_SIZE
    spool.close()


def test_a_spool_has_no_name():
    """The file vanishes with its descriptor."""
    with no_descriptor_leaks():
        spool = Spool(10)
        assert os.fstat(spool.free_region().descriptor).st_nlink == 0
        spool.close()


def test_what_fits_into_memory_is_bounded():
    """Memory takes as much as the limit says, counting what waits already."""
    buffer = OutputBuffer(OutputLimits(10, 0))
    assert not buffer
    assert buffer.fits(10)
    assert not buffer.fits(11)
    buffer.append(b"12345")
    assert buffer
    assert buffer.fits(5)
    assert not buffer.fits(6)


def test_a_part_of_a_block_lets_go_of_the_whole():
    """What is kept is a copy, so that the end of a large block does not keep all of it."""
    buffer = OutputBuffer(OutputLimits())
    block = bytearray(b"abcdef")
    buffer.append(memoryview(block)[3:])
    block[:] = b"xxxxxx"
    writer = FakeWriter()
    buffer.send_to(writer)
    assert writer.taken == b"def"


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=200), st.data())
def test_memory_drains_in_order_however_little_is_taken(blocks, data):
    """Partial sends lose and repeat nothing, in whichever buffer they end."""
    buffer = OutputBuffer(OutputLimits())
    for block in blocks:
        buffer.append(block)
    writer = FakeWriter(space=0)
    while buffer:
        writer.space = data.draw(st.integers(1, 40))
        buffer.send_to(writer)
        assert buffer.memory == sum(map(len, blocks)) - len(writer.taken)
    assert writer.taken == b"".join(blocks)


def test_many_small_blocks_leave_in_few_calls():
    """Up to `BUFFERS_PER_CALL` buffers go to the kernel at once."""
    buffer = OutputBuffer(OutputLimits())
    for _ in range(BUFFERS_PER_CALL * 2):
        buffer.append(b"x")
    writer = FakeWriter()
    while buffer:
        buffer.send_to(writer)
    assert len(writer.calls) == 2


def test_what_waits_in_memory_goes_to_disk_first():
    """Once memory is full, the spool begins with what memory held, and memory takes no more."""
    buffer = OutputBuffer(OutputLimits(memory=3, spool=100))
    buffer.append(b"abc")
    assert not buffer.fits(1)
    assert buffer.open_spool() == [b"abc"]
    assert buffer.memory == 0
    spill(buffer.spool, b"abc")
    assert buffer.spooled
    assert not buffer.fits(1)
    assert buffer.open_spool() == []
    writer = FakeWriter(space=2)
    assert buffer.send_to(writer) == 2
    writer.space = 5
    assert buffer.send_to(writer) == 1
    assert writer.taken == b"abc"
    assert not buffer
    assert buffer.fits(3)
    buffer.close()


def test_without_a_spool_there_is_an_error_and_no_loss():
    """A limit of 0 means no file, which whoever asks must know; memory keeps what it has."""
    buffer = OutputBuffer(OutputLimits(memory=3, spool=0))
    buffer.append(b"abc")
    with pytest.raises(OSError, match="no spool"):
        buffer.open_spool()
    writer = FakeWriter()
    buffer.send_to(writer)
    assert writer.taken == b"abc"


def test_a_file_that_cannot_be_made_leaves_memory_as_it_was(monkeypatch):
    """No place for temporary files is an OSError; what waits stays in memory."""

    def no_file(*args, **options):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_file)
    buffer = OutputBuffer(OutputLimits(memory=3, spool=10))
    buffer.append(b"abc")
    with pytest.raises(OSError, match="no space"):
        buffer.open_spool()
    assert buffer.memory == 3
    buffer.close()


def test_room_for_a_waiting_worker_is_half_of_the_spool():
    """A worker is woken when half of the spool is free, not for every byte."""
    buffer = OutputBuffer(OutputLimits(memory=0, spool=10))
    assert buffer.has_space
    buffer.open_spool()
    spill(buffer.spool, b"0123456789")
    assert not buffer.has_space
    buffer.send_to(FakeWriter(space=5))
    assert buffer.has_space
    buffer.close()


def test_a_spool_that_was_cut_is_an_error():
    """Bytes that vanished from the disk end the connection; nothing loops for ever."""
    buffer = OutputBuffer(OutputLimits(memory=0, spool=10))
    buffer.open_spool()
    spill(buffer.spool, b"abc")
    os.ftruncate(buffer.spool.free_region().descriptor, 0)
    with pytest.raises(OSError, match="has been cut"):
        buffer.send_to(FakeWriter())
    buffer.close()


def test_a_part_of_a_file_is_sent_from_a_duplicate(file):
    """The application may close its file before the client has read it."""
    with no_descriptor_leaks():
        buffer = OutputBuffer(OutputLimits())
        buffer.append(b"head ")
        other = os.dup(file.fileno())
        buffer.append_file(FileRange(other, 2, 6))
        os.close(other)
        writer = FakeWriter(space=0)
        while buffer:
            writer.space = 4
            buffer.send_to(writer)
        assert writer.taken == b"head 234567"


def test_a_file_that_became_shorter_is_an_error(file):
    """What was promised cannot be sent; the descriptor is given back with the rest."""
    with no_descriptor_leaks():
        buffer = OutputBuffer(OutputLimits())
        buffer.append_file(FileRange(file.fileno(), 8, 5))
        writer = FakeWriter()
        buffer.send_to(writer)
        with pytest.raises(OSError, match="shorter"):
            buffer.send_to(writer)
        buffer.close()
    assert writer.taken == b"89"


def test_closing_gives_everything_back(file):
    """Files and the spool are closed, and nothing waits any more."""
    with no_descriptor_leaks():
        buffer = OutputBuffer(OutputLimits(memory=0, spool=10))
        buffer.open_spool()
        spill(buffer.spool, b"abc")
        buffer.append_file(FileRange(file.fileno(), 0, 5))
        buffer.close()
        assert not buffer


def test_closing_leaves_the_spool_to_a_worker_that_writes_it():
    """A descriptor in use is not closed under the thread that uses it."""
    buffer = OutputBuffer(OutputLimits(memory=0, spool=10))
    buffer.open_spool()
    buffer.spool.writing = True
    spool = buffer.spool
    buffer.close()
    assert Spool.write_at(spool.free_region(), memoryview(b"late")) == 4
    spool.close()


def test_responses_count_as_long_as_they_are_in_memory():
    """Sent, moved to disk, or dropped: the budget is what is held."""
    budget = MemoryBudget(1000)
    buffers = [OutputBuffer(OutputLimits(100, 100, budget)) for _ in range(3)]
    for buffer in buffers:
        buffer.append(b"x" * 50)
    assert budget.held == 150
    buffers[0].send_to(FakeWriter(20))
    assert budget.held == 130
    buffers[1].open_spool()
    assert budget.held == 80
    for buffer in buffers:
        buffer.close()
    assert budget.held == 0


def test_responses_go_to_disk_sooner_while_memory_is_scarce():
    """Above half of the budget, a connection keeps no more than `SCARCE_MEMORY` bytes."""
    budget = MemoryBudget(1_000_000)
    buffer = OutputBuffer(OutputLimits(500_000, 500_000, budget))
    assert buffer.fits(SCARCE_MEMORY + 1)
    budget.add(500_001)
    assert not buffer.fits(SCARCE_MEMORY + 1)
    assert buffer.fits(SCARCE_MEMORY)
    small = OutputBuffer(OutputLimits(10, 500_000, budget))
    assert not small.fits(11)
