"""Sinks on real files and pipes, and on a file that has no room."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiowsgi.exceptions import ConfigError
from aiowsgi.logs.sinks import DescriptorSink, FileSink, LoggerSink, open_sink

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and modes of POSIX")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe, reader first."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


class CountingSink(DescriptorSink):
    """Remembers the size of each write; the first ``script`` entries decide what becomes of it.

    A number is how many bytes the disk takes, an exception what it raises.
    """

    def __init__(self, descriptor: int, *script: int | OSError) -> None:
        super().__init__(descriptor)
        self.script = list(script)
        self.sizes: list[int] = []

    def _write_some(self, data: bytes) -> int:
        step = self.script.pop(0) if self.script else len(data)
        if isinstance(step, OSError):
            raise step
        self.sizes.append(step)
        return super()._write_some(data[:step])


def test_a_batch_for_a_file_is_one_write(tmp_path: Path) -> None:
    """However long, a batch reaches a file in one system call."""
    lines = ["x" * 3000] * 100
    with (tmp_path / "log").open("wb") as file:
        sink = CountingSink(file.fileno())
        sink.write(lines)
    assert sink.sizes == [300_100]
    assert (tmp_path / "log").read_text() == "".join(line + "\n" for line in lines)


@pytest.mark.parametrize(
    ("lengths", "pieces"),
    [
        ([10], [11]),
        ([select.PIPE_BUF - 1], [select.PIPE_BUF]),
        ([2000, 2000, 2000], [4002, 2001]),
        ([9000], [9001]),
        ([10, 9000, 10], [11, 9001, 11]),
    ],
)
def test_pieces_for_a_pipe(pipe: tuple[int, int], lengths: list[int], pieces: list[int]) -> None:
    """A pipe gets whole lines, as many as PIPE_BUF holds, and a longer one alone."""
    if select.PIPE_BUF != 4096:
        pytest.skip("the table is made for 4,096 bytes")
    sink = CountingSink(pipe[1])
    sink.write(["x" * length for length in lengths])
    assert sink.sizes == pieces
    assert os.read(pipe[0], 65536) == b"".join(b"x" * length + b"\n" for length in lengths)


def test_any_character_of_a_format_is_written(pipe: tuple[int, int]) -> None:
    """Text beyond ASCII is UTF-8, and what UTF-8 lacks is escaped."""
    DescriptorSink(pipe[1]).write(["é \ud800"])
    assert os.read(pipe[0], 100) == "é \\ud800\n".encode()


def test_after_a_torn_line_comes_a_new_one(tmp_path: Path) -> None:
    """When a full disk has cut a line and has room again, the next line begins afresh."""
    full = OSError(28, "No space left on device")
    path = tmp_path / "log"
    with path.open("wb") as file:
        sink = CountingSink(file.fileno(), full, 3, full, full)
        for _ in range(3):  # nothing, a part, nothing
            with pytest.raises(OSError, match="No space"):
                sink.write(["first"])
        sink.write(["second"])
        sink.write(["third"])
    assert path.read_text() == "fir\nsecond\nthird\n"


def test_a_short_write_is_continued(tmp_path: Path) -> None:
    """What the kernel did not take is offered again."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        CountingSink(file.fileno(), 2, 2).write(["abcdef"])
    assert path.read_text() == "abcdef\n"


def fill(writer: int) -> None:
    """Fill a pipe, and leave it non-blocking."""
    os.set_blocking(writer, False)
    os.write(writer, b"x" * 16 * 1024 * 1024)  # takes what there is room for


def test_a_full_pipe_is_waited_for(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that does not block is waited for, until its reader has made room."""
    reader, writer = pipe
    fill(writer)
    real_poll = select.poll

    def poll() -> select.poll:
        while select.select([reader], [], [], 0)[0]:
            os.read(reader, 65536)
        return real_poll()

    monkeypatch.setattr(select, "poll", poll)
    DescriptorSink(writer).write(["kept"])
    assert os.read(reader, 65536) == b"kept\n"


def test_a_full_pipe_whose_reader_stays_away(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for a reader has an end, and that is an error."""
    monkeypatch.setattr("aiowsgi.logs.sinks.PATIENCE", 0.001)
    fill(pipe[1])
    with pytest.raises(BlockingIOError):
        DescriptorSink(pipe[1]).write(["lost"])


def test_a_pipe_without_a_reader_is_an_error() -> None:
    """EPIPE is the caller's to report, not a signal's to end the process."""
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        DescriptorSink(writer).write(["x"])
    os.close(writer)


# Files


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    """What a file holds already stays, and children of the application do not inherit it."""
    path = tmp_path / "log"
    path.write_text("before\n")
    sink = FileSink(str(path))
    sink.write(["after"])
    assert not os.get_inheritable(sink.descriptor)
    sink.close()
    assert path.read_text() == "before\nafter\n"


def test_reopening_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    """The old file is closed once the new one is open, and kept where that fails."""
    (tmp_path / "logs").mkdir()
    sink = FileSink(str(tmp_path / "logs" / "log"))
    first = sink.descriptor
    sink.reopen()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first)
    (tmp_path / "logs").rename(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        sink.reopen()
    sink.write(["still"])
    sink.close()
    assert (tmp_path / "gone" / "log").read_text() == "still\n"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """At the start the operator is told which option names the file, and what is wrong with it."""
    with pytest.raises(ConfigError, match=r"access-logfile: .*No such file or directory: '.*/no/"):
        open_sink(str(tmp_path / "no" / "log"))


# Standard output and loggers


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """``-`` writes to descriptor 1, which is never closed."""
    sink = open_sink("-")
    sink.reopen()
    sink.write(["a", "b"])
    sink.close()
    sink.write(["c"])
    assert capfd.readouterr().out == "a\nb\nc\n"


def test_standard_output_that_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process started without standard output must not log into whatever got its number."""
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(ConfigError, match="access-logfile: standard output is closed"):
        open_sink("-")


def test_a_logger_gets_each_line(caplog: pytest.LogCaptureFixture) -> None:
    """Lines become messages as they are, percent signs and all."""
    target = logging.getLogger("aiowsgi.access")
    sink = LoggerSink(target)
    with caplog.at_level(logging.INFO, target.name):
        sink.write(["100%s", "b"])
        sink.reopen()
        sink.close()
    assert [(entry.levelname, entry.getMessage()) for entry in caplog.records] == [
        ("INFO", "100%s"),
        ("INFO", "b"),
    ]
