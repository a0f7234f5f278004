"""The set-up of logging: our handler, the operator's, the formats, and rotation."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiowsgi.exceptions import ConfigError
from aiowsgi.loggers import current_request_id
from aiowsgi.logs import setup as logs
from aiowsgi.wsgi.errors import ErrorStream

OURS = logging.getLogger("aiowsgi")
ACCESS = logging.getLogger("aiowsgi.access")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    """Logging is a process's; each test gives it back as it was."""
    root = logging.getLogger()
    root_handlers, level, propagate = root.handlers[:], OURS.level, OURS.propagate
    yield
    for target in (root, OURS, ACCESS, logging.getLogger("other")):
        for handler in target.handlers[:]:
            if handler not in root_handlers:
                target.removeHandler(handler)
                handler.close()
        target.disabled = False
    OURS.setLevel(level)
    logging.getLogger("aiowsgi.errors").setLevel(logging.NOTSET)
    OURS.propagate = propagate


# configure


def test_records_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a configuration of the operator's: one readable line, from the level on."""
    logs.configure(level="info")
    logging.getLogger("aiowsgi.server").info("listening on %s", "x")
    logging.getLogger("aiowsgi.server").debug("not this")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d INFO     \[\d+\] listening on x\n",
        capsys.readouterr().err,
    )


def test_the_second_setup_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    """However often it is set up, a record is written once, in the last way."""
    logs.configure(level="debug")
    logs.configure(level="warning", json_lines=True)
    OURS.info("not this")
    OURS.warning("once")
    assert json.loads(capsys.readouterr().err)["message"] == "once"


def test_a_root_handler_does_not_write_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """The application's own basicConfig() leaves our records alone."""
    logs.configure()
    logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))
    OURS.error("once")
    assert capsys.readouterr().err.count("once") == 1


@pytest.mark.parametrize(
    ("choice", "terminal", "environ", "expected"),
    [
        ("auto", True, {"TERM": "xterm"}, True),
        ("auto", True, {}, True),
        ("auto", True, {"TERM": "dumb"}, False),
        ("auto", False, {"TERM": "xterm"}, False),
        ("always", False, {"TERM": "dumb"}, True),
        ("never", True, {"TERM": "xterm"}, False),
    ],
)
def test_use_color(choice: str, terminal: bool, environ: dict[str, str], expected: bool) -> None:
    """Colours come on terminals that have them, unless somebody has decided."""

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    assert logs.use_color(choice, Stream(), environ) is expected


def test_colors_reach_the_handler(capsys: pytest.CaptureFixture[str]) -> None:
    """The choice that configure() is given is the formatter's."""
    logs.configure(color="always")
    OURS.error("x")
    assert " \x1b[31mERROR   \x1b[0m [" in capsys.readouterr().err


def test_loggers_cannot_be_disabled(capsys: pytest.CaptureFixture[str]) -> None:
    """An application's dictConfig() that disables existing loggers does not silence the server."""
    import logging.config

    logs.configure()
    server = logging.getLogger("aiowsgi.server")
    other = logging.getLogger("aiowsgix")
    logging.config.dictConfig({"version": 1})
    server.error("heard")
    assert "heard" in capsys.readouterr().err
    assert other.disabled


@pytest.mark.parametrize("given", [True, False])
def test_the_identifier_of_a_request_is_a_part_of_its_records(
    capsys: pytest.CaptureFixture[str], given: bool
) -> None:
    """In text behind the process id, on one line whatever it is; in JSON as a member."""
    logger, pid = logging.getLogger("aiowsgi.server"), os.getpid()
    extra = {"request_id": "id-1\n\x1b"} if given else None
    for json_lines in (False, True):
        logs.configure(json_lines=json_lines)
        token = current_request_id.set("id-2")
        logger.error("broken", extra=extra)
        current_request_id.reset(token)
        logger.error("other")
    text, plain, members, without = capsys.readouterr().err.splitlines()
    shown = r"id-1\x0a\x1b" if given else "id-2"
    assert f" [{pid} {shown}] broken" in text
    assert f" [{pid}] other" in plain
    assert json.loads(members)["request_id"] == ("id-1\n\x1b" if given else "id-2")
    assert "request_id" not in json.loads(without)


# --log-config

HANDLER = """
[handlers.h]
class = "logging.StreamHandler"
stream = "ext://sys.stdout"
"""


@pytest.mark.parametrize(
    ("text", "stream"),
    [
        (HANDLER + "[loggers.aiowsgi]\nhandlers = ['h']\n", "out"),
        (HANDLER + "[root]\nhandlers = ['h']\n", "out"),
        (HANDLER + "[loggers.other]\nhandlers = ['h']\n", "err"),
        ("", "err"),
    ],
)
def test_whose_handler(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    stream: str,
) -> None:
    """Records go to the operator's handler, ours or the root's; to our own without either."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # of the test runner
    path = tmp_path / "log.toml"
    path.write_text(text)
    logs.configure(config=str(path))
    OURS.error("once")
    captured = capsys.readouterr()._asdict()
    assert captured.pop(stream).count("once") == 1
    assert not any(captured.values())


@pytest.mark.parametrize(
    ("settings", "level"),
    [({}, logging.DEBUG), ({"loggers": {"aiowsgi": {"level": "ERROR"}}}, logging.ERROR)],
)
def test_whose_level(tmp_path: Path, settings: dict[str, object], level: int) -> None:
    """A level in the file wins over the option; JSON is taken as TOML is."""
    path = tmp_path / "log.JSON"
    path.write_text(json.dumps(settings))
    logs.configure(level="debug", config=str(path))
    assert OURS.level == level


def test_the_access_logger_is_the_operators(tmp_path: Path) -> None:
    """Only handlers of its own make ``aiowsgi.access`` the way of the access log."""
    path = tmp_path / "log.toml"
    path.write_text(HANDLER + "[loggers.'aiowsgi.access']\nhandlers = ['h']\n")
    assert logs.access_logger() is None
    logs.configure(config=str(path))
    assert logs.access_logger() is ACCESS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log.ini", "", r"log-config: .*log\.ini: the file must be named \*\.toml or"),
        ("log.toml", "a = 1\nb = ]", r"log-config: .*log\.toml: .*line 2, column 5"),
        ("log.json", '{"a": 1,\n x}', r"log-config: .*log\.json: .*line 2 column 2"),
        ("log.json", "[1]", r"log\.json: the file must contain one JSON object"),
        ("log.json", "\udcff", r"log\.json: .*invalid start byte"),
        ("log.toml", "version = 2", r"log\.toml: Unsupported version: 2"),
        ("log.toml", "root = 3", r"log\.toml: "),
        ("log.toml", "handlers = 3", r"log\.toml: "),
        (
            "log.toml",
            "[handlers.mine]\nclass = 'no.such.Handler'",
            r"log\.toml: Unable to configure handler 'mine': Cannot resolve 'no\.such\.Handler'",
        ),
        ("log.toml", "[loggers.x]\nhandlers = ['h']", r"log\.toml: Unable to configure logger 'x'"),
    ],
)
def test_a_wrong_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    """The error names option, file and, where it is known, place; messages are still logged."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # of the test runner
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=message):
        logs.configure(config=str(path))
    assert OURS.handlers


def test_a_missing_file(tmp_path: Path) -> None:
    """A path that leads nowhere is an error that shows it."""
    with pytest.raises(ConfigError, match=r"log-config: .*No such file or directory: .*no\.toml"):
        logs.configure(config=str(tmp_path / "no.toml"))


# Rotation


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[tuple[Path, logging.FileHandler]]:
    """A file handler on a logger of somebody else's."""
    path = tmp_path / "file.log"
    handler = logging.FileHandler(path, mode="w", encoding="latin-1")
    logging.getLogger("other").addHandler(handler)
    yield path, handler
    handler.close()


def test_renamed_files_are_opened_anew(log_file: tuple[Path, logging.FileHandler]) -> None:
    """After a rotation records go to a new file, of the same encoding."""
    path, handler = log_file
    old = handler.stream
    path.rename(path.with_suffix(".1"))
    logs.reopen_files()
    logging.getLogger("other").error("é")
    assert path.read_bytes() == b"\xe9\n"
    assert old is not None
    assert old.closed


def test_files_in_their_place_are_left_alone(log_file: tuple[Path, logging.FileHandler]) -> None:
    """Without a rotation nothing is reopened, which the mode ``w`` would take for "empty it"."""
    path, _ = log_file
    logging.getLogger("other").error("kept")
    logs.reopen_files()
    assert path.read_text() == "kept\n"


def test_a_file_that_cannot_be_reopened(
    log_file: tuple[Path, logging.FileHandler], capsys: pytest.CaptureFixture[str]
) -> None:
    """The old file stays in use, and the log says why."""
    logs.configure()
    path, _ = log_file
    moved = path.parent.rename(path.parent.with_name(path.parent.name + "-moved"))
    logs.reopen_files()
    logging.getLogger("other").error("kept")
    assert (moved / path.name).read_text() == "kept\n"
    assert "log file not reopened: [Errno 2]" in capsys.readouterr().err


def test_handlers_without_an_open_file(tmp_path: Path) -> None:
    """A handler that has written nothing yet is not made to open its file."""
    handler = logging.FileHandler(tmp_path / "late.log", delay=True)
    ACCESS.addHandler(handler)
    ACCESS.addHandler(logging.NullHandler())
    logs.reopen_files()
    assert not (tmp_path / "late.log").exists()
    handler.close()


def test_a_closed_stream_counts_as_moved(log_file: tuple[Path, logging.FileHandler]) -> None:
    """A path that is gone and never came back is opened anew too."""
    path, _ = log_file
    path.unlink()
    logs.reopen_files()
    logging.getLogger("other").error("new")
    assert path.read_text() == "new\n"


# Formats


def entry(message: str, **extra: object) -> logging.LogRecord:
    """A record of level WARNING made at a known time."""
    return logging.makeLogRecord(
        {
            "name": "aiowsgi.server",
            "msg": message,
            "levelname": "WARNING",
            "levelno": logging.WARNING,
            "created": 1_700_000_000.25,
            "process": 42,
            **extra,
        }
    )


@pytest.mark.parametrize(
    ("message", "written"),
    [
        ("plain \t é", "plain \t é"),
        ("two\nlines", "two\n    lines"),
        ("\x1b[2J\r\x00\x7f\x9b", r"\x1b[2J\x0d\x00\x7f\x9b"),
    ],
)
def test_text_cannot_be_forged(message: str, written: str) -> None:
    """Only our own time begins a line, and no terminal is steered by a message."""
    time, _, rest = logs.TextFormatter().format(entry(message)).partition(" WARNING  [42] ")
    assert re.fullmatch(r"2023-11-1\d \d\d:\d\d:20\.250[+-]\d\d:\d\d", time)
    assert rest == written


def test_text_with_a_traceback() -> None:
    """A traceback follows its message, indented."""
    try:
        raise LookupError("why")
    except LookupError:
        text = logs.TextFormatter().format(entry("failed", exc_info=sys.exc_info()))
    first, *more = text.splitlines()
    assert first.endswith("failed")
    assert more[-1] == "    LookupError: why"
    assert all(line.startswith("    ") for line in more)


def test_levels_of_others_have_no_color() -> None:
    """A level that we do not know is written plainly."""
    text = logs.TextFormatter(color=True).format(entry("x", levelname="NOTICE"))
    assert " NOTICE   [42] x" in text


def test_json_record() -> None:
    """One object on one line; what ``extra`` brought is in it, and cannot replace our members."""
    extra = {
        "request_id": "r-1",
        "count": 3,
        "ratio": 0.5,
        "nothing": None,
        "endless": float("inf"),
        "path": Path("/x"),
        "time": "forged",
    }
    text = logs.JsonFormatter().format(entry("two\nlines %s", args=("é",), **extra))
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "aiowsgi.server",
        "pid": 42,
        "message": "two\nlines é",
        "request_id": "r-1",
        "count": 3,
        "ratio": 0.5,
        "nothing": None,
        "endless": "inf",
        "path": "/x",
    }


def test_json_record_with_traceback_and_stack() -> None:
    """Traceback and stack are members."""
    try:
        raise LookupError("why")
    except LookupError:
        record = entry("x", exc_info=sys.exc_info(), stack_info="Stack:\n  here")
    members = json.loads(logs.JsonFormatter().format(record))
    assert members["exception"].endswith("LookupError: why")
    assert members["stack"] == "Stack:\n  here"


# What the application writes to wsgi.errors


@pytest.mark.parametrize("level", ["debug", "critical"])
def test_lines_of_the_application_are_written_as_they_are(
    level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No level and no time is added, no line is indented, and no --log-level drops them."""
    logs.configure(level=level)
    stream = ErrorStream()
    stream.write("[2026-01-01] INFO in shop: served\n")
    stream.write("Traceback (most recent call last):\n  File\n\x1b[31mred\x1b[0m\n")
    logging.getLogger("aiowsgi.server").error("ours")
    captured = capsys.readouterr().err
    assert captured.startswith(
        "[2026-01-01] INFO in shop: served\n"
        "Traceback (most recent call last):\n  File\n\x1b[31mred\x1b[0m\n"
    )
    assert ("ours" in captured) is (level == "debug")


def test_lines_of_the_application_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    """They name their stream, and have no level, which the server does not know."""
    logs.configure(level="critical", json_lines=True)
    ErrorStream().write("a line\n")
    members = json.loads(capsys.readouterr().err)
    assert (members["message"], members["stream"]) == ("a line", "wsgi.errors")
    assert "level" not in members


def test_a_level_of_the_operators_for_wsgi_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--log-config may give the logger of these lines a level."""
    path = tmp_path / "logs.json"
    path.write_text(json.dumps({"loggers": {"aiowsgi.errors": {"level": "CRITICAL"}}}))
    logs.configure(config=str(path))
    ErrorStream().write("a line\n")
    assert capsys.readouterr().err == ""
    logs.configure()
    ErrorStream().write("another\n")
    assert capsys.readouterr().err == "another\n"
