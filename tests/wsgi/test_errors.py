"""The stream behind wsgi.errors."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from wsgiref.validate import ErrorWrapper

import pytest

from aiowsgi.wsgi.errors import ErrorStream


@pytest.fixture
def stream() -> Iterator[ErrorStream]:
    """A stream, which is flushed after the test."""
    stream = ErrorStream()
    yield stream
    stream.flush()


@pytest.mark.parametrize(
    ("writes", "messages"),
    [
        (["a line\n"], ["a line"]),
        (["half ", "and half\n"], ["half and half"]),
        (["one\ntwo\n"], ["one\ntwo"]),
        (["one\ntwo"], ["one"]),
        (["one\ntwo", " three\n"], ["one", "two three"]),
        (["", "\n", " \n", "x\n"], ["x"]),
        (["100%s\n"], ["100%s"]),
    ],
)
def test_whole_lines_become_records(
    stream: ErrorStream, caplog: pytest.LogCaptureFixture, writes: list[str], messages: list[str]
) -> None:
    """Each write that completes a line is one record, of level ERROR."""
    assert [stream.write(text) for text in writes] == [len(text) for text in writes]
    assert caplog.messages == messages
    assert {(entry.name, entry.levelname) for entry in caplog.records} == {
        ("aiowsgi.errors", "ERROR")
    }


def test_flush_ends_a_line(stream: ErrorStream, caplog: pytest.LogCaptureFixture) -> None:
    """Flushed text is logged at once, and only once; close() flushes and does not close."""
    stream.write("no end")
    stream.flush()
    stream.flush()
    stream.write("last words")
    stream.close()
    stream.write("after\n")
    assert caplog.messages == ["no end", "last words", "after"]


def test_a_traceback_is_one_record(stream: ErrorStream, caplog: pytest.LogCaptureFixture) -> None:
    """The lines of one writelines() stay together, as those of one write() do."""
    try:
        raise LookupError("the application's")
    except LookupError as error:
        stream.writelines(traceback.format_exception(error))
    [message] = caplog.messages
    assert message.startswith("Traceback (most recent call last):\n")
    assert message.endswith("LookupError: the application's")


def test_print_and_logging_write_whole_lines(
    stream: ErrorStream, caplog: pytest.LogCaptureFixture
) -> None:
    """Text that print() and logging write in parts becomes whole lines."""
    print("printed", 1, file=stream)
    handler = logging.StreamHandler(stream)
    handler.handle(logging.makeLogRecord({"msg": "handled"}))
    assert caplog.messages == ["printed 1", "handled"]


def test_threads_do_not_mix(stream: ErrorStream, caplog: pytest.LogCaptureFixture) -> None:
    """A line begun in one thread is not ended by another."""
    barrier = Barrier(2)

    def write(name: str) -> None:
        stream.write(name)
        barrier.wait(10)
        stream.write(name + "\n")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ["a", "b"]))
    assert sorted(caplog.messages) == ["aa", "bb"]


def test_the_validator_is_content(stream: ErrorStream) -> None:
    """The stream has the methods of PEP 3333, and refuses bytes."""
    validated = ErrorWrapper(stream)
    validated.write("x\n")
    validated.writelines(["y\n"])
    validated.flush()
    assert stream.writable()
    with pytest.raises(TypeError, match=r"wsgi\.errors takes str, not bytes"):
        stream.write(b"x")  # type: ignore[arg-type]


def test_a_handler_that_writes_back(
    stream: ErrorStream, capsys: pytest.CaptureFixture[str]
) -> None:
    """An application whose logging writes to wsgi.errors causes no endless loop."""
    handler = logging.StreamHandler(stream)
    target = logging.getLogger("aiowsgi.errors")
    target.addHandler(handler)
    try:
        stream.write("once\n")
    finally:
        target.removeHandler(handler)
    assert capsys.readouterr().err == "once\n"
