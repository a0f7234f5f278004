"""What a client has not read yet: order, bounds, the ring on disk, and its failures."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FakePort, no_descriptor_leaks

from aiowsgi.exchange.output_buffer import READ_SIZE, VECTOR, OutputBuffer, OutputLimits, Spool
from aiowsgi.wsgi.file_wrapper import FileRange


def spill(spool, data):
    """Write ``data`` to the spool as far as there is room; returns the rest."""
    view = memoryview(data)
    while view and (region := spool.room()).size:
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
            assert not rest or spool.room().size == 0
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
        assert os.fstat(spool.room().descriptor).st_nlink == 0
        spool.close()


def test_what_fits_into_memory_is_bounded():
    """Memory takes as much as the limit says, counting what waits already."""
    backlog = OutputBuffer(OutputLimits(10, 0))
    assert not backlog
    assert backlog.fits(10)
    assert not backlog.fits(11)
    backlog.append(b"12345")
    assert backlog
    assert backlog.fits(5)
    assert not backlog.fits(6)


def test_a_part_of_a_block_lets_go_of_the_whole():
    """What is kept is a copy, so that the end of a large block does not keep all of it."""
    backlog = OutputBuffer(OutputLimits())
    block = bytearray(b"abcdef")
    backlog.append(memoryview(block)[3:])
    block[:] = b"xxxxxx"
    port = FakePort()
    backlog.send_to(port)
    assert port.taken == b"def"


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=200), st.data())
def test_memory_drains_in_order_however_little_is_taken(blocks, data):
    """Partial sends lose and repeat nothing, in whichever buffer they end."""
    backlog = OutputBuffer(OutputLimits())
    for block in blocks:
        backlog.append(block)
    port = FakePort(room=0)
    while backlog:
        port.room = data.draw(st.integers(1, 40))
        backlog.send_to(port)
        assert backlog.memory == sum(map(len, blocks)) - len(port.taken)
    assert port.taken == b"".join(blocks)


def test_many_small_blocks_leave_in_few_calls():
    """Up to `VECTOR` buffers go to the kernel at once."""
    backlog = OutputBuffer(OutputLimits())
    for _ in range(VECTOR * 2):
        backlog.append(b"x")
    port = FakePort()
    while backlog:
        backlog.send_to(port)
    assert len(port.calls) == 2


def test_what_waits_in_memory_goes_to_disk_first():
    """Once memory is full, the spool begins with what memory held, and memory takes no more."""
    backlog = OutputBuffer(OutputLimits(memory=3, spool=100))
    backlog.append(b"abc")
    assert not backlog.fits(1)
    assert backlog.open_spool() == [b"abc"]
    assert backlog.memory == 0
    spill(backlog.spool, b"abc")
    assert backlog.spooled
    assert not backlog.fits(1)
    assert backlog.open_spool() == []
    port = FakePort(room=2)
    assert backlog.send_to(port) == 2
    port.room = 5
    assert backlog.send_to(port) == 1
    assert port.taken == b"abc"
    assert not backlog
    assert backlog.fits(3)
    backlog.close()


def test_without_a_spool_there_is_an_error_and_no_loss():
    """A limit of 0 means no file, which whoever asks must know; memory keeps what it has."""
    backlog = OutputBuffer(OutputLimits(memory=3, spool=0))
    backlog.append(b"abc")
    with pytest.raises(OSError, match="no spool"):
        backlog.open_spool()
    port = FakePort()
    backlog.send_to(port)
    assert port.taken == b"abc"


def test_a_file_that_cannot_be_made_leaves_memory_as_it_was(monkeypatch):
    """No place for temporary files is an OSError; what waits stays in memory."""

    def no_file(*args, **options):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_file)
    backlog = OutputBuffer(OutputLimits(memory=3, spool=10))
    backlog.append(b"abc")
    with pytest.raises(OSError, match="no room"):
        backlog.open_spool()
    assert backlog.memory == 3
    backlog.close()


def test_room_for_a_waiting_worker_is_half_of_the_spool():
    """A worker is woken when half of the spool is free, not for every byte."""
    backlog = OutputBuffer(OutputLimits(memory=0, spool=10))
    assert backlog.roomy
    backlog.open_spool()
    spill(backlog.spool, b"0123456789")
    assert not backlog.roomy
    backlog.send_to(FakePort(room=5))
    assert backlog.roomy
    backlog.close()


def test_a_spool_that_was_cut_is_an_error():
    """Bytes that vanished from the disk end the connection; nothing loops for ever."""
    backlog = OutputBuffer(OutputLimits(memory=0, spool=10))
    backlog.open_spool()
    spill(backlog.spool, b"abc")
    os.ftruncate(backlog.spool.room().descriptor, 0)
    with pytest.raises(OSError, match="has been cut"):
        backlog.send_to(FakePort())
    backlog.close()


def test_a_part_of_a_file_is_sent_from_a_duplicate(file):
    """The application may close its file before the client has read it."""
    with no_descriptor_leaks():
        backlog = OutputBuffer(OutputLimits())
        backlog.append(b"head ")
        other = os.dup(file.fileno())
        backlog.append_file(FileRange(other, 2, 6))
        os.close(other)
        port = FakePort(room=0)
        while backlog:
            port.room = 4
            backlog.send_to(port)
        assert port.taken == b"head 234567"


def test_a_file_that_became_shorter_is_an_error(file):
    """What was promised cannot be sent; the descriptor is given back with the rest."""
    with no_descriptor_leaks():
        backlog = OutputBuffer(OutputLimits())
        backlog.append_file(FileRange(file.fileno(), 8, 5))
        port = FakePort()
        backlog.send_to(port)
        with pytest.raises(OSError, match="shorter"):
            backlog.send_to(port)
        backlog.close()
    assert port.taken == b"89"


def test_closing_gives_everything_back(file):
    """Files and the spool are closed, and nothing waits any more."""
    with no_descriptor_leaks():
        backlog = OutputBuffer(OutputLimits(memory=0, spool=10))
        backlog.open_spool()
        spill(backlog.spool, b"abc")
        backlog.append_file(FileRange(file.fileno(), 0, 5))
        backlog.close()
        assert not backlog


def test_closing_leaves_the_spool_to_a_worker_that_writes_it():
    """A descriptor in use is not closed under the thread that uses it."""
    backlog = OutputBuffer(OutputLimits(memory=0, spool=10))
    backlog.open_spool()
    backlog.spool.writing = True
    spool = backlog.spool
    backlog.close()
    assert Spool.write_at(spool.room(), memoryview(b"late")) == 4
    spool.close()
