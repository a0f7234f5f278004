"""Reads the command line: flags of our own, and those that other servers' users type.

Values stay text here: ``config/sources.py`` reads them, as it does for the other sources. A flag
that is not ours is looked up in the table of ``config/foreign.py``, and so is one of ours with a
value that it cannot have (``--http :8000`` is an address in uWSGI). It is then translated, with a
note if it means something else here, or refused. All refused flags are named in one error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiowsgi.config.help import Entry
from aiowsgi.config.options import OPTIONS
from aiowsgi.config.sources import flag_name
from aiowsgi.config.types import Flag, ListOf
from aiowsgi.exceptions import ConfigError
from aiowsgi.suggest import did_you_mean

if TYPE_CHECKING:
    from aiowsgi.config.foreign import Row, Translation

__all__ = ["COMMANDS", "CommandLine", "read_arguments"]

COMMANDS: Final[Mapping[str, Entry]] = {
    "help": Entry("-h, --help", "Show this help."),
    "version": Entry("--version", "Show the version."),
    "check_config": Entry(
        "--check-config", "Check the configuration, import the application, and exit."
    ),
    "print_config": Entry("--print-config", "Show every setting and its source, as a TOML file."),
    "config": Entry("-c, --config FILE", "TOML file of options. Variable: AIOWSGI_CONFIG."),
}
"""The flags that are not options of the server; all but the last take no value."""


class CommandLine(NamedTuple):
    """A command line that was understood."""

    commands: Mapping[str, str | bool]
    """The flags of `COMMANDS` that were given."""
    options: Mapping[str, Any]
    """Text, or lists of text, or truth values, by the options' names in Python."""
    environ: Mapping[str, str]
    """Variables to set for the application (``--env NAME=value``, gunicorn's)."""
    notes: Sequence[str]
    """Sentences for the operator: what another server's flag means here."""


def read_arguments(argv: Sequence[str]) -> CommandLine:
    """Read a command line, which begins behind the program's name.

    Raises ConfigError that names every flag that was not understood.
    """
    reader = _Reader(argv)
    reader.read()
    return reader.result()


class _Switch(NamedTuple):
    """What a flag of ours sets."""

    name: str
    value: bool | None
    """None: the flag takes a value."""


class _Reader:
    """Goes through the words of one command line, once."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._words = deque(argv)
        self._positional: list[str] = []
        self._commands: dict[str, str | bool] = {}
        self._options: dict[str, Any] = {}
        self._environ: dict[str, str] = {}
        # Name of the application within its module, from a flag of its own (uWSGI's --callable).
        self._attribute = ""
        self._notes: list[str] = []
        self._refused: list[str] = []

    def read(self) -> None:
        """Take word after word."""
        while self._words:
            word = self._words.popleft()
            if word == "--":
                self._positional.extend(self._words)
                return
            if word.startswith("-") and word != "-":
                self._flag(*_split(word))
            else:
                self._positional.append(word)

    def result(self) -> CommandLine:
        """What was read. Raises ConfigError."""
        self._place_application()
        # --help and --version answer whatever stands beside them.
        if self._refused and not self._commands.keys() & {"help", "version"}:
            raise ConfigError("\n".join(self._refused))
        return CommandLine(self._commands, self._options, self._environ, self._notes)

    def _place_application(self) -> None:
        words = self._positional
        if len(words) > 1 and words[0] in _FOREIGN_COMMANDS:
            del words[0]
        if len(words) > 1 and not self._refused:
            # After an unknown flag, its value looks like an application.
            self._refused.append(f"{words[1]}: one argument too many; one application is served")
        if words:
            self._options["app"] = words[0]
        app = self._options.get("app", "")
        if self._attribute and ":" not in app:
            self._options["app"] = f"{app or 'app'}:{self._attribute}"

    def _flag(self, spelling: str, value: str | None) -> None:
        ours = _ours().get(spelling)
        if ours is None:
            self._foreign_flag(spelling, value)
        elif ours.value is not None:
            if value is not None:
                self._refused.append(f"{spelling}: takes no value, and was given {value!r}")
            self._put(ours.name, ours.value)
        elif (text := self._value(value)) is None:
            self._refused.append(f"{spelling}: expected one argument")
        elif ours.name == "config":
            self._config(spelling, text)
        elif _readable(ours.name, text) or not self._clash(spelling, ours.name, text):
            self._put(ours.name, text)

    def _value(self, inline: str | None) -> str | None:
        """The value of a flag: behind its equals sign, or the next word unless that is a flag."""
        if inline is not None:
            return inline
        if self._words and (self._words[0] == "-" or not self._words[0].startswith("-")):
            return self._words.popleft()
        return None

    def _config(self, spelling: str, file: str) -> None:
        path = file.removeprefix("file:")
        if file.startswith("python:"):
            # gunicorn's notation for a module.
            path = f"{file.removeprefix('python:').replace('.', '/')}.py"
        if path.endswith((".py", ".ini", ".xml", ".yaml", ".yml")):
            self._refused.append(
                f"{spelling} {file}: another server's configuration? Write:"
                f" aiowsgi migrate {path} > aiowsgi.toml; then {spelling} aiowsgi.toml"
            )
        self._commands["config"] = file

    def _put(self, name: str, value: str | bool) -> None:  # noqa: FBT001 - what a switch sets
        if name in COMMANDS:
            self._commands[name] = value
            return
        kind = OPTIONS[name].type
        if isinstance(kind, ListOf) and isinstance(value, str):
            self._options.setdefault(name, []).extend(kind.split(value))
        else:
            self._options[name] = value

    # Other servers' flags

    def _clash(self, spelling: str, name: str, value: str) -> bool:
        """Act on a flag of ours whose value makes sense in another server only."""
        from aiowsgi.config.foreign import meanings

        for row in meanings(spelling):
            # uWSGI's -w is a module; but what has no dot is more likely to be a wrong number.
            likely = row.option != "app" or {":", "."} & {*value}
            if likely and row.translate(value).settings != {name: value}:
                self._translated(f"{spelling} {value}", row, value)
                return True
        return False

    def _foreign_flag(self, spelling: str, value: str | None) -> None:
        from aiowsgi.config.foreign import find

        row = find(spelling)
        if row is None:
            self._refused.append(f"{spelling}: no such option{_hint(spelling)}")
            return
        given = [] if value is None else [value]
        while len(given) < row.values and (text := self._value(None)) is not None:
            given.append(text)
        if row.values and not given and row.option:
            self._refused.append(f"{spelling}: expected one argument")
            return
        self._translated(" ".join([spelling, *given]), row, " ".join(given))

    def _translated(self, given: str, row: Row, value: str) -> None:
        translation = row.translate(value)
        if translation.refused:
            self._refused.append(f"{given}: {translation.note}")
            return
        if translation.note:
            self._notes.append(f"{given}: {translation.note}")
        self._take(translation)

    def _take(self, translation: Translation) -> None:
        for name, value in translation.settings.items():
            if name == "environ":
                variable, _, text = value.partition("=")
                self._environ[variable] = text
            elif name == "attribute":
                self._attribute = value
            elif name == "app":
                self._positional.append(value)
            else:
                self._put(name, value)


_FOREIGN_COMMANDS: Final = frozenset(
    ("start-server", "gunicorn", "uvicorn", "granian", "waitress-serve", "cheroot", "uwsgi")
)
"""First words of other servers' command lines; dropped if an application follows."""


def _split(word: str) -> tuple[str, str | None]:
    """A flag's spelling, and the value that stands in the same word: ``-w2``, ``--workers=2``."""
    if word.startswith("--"):
        spelling, equals, value = word.partition("=")
        return spelling, value if equals else None
    return word[:2], word[2:].removeprefix("=") or None


def _readable(name: str, text: str) -> bool:
    try:
        OPTIONS[name].type.convert(text)
    except ValueError:
        return False
    return True


def _ours() -> Mapping[str, _Switch]:
    """Every spelling of our own flags; made at the first use, of `COMMANDS` and `OPTIONS`."""
    if not _OURS:
        _OURS.update(_spellings())
    return _OURS


_OURS: Final[dict[str, _Switch]] = {}


def _spellings() -> Iterator[tuple[str, _Switch]]:
    for name, entry in COMMANDS.items():
        words = entry.usage.replace(",", "").split()
        value = None if words[-1].isupper() else True
        yield from ((word, _Switch(name, value)) for word in words if word.startswith("-"))
    for name, option in OPTIONS.items():
        is_flag = isinstance(option.type, Flag)
        for spelling in () if name == "app" else (flag_name(name), *option.flags):
            yield spelling, _Switch(name, True if is_flag else None)
        if is_flag:
            yield flag_name(f"no-{name}"), _Switch(name, False)  # noqa: FBT003 - what it sets


def _hint(spelling: str) -> str:
    return did_you_mean(spelling, _ours())
