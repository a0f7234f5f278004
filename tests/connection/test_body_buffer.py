"""Bodies held before the application starts: in memory, on disk, given away, forgotten."""

from __future__ import annotations

import errno
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import no_descriptor_leaks

from aiowsgi.connection import body_buffer as intake_module
from aiowsgi.connection.body_buffer import THRESHOLD, BodyBuffer


@given(st.lists(st.binary(max_size=20)), st.booleans(), st.integers(1, 60))
def test_what_was_added_is_read_back(blocks, to_disk, threshold):
    """In memory or on disk, the file is the blocks joined, from its beginning."""
    original, intake_module.THRESHOLD = THRESHOLD, threshold
    try:
        intake = BodyBuffer(to_disk=to_disk)
        for block in blocks:
            intake.add(block)
        assert intake.size == len(b"".join(blocks))
        with intake.open() as file:
            assert file.read() == b"".join(blocks)
        intake.close()
    finally:
        intake_module.THRESHOLD = original


@pytest.mark.parametrize("to_disk", [False, True])
def test_it_is_full_at_the_threshold_unless_it_has_a_disk(to_disk):
    """The interface promises 512 KiB."""
    assert THRESHOLD == 512 * 1024
    intake = BodyBuffer(to_disk=to_disk)
    intake.add(bytes(THRESHOLD - 1))
    assert not intake.full
    intake.add(b"x")
    assert intake.full is not to_disk
    intake.close()


def test_what_is_held_can_begin_a_stream():
    """It is given away once."""
    intake = BodyBuffer(to_disk=False)
    intake.add(b"a")
    intake.add(b"b")
    assert intake.take() == b"ab"
    assert intake.take() == b""


def test_an_upload_that_dribbles_takes_no_more_memory_than_its_size():
    """However small its pieces are."""
    intake = BodyBuffer(to_disk=False)
    tracemalloc.start()
    try:
        for number in range(THRESHOLD // 8):
            intake.add(b"%08d" % number)
        assert tracemalloc.get_traced_memory()[0] < 2 * THRESHOLD
    finally:
        tracemalloc.stop()
    assert intake.full


def test_the_disk_is_used_beyond_the_threshold_only():
    """Small bodies make no file."""
    with no_descriptor_leaks():
        intake = BodyBuffer(to_disk=True)
        intake.add(bytes(THRESHOLD))
        assert intake._file is None
        intake.add(b"x")
        intake.add(b"y")
        assert intake._file is not None
        assert not intake._held
        intake.close()
        intake.close()


def test_closing_on_a_full_disk_is_no_error(tmp_path, monkeypatch):
    """What is buffered cannot be written, and nobody wants it any more."""

    def full(**options):
        return open("/dev/full", "w+b", buffering=1_000_000)

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    monkeypatch.setattr(intake_module, "THRESHOLD", 10)
    with no_descriptor_leaks():
        intake = BodyBuffer(to_disk=True)
        intake.add(b"x" * 20)
        with pytest.raises(OSError, match="No space left") as caught:
            intake.open()
        assert caught.value.errno == errno.ENOSPC
        intake.close()
