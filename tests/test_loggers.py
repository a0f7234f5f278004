"""The server's loggers: what an application's logging set-up cannot do to them."""

from __future__ import annotations

import io
import logging
import logging.config
import re
from pathlib import Path

import pytest

from aiowsgi import loggers
from aiowsgi.loggers import NAMES, ServerLogger, current_request_id

PACKAGE = Path(loggers.__file__).parent


class Broken(logging.Handler):
    """A handler that fails outside what `logging` protects."""

    def __init__(self, *, in_filter):
        super().__init__()
        if in_filter:
            self.addFilter(lambda record: record.user_id)
        self.in_filter = in_filter
        self.handled = 0

    def handle(self, record):
        self.handled += 1
        if self.in_filter:
            return super().handle(record)
        raise LookupError("no place for it")


@pytest.fixture
def logger():
    """The parent of the server's loggers, with no handler but a test's."""
    logger = logging.getLogger("aiowsgi")
    before, level, propagates = logger.handlers[:], logger.level, logger.propagate
    logger.handlers[:], logger.propagate = [], False
    logger.setLevel("INFO")
    ServerLogger._reported.clear()
    yield logger
    logger.handlers[:], logger.propagate = before, propagates
    logger.setLevel(level)


def test_every_logger_of_the_project_is_one():
    """A name that a module uses is in the list."""
    used = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r'getLogger\("([^"]+)"\)', path.read_text())
    }
    assert used <= set(NAMES)
    assert all(isinstance(logging.getLogger(name), ServerLogger) for name in NAMES)


@pytest.mark.parametrize("in_filter", [True, False])
def test_an_exception_in_a_handler_or_filter_stays_there(logger, capsys, in_filter):
    """The reason is written once, and every record that was not handled."""
    handler = Broken(in_filter=in_filter)
    logger.addHandler(handler)
    for number in range(3):
        logging.getLogger("aiowsgi.server").error("message %d", number)
    assert handler.handled == 3
    said = capsys.readouterr().err
    assert [said.count(f"message {number}") for number in range(3)] == [1, 1, 1]
    assert said.count("an exception in a logging handler or filter") == 1
    assert said.count("AttributeError: " if in_filter else "LookupError: ") == 1


def test_a_filter_of_the_logger_is_one_too(logger, capsys):
    """Not only a handler's."""
    server = logging.getLogger("aiowsgi.server")
    fail = lambda record: record.user_id  # noqa: E731
    server.addFilter(fail)
    try:
        server.error("message")
    finally:
        server.removeFilter(fail)
    assert "message" in capsys.readouterr().err


def test_the_number_of_reasons_is_bounded(logger, capsys):
    """A reason that is different for each record is written a bounded number of times."""
    numbers = iter(range(1000))

    def fail(record):
        raise LookupError(next(numbers))

    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(fail)
    logger.addHandler(handler)
    for _ in range(300):
        logger.error("message")
    said = capsys.readouterr().err
    assert said.count("an exception in a logging handler or filter") == 100
    assert said.count("] message") == 300


def test_without_standard_error_a_record_is_lost(logger, monkeypatch):
    """Nothing else is left to do with it, and the caller goes on."""
    logger.addHandler(Broken(in_filter=True))
    monkeypatch.setattr("sys.stderr", None)
    logger.error("message")


@pytest.mark.parametrize("how", ["dictConfig", "fileConfig"])
def test_existing_loggers_are_not_disabled(logger, tmp_path, how, capsys):
    """By either function of `logging.config`, with its default."""
    logger.addHandler(logging.StreamHandler())
    before = logging.root.handlers[:]
    if how == "dictConfig":
        logging.config.dictConfig({"version": 1})
    else:
        file = tmp_path / "logging.ini"
        file.write_text(
            "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n"
            "[logger_root]\nlevel=WARNING\nhandlers=\n"
        )
        logging.config.fileConfig(file)
    logging.root.handlers[:] = before
    logging.getLogger("aiowsgi.application").error("the reason")
    assert "the reason" in capsys.readouterr().err


def test_a_class_of_loggers_that_a_program_has_set_is_kept():
    """What a program's own class of loggers adds is there, too."""

    class Program(logging.Logger):
        mark = "program"

    name = "aiowsgi.gate"
    logger = logging.getLogger(name)
    logger.__class__ = Program
    loggers._install()
    assert isinstance(logger, ServerLogger)
    assert logger.mark == "program"
    logger.__class__ = ServerLogger


def test_records_have_the_identifier_of_the_request(logger, caplog):
    """Unless they have another one, or no request is running."""
    logger.addHandler(caplog.handler)
    logger.error("none")
    token = current_request_id.set("id-1")
    logger.error("its own")
    logger.error("another", extra={"request_id": "id-2"})
    current_request_id.reset(token)
    found = [getattr(record, "request_id", None) for record in caplog.records]
    assert found == [None, "id-1", "id-2"]
