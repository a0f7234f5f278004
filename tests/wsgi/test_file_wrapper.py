"""Which files the kernel may send, and from which position."""

from __future__ import annotations

import gzip
import io
import os
import tempfile

import pytest

from aiowsgi.wsgi.file_wrapper import FileRange, FileWrapper, file_range

CONTENT = b"0123456789"


@pytest.fixture
def path(tmp_path):
    """A file of ten bytes."""
    made = tmp_path / "file"
    made.write_bytes(CONTENT)
    return made


@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("buffering", [0, -1, 4])
def test_a_plain_file_is_recognised(path, mode, buffering):
    """The range begins at the application's position, whatever has been read ahead."""
    with path.open(mode, buffering=buffering) as file:
        assert file_range(file) == FileRange(file.fileno(), 0, 10)
        file.read(3)
        assert file_range(file) == FileRange(file.fileno(), 3, 7)
        file.seek(10)
        assert file_range(file).size == 0
        file.seek(20)
        assert file_range(file) == FileRange(file.fileno(), 20, 0)


def test_what_was_written_is_part_of_the_file(path):
    """A file opened for reading and writing is flushed first."""
    with path.open("r+b") as file:
        file.seek(0, io.SEEK_END)
        file.write(b"abc")
        file.seek(2)
        file.write(b"X")
        part = file_range(file)
        assert part == FileRange(file.fileno(), 3, 10)
        assert os.pread(part.descriptor, 100, 0) == b"01X3456789abc"


@pytest.mark.parametrize("make", [tempfile.TemporaryFile, tempfile.NamedTemporaryFile])
def test_a_temporary_file_is_recognised(make):
    """Files of ``tempfile`` are recognised with and without their wrapper."""
    with make() as file:
        file.write(CONTENT)
        file.seek(4)
        assert file_range(file) == FileRange(file.fileno(), 4, 6)


class Lying(io.FileIO):
    """A file whose bytes are not those of its descriptor."""

    def read(self, size=-1):
        return b"other"


def not_files(path):
    """Objects that have a descriptor, or seem to, and must be read."""
    compressed = path.with_suffix(".gz")
    compressed.write_bytes(gzip.compress(CONTENT))
    reader, writer = os.pipe()
    os.close(writer)
    spooled = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - the test closes it
    spooled.write(CONTENT)
    return {
        "gzip": gzip.open(compressed),
        "memory": io.BytesIO(CONTENT),
        "text": path.open(),
        "buffer over memory": io.BufferedReader(io.BytesIO(CONTENT)),
        "subclass": Lying(path),
        "buffered subclass": io.BufferedReader(Lying(path)),
        "pipe": open(reader, "rb"),
        "spooled": spooled,
        "write only": path.with_suffix(".new").open("wb", buffering=0),
        "write only, buffered": path.with_suffix(".new").open("wb"),
        "of the kernel's": open("/proc/self/status", "rb"),
    }


KINDS = [
    *("gzip", "memory", "text", "buffer over memory", "subclass", "buffered subclass", "pipe"),
    *("spooled", "write only", "write only, buffered", "of the kernel's"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_only_looks_like_a_file_is_not_taken_for_one(path, kind):
    """A descriptor does not prove that a reader would see the same bytes."""
    files = not_files(path)
    assert file_range(files[kind]) is None
    for file in files.values():
        file.close()


@pytest.mark.parametrize("thing", [None, object(), b"bytes", 5, FileRange(0, 0, 0)])
def test_what_is_no_file_at_all(thing):
    """An application may return any object."""
    assert file_range(thing) is None


def test_an_empty_file_is_left_to_be_read(tmp_path):
    """A size of 0 proves nothing: files of /proc have it too."""
    path = tmp_path / "empty"
    path.touch()
    with path.open("rb") as file:
        assert file_range(file) is None


def test_a_closed_file_is_an_error(path):
    """The application's, and not to be mistaken for another descriptor."""
    file = path.open("rb")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file_range(file)


@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_the_wrapper_gives_blocks(size):
    """PEP 3333: the wrapper is an iterable over read() of any object."""
    assert list(FileWrapper(io.BytesIO(CONTENT), size)) == [
        CONTENT[n : n + size] for n in range(0, 10, size)
    ]


def test_the_wrapper_has_a_close_only_if_the_file_has():
    """close() exists if the object has it (PEP 3333)."""
    file = io.BytesIO()
    FileWrapper(file).close()
    assert file.closed

    class Reader:
        def read(self, size):
            return b""

    assert not hasattr(FileWrapper(Reader()), "close")
