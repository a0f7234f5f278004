"""Bodies collected before the application starts: in memory, on disk, given away, forgotten."""

from __future__ import annotations

import errno
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import no_descriptor_leaks

from aiowsgi.connection.body_buffer import SCARCE_THRESHOLD, THRESHOLD, BodyBuffer
from aiowsgi.exchange.memory_budget import MemoryBudget

BUDGET = MemoryBudget()
"""Without a limit."""


SIZES = st.integers(0, 20) | st.integers(0, THRESHOLD) | st.just(THRESHOLD)


@given(st.lists(SIZES, max_size=5), st.booleans())
def test_what_was_added_is_read_back(sizes, to_disk):
    """In memory or on disk, the file is the blocks joined, from its beginning."""
    blocks = [bytes([number]) * size for number, size in enumerate(sizes)]
    buffer = BodyBuffer(BUDGET, to_disk=to_disk)
    for block in blocks:
        buffer.add(block)
    assert buffer.size == len(b"".join(blocks))
    with buffer.open() as file:
        assert file.read() == b"".join(blocks)
    buffer.close()


@pytest.mark.parametrize("to_disk", [False, True])
def test_it_is_full_at_the_threshold_unless_it_has_a_disk(to_disk):
    """The interface promises 512 KiB."""
    assert THRESHOLD == 512 * 1024
    buffer = BodyBuffer(BUDGET, to_disk=to_disk)
    buffer.add(bytes(THRESHOLD - 1))
    assert not buffer.full
    buffer.add(b"x")
    assert buffer.full is not to_disk
    buffer.close()


def test_what_is_held_can_begin_a_stream():
    """It is given away once."""
    buffer = BodyBuffer(BUDGET, to_disk=False)
    buffer.add(b"a")
    buffer.add(b"b")
    assert buffer.take() == b"ab"
    assert buffer.take() == b""


def test_an_upload_that_dribbles_takes_no_more_memory_than_its_size():
    """However small its pieces are."""
    buffer = BodyBuffer(BUDGET, to_disk=False)
    tracemalloc.start()
    try:
        for number in range(THRESHOLD // 8):
            buffer.add(b"%08d" % number)
        assert tracemalloc.get_traced_memory()[0] < 2 * THRESHOLD
    finally:
        tracemalloc.stop()
    assert buffer.full


def test_the_disk_is_used_beyond_the_threshold_only():
    """Small bodies make no file."""
    with no_descriptor_leaks():
        buffer = BodyBuffer(BUDGET, to_disk=True)
        buffer.add(bytes(THRESHOLD))
        assert buffer._file is None
        buffer.add(b"x")
        buffer.add(b"y")
        assert buffer._file is not None
        assert not buffer._held
        buffer.close()
        buffer.close()


def test_closing_on_a_full_disk_is_no_error(tmp_path, monkeypatch):
    """What is buffered cannot be written, and nobody wants it any more."""

    def full(**options):
        return open("/dev/full", "w+b", buffering=1_000_000)

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with no_descriptor_leaks():
        buffer = BodyBuffer(BUDGET, to_disk=True)
        buffer.add(b"x" * (THRESHOLD + 1))
        with pytest.raises(OSError, match="No space left") as caught:
            buffer.open()
        assert caught.value.errno == errno.ENOSPC
        buffer.close()


def test_what_is_in_memory_counts_until_it_is_released():
    """In the buffer, then in the file that the application reads, until that is closed."""
    budget = MemoryBudget(1000)
    buffer = BodyBuffer(budget, to_disk=False)
    buffer.add(bytes(300))
    buffer.add(bytes(100))
    assert budget.held == 400
    file = buffer.open()
    assert budget.held == 400
    file.close()
    file.close()
    assert budget.held == 0
    buffer.add(bytes(100))
    buffer.close()
    assert budget.held == 0


def test_a_body_goes_to_disk_sooner_while_memory_is_scarce():
    """What was in memory is written to the file too, and is counted no longer."""
    budget = MemoryBudget(10 * SCARCE_THRESHOLD)
    buffer = BodyBuffer(budget, to_disk=False)
    buffer.add(b"a" * SCARCE_THRESHOLD)
    budget.add(5 * SCARCE_THRESHOLD)
    buffer.add(b"b")
    assert budget.held == 5 * SCARCE_THRESHOLD
    # It is not streamed then, however long it becomes.
    buffer.add(bytes(THRESHOLD))
    assert not buffer.full
    with buffer.open() as file:
        assert file.read() == b"a" * SCARCE_THRESHOLD + b"b" + bytes(THRESHOLD)


def test_a_small_body_stays_in_memory_while_memory_is_scarce():
    """A file would take more."""
    budget = MemoryBudget(1000)
    budget.add(900)
    buffer = BodyBuffer(budget, to_disk=False)
    buffer.add(bytes(50))
    assert budget.held == 950
    buffer.close()
