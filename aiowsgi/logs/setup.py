"""The diagnostic log: sets up ``logging``, and formats records as text or JSON.

The loggers (``aiowsgi/loggers.py``) are those of the standard ``logging`` package::

    aiowsgi                 parent of all; has the handler and the level
    aiowsgi.errors          what the application writes to ``wsgi.errors`` (``wsgi/errors.py``)
    aiowsgi.access          the access log, only if the operator gives this logger handlers

Guarantees:

* Only the command line and ``run`` call `configure`. A program that embeds a server has its own
  logging, and the root logger is never changed.
* ``--log-config`` takes precedence. If it leaves ``aiowsgi`` without a handler, its own or the
  root's, or if it fails half-way, the default handler is added.
* In the text format a line that begins with a time begins a record, and control characters other
  than line end and tab are escaped: a client can neither forge a record nor control a terminal.
* ``--access-logformat json`` makes this log JSON too, with the same names of members.

The access log does not go through ``logging`` (``logs/writer.py``): a `logging.LogRecord` for each
request would cost more than all the rest of it. No thread is started here.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from aiowsgi.exceptions import ConfigError

if TYPE_CHECKING:
    from io import TextIOWrapper

__all__ = [
    "JsonFormatter",
    "TextFormatter",
    "access_logger",
    "configure",
    "reopen_files",
    "use_color",
]

logger = logging.getLogger("aiowsgi")

_application_lines = logging.getLogger("aiowsgi.errors")


# Set-up


def configure(
    *,
    level: str = "info",
    config: str | None = None,
    json_lines: bool = False,
    color: str = "auto",
) -> None:
    """Set up logging, and remove the handlers that ``aiowsgi`` has.

    ``level`` is a word of ``--log-level``; a level that ``config`` gives to ``aiowsgi`` takes
    precedence. ``config`` is the path of a dictionary for `logging.config`, in TOML or JSON.
    ``color`` is ``auto``, ``always`` or ``never``.

    Raises ConfigError if ``config`` cannot be used; the default handler is there nevertheless.
    """
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    _application_lines.setLevel(logging.NOTSET)
    try:
        if config is not None:
            _apply(config)
    finally:
        if logger.level == logging.NOTSET:
            logger.setLevel(level.upper())
        if _application_lines.level == logging.NOTSET:
            # --log-level is that of the server's own records.
            _application_lines.setLevel(logging.DEBUG)
        if config is None or not logger.hasHandlers():
            _add_our_handler(json_lines=json_lines, color=color)


def _add_our_handler(*, json_lines: bool, color: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    colored = use_color(color, sys.stderr, os.environ)
    handler.setFormatter(JsonFormatter() if json_lines else TextFormatter(color=colored))
    logger.addHandler(handler)
    # Otherwise a root handler that the application adds would write every record a second time.
    logger.propagate = False


def use_color(choice: str, stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to write colours to ``stream``; for ``auto``, if it is a terminal that has them."""
    if choice == "auto":
        return stream.isatty() and environ.get("TERM") != "dumb"
    return choice == "always"


def access_logger() -> logging.Logger | None:
    """The logger that gets the access log, if it has handlers of its own; else None."""
    target = logging.getLogger("aiowsgi.access")
    return target if target.handlers else None


# --log-config


def _load_toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


_LOADERS: Final[dict[str, Callable[[str], Any]]] = {".toml": _load_toml, ".json": json.loads}


def _apply(path: str) -> None:
    """Pass the file's dictionary to `logging.config`; raises ConfigError."""
    import logging.config  # brings sockets and pickling with it

    settings = {"version": 1, "disable_existing_loggers": False, **_read(path)}
    try:
        logging.config.dictConfig(settings)
    except (ValueError, TypeError, AttributeError, ImportError, KeyError) as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise ConfigError(f"log-config: {path}: {error}{cause}") from error


def _read(path: str) -> dict[str, Any]:
    load = _LOADERS.get(Path(path).suffix.lower())
    if load is None:
        raise ConfigError(f"log-config: {path}: the file must be named *.toml or *.json")
    try:
        settings = load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"log-config: {error}") from error
    except ValueError as error:  # of either format, or of UTF-8; each says where
        raise ConfigError(f"log-config: {path}: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"log-config: {path}: the file must contain one JSON object")
    return settings


# Log rotation


def reopen_files() -> None:
    """Reopen the path of every handler whose file was renamed, as USR1 asks for.

    A file that is still at its path is not reopened: with mode ``w`` that would empty it.
    """
    handlers = {
        handler
        for other in [logging.root, *logging.root.manager.loggerDict.values()]
        if isinstance(other, logging.Logger)
        for handler in other.handlers
        if isinstance(handler, logging.FileHandler)
    }
    for handler in handlers:
        # The stream of a handler with ``delay`` is None until the first record.
        if handler.stream is not None and _is_moved(handler.baseFilename, handler.stream):
            _reopen(handler, handler.stream)


def _is_moved(path: str, stream: TextIO) -> bool:
    try:
        return not os.path.samestat(os.stat(path), os.fstat(stream.fileno()))
    except OSError:
        return True


def _reopen(handler: logging.FileHandler, old: TextIO) -> None:
    try:
        stream = open(  # noqa: SIM115 - the handler closes it
            handler.baseFilename, handler.mode, encoding=handler.encoding, errors=handler.errors
        )
    except OSError as error:
        logger.error("log file not reopened: %s", error)
        return
    handler.setStream(cast("TextIOWrapper", stream))
    old.close()


# Formats

_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}

_CONTROLS_AND_LINE_ENDS: Final = {**_CONTROLS, ord("\n"): "\\x0a", ord("\t"): "\\x09"}

_COLORS: Final = {
    "DEBUG": "\x1b[2m",
    "INFO": "\x1b[32m",
    "WARNING": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "CRITICAL": "\x1b[1;31m",
}
_PLAIN: Final = "\x1b[0m"


class TextFormatter(logging.Formatter):
    """``2000-10-10 13:55:36.250-07:00 INFO     [1234] message``, further lines indented.

    The identifier of the request that the record belongs to follows the process id:
    ``[1234 5f8a3c-17]``.
    """

    def __init__(self, *, color: bool = False) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; only its first line begins with a time.

        The application's lines on ``wsgi.errors`` are not changed.
        """
        if _is_application_line(record):
            return record.getMessage()
        text = super().format(record).translate(_CONTROLS).replace("\n", "\n    ")
        time = datetime.fromtimestamp(record.created, UTC).astimezone()
        level = f"{record.levelname:8}"
        if self._color and record.levelname in _COLORS:
            level = f"{_COLORS[record.levelname]}{level}{_PLAIN}"
        request_id = str(getattr(record, "request_id", "")).translate(_CONTROLS_AND_LINE_ENDS)
        source = f"[{record.process} {request_id}]" if request_id else f"[{record.process}]"
        return f"{time.isoformat(' ', 'milliseconds')} {level} {source} {text}"


_STANDARD: Final = frozenset([*vars(logging.makeLogRecord({})), "message", "asctime"])
"""Attributes that every record has; others come from ``extra`` or are of the request."""


class JsonFormatter(logging.Formatter):
    """One JSON object on one line, in ASCII; the attributes of ``extra`` are members too."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        members = {name: _plain(v) for name, v in vars(record).items() if name not in _STANDARD}
        members |= {
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "time": time.replace("+00:00", "Z"),
            "message": record.getMessage(),
        }
        if _is_application_line(record):
            del members["level"]
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            members["stack"] = self.formatStack(record.stack_info)
        return json.dumps(members)


def _is_application_line(record: logging.LogRecord) -> bool:
    """Return whether the application has written the record to ``wsgi.errors``.

    Its lines have a format and a level of their own, which the server does not know.
    """
    return record.name == _application_lines.name


def _plain(value: object) -> object:
    """A value that JSON can represent, or the text of any other."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)
