"""Finds the command line of a server in a Procfile, Dockerfile, systemd unit or shell script.

Nothing is run, and no variable of this machine is looked up. A variable that the same file sets, or
that has a default (``${NAME:-default}``), is replaced; another one is reported.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from aiowsgi.cli.migrate_files import Found, Given
from aiowsgi.config.foreign import find
from aiowsgi.exceptions import ConfigError

__all__ = ["find_command", "read_command", "read_dockerfile", "read_procfile", "read_unit"]

PROGRAMS: Final[Mapping[str, str]] = {
    "gunicorn": "gunicorn",
    "uvicorn": "uvicorn",
    "waitress-serve": "waitress",
    "waitress": "waitress",
    "granian": "granian",
    "uwsgi": "uwsgi",
    "mod_wsgi-express": "mod_wsgi",
    "cheroot": "cheroot",
}
"""The servers' short names by the names of their programs."""


def read_procfile(text: str, path: str) -> Found:
    """Read the line of the process type ``web``. Raises ConfigError if there is none."""
    types = dict(
        line.split(":", 1) for line in _logical_lines(text) if re.match(r"[\w-]+\s*:", line)
    )
    if "web" not in types:
        raise ConfigError(f"{path}: has no process type web")
    return find_command(types["web"], path, {})


def read_dockerfile(text: str, path: str) -> Found:
    """Read the last ENTRYPOINT and CMD. Raises ConfigError if they start no known server."""
    environ: dict[str, str] = {}
    entry, command = "", ""
    for line in _logical_lines(text):
        word, _, rest = line.strip().partition(" ")
        match word.upper():
            case "FROM":
                entry = command = ""
            case "ENV" | "ARG":
                environ.update(_assignments(rest))
            case "ENTRYPOINT":
                entry, command = _docker_words(rest), ""
            case "CMD":
                command = _docker_words(rest)
    return find_command(f"{entry} {command}".strip(), path, environ)


def read_unit(text: str, path: str) -> Found:
    """Read ExecStart and WorkingDirectory. Raises ConfigError if it starts no known server."""
    environ: dict[str, str] = {}
    command, directory = "", ""
    for line in _logical_lines(text):
        key, _, value = line.partition("=")
        match key.strip():
            case "Environment":
                environ.update(_assignments(value))
            case "ExecStart":
                command = value.strip().lstrip("-@:+!")
            case "WorkingDirectory":
                directory = value.strip().lstrip("-")
    found = find_command(command, path, environ)
    found.remarks.append("User, Group, Environment and WorkingDirectory stay in the unit")
    if directory:
        found.remarks.append(f"the paths here count from WorkingDirectory={directory}")
    return found


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments; a backslash at the end goes on with the next line."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\[ \t]*\n[ \t]*", " ", "\n".join(lines))
    yield from (line for line in joined.splitlines() if line.strip())


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """``A=1 B="2"``, or Docker's old form ``A 1``."""
    words = _split(text)
    if words and "=" not in words[0]:
        yield words[0], " ".join(words[1:])
        return
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            yield name, value


def _docker_words(text: str) -> str:
    """The exec form (a JSON array) or the shell form, as one shell line."""
    if text.lstrip().startswith("["):
        try:
            return shlex.join(json.loads(text))
        except (json.JSONDecodeError, TypeError):
            return ""
    return text


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


# A shell's line


def find_command(line: str, path: str, environ: Mapping[str, str]) -> Found:
    """The first command of a shell's line that starts a known server. Raises ConfigError."""
    for words in _commands(line):
        if words[:1] and words[0].rpartition("/")[2] in {"sh", "bash"}:
            inner = [word for word in words[1:] if not word.startswith("-")]
            if inner and inner[0] not in {line, ""}:
                return find_command(inner[0], path, environ)
        try:
            return read_command(words, environ)
        except ConfigError:
            continue
    raise ConfigError(f"{path}: no command of a known server: {', '.join(PROGRAMS)}")


def _commands(line: str) -> Iterator[list[str]]:
    words: list[str] = []
    for word in _split(re.sub(r"(&&|\|\||;)", r" \1 ", line) if "'" not in line else line):
        if word in {"&&", "||", ";", "|", "&"}:
            yield words
            words = []
        else:
            words.append(word)
    yield words


def read_command(words: Sequence[str], environ: Mapping[str, str]) -> Found:
    """Read the command line of a server, whatever stands before it. Raises ConfigError."""
    programs = [index for index, word in enumerate(words) if os.path.basename(word) in PROGRAMS]
    if not programs:
        raise ConfigError(f"{' '.join(words)}: starts none of {', '.join(PROGRAMS)}")
    index = programs[0]
    found = Found(PROGRAMS[os.path.basename(words[index])])
    before = [word for word in words[:index] if "=" in word]
    known = {**environ, **dict(_assignments(shlex.join(before)))}
    if "newrelic-admin" in words[:index] or "ddtrace-run" in words[:index]:
        found.remarks.append(f"keep {words[0]} before aiowsgi")
    _read_arguments([_expand(word, known, found) for word in words[index + 1 :]], found)
    return found


_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")


def _expand(word: str, known: Mapping[str, str], found: Found) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        if name in known:
            return known[name]
        if match[2] is not None:
            found.remarks.append(f"{name} is not read from the environment; its default was taken")
            return match[2]
        return match[0]

    return _VARIABLE.sub(value, word)


def _read_arguments(words: list[str], found: Found) -> None:
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "start-server" and found.server == "mod_wsgi":
            continue
        if not word.startswith("-") or word == "-":
            _give("app", word, found)
            continue
        name, value = _split_flag(word)
        row = find(name, found.server)
        wanted = 1 if row is None and name not in _SWITCHES else 0 if row is None else row.values
        if value is None and wanted:
            following = words[position : position + wanted]
            taken = [text for text in following if text == "-" or not text.startswith("-")]
            position += len(taken)
            value = " ".join(taken)
        _give(name, value or "true", found)


_SWITCHES: Final = frozenset({"--check-config", "--print-config", "--strict", "--spew"})


def _split_flag(word: str) -> tuple[str, str | None]:
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:].removeprefix("=") or None


_FROM_ENVIRONMENT: Final = {"PORT": "bind", "WEB_CONCURRENCY": "workers"}
"""Variables that are read here too, and what they set."""


def _give(name: str, value: str, found: Found) -> None:
    variables = {match[1] or match[3] for match in _VARIABLE.finditer(value)}
    if not variables:
        found.given.append(Given(name.lstrip("-"), value))
    elif variables <= _FROM_ENVIRONMENT.keys():
        for variable in sorted(variables):
            what = _FROM_ENVIRONMENT[variable]
            found.remarks.append(f"{what} is read from {variable} here too; {name} was left out")
    else:
        found.needs.append(f"{name} {value}: depends on a variable")
