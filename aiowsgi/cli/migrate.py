"""``aiowsgi migrate``: another server's configuration as a TOML file for this one.

Reads a file, or the command line behind ``--``, translates each setting by the table of
``config/foreign.py`` and prints TOML with a comment on each line that differs, and at the end what
needs a person. The exit status is 0, 1 if something needs a person, 2 if the file cannot be read.
Nothing is executed and nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from aiowsgi.cli.migrate_files import Found, Given, read_gunicorn, read_ini, read_xml, read_yaml
from aiowsgi.cli.migrate_lines import (
    find_command,
    read_command,
    read_dockerfile,
    read_procfile,
    read_unit,
)
from aiowsgi.config.foreign import SERVERS, Row, Translation, find
from aiowsgi.config.help import toml_text
from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.sources import key_name
from aiowsgi.config.types import ListOf
from aiowsgi.exceptions import ConfigError

__all__ = ["migrate", "translate"]

USAGE: Final = """\
Usage: aiowsgi migrate FILE
       aiowsgi migrate -- COMMAND

Print another server's configuration as a TOML file for aiowsgi. Nothing is
executed.

FILE is gunicorn.conf.py, uwsgi.ini (or .xml, .yaml), a Paste Deploy .ini, a
Procfile, a Dockerfile, a systemd unit (.service) or a shell script. COMMAND is
a command line of gunicorn, uWSGI, waitress-serve, uvicorn, granian,
mod_wsgi-express or cheroot.

Exit status:
  0  everything was translated
  1  something needs a person; the end of the output says what
  2  the file cannot be read

Examples:
  aiowsgi migrate gunicorn.conf.py > aiowsgi.toml
  aiowsgi migrate -- gunicorn -w 4 --timeout 120 shop.wsgi"""


def migrate(argv: Sequence[str]) -> int:
    """Run the command; return the exit status. Raises ConfigError if nothing can be read."""
    if not argv or argv[0] in {"-h", "--help"}:
        print(USAGE)
        return 0 if argv else 2
    if argv[0] == "--":
        found, origin = _with_file(read_command(argv[1:], {}), os.curdir), "a command line"
    elif len(argv) > 1:
        raise ConfigError(f"{argv[1]}: one argument too many; for a command line write -- before")
    else:
        found, origin = _with_file(_read_file(argv[0]), os.path.dirname(argv[0])), argv[0]
    migration = translate(found)
    print("\n".join(migration.lines(origin)))
    return 1 if migration.first or migration.needs else 0


# Reading


def _read_file(path: str) -> Found:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8") from None
    return _reader(os.path.basename(path).lower())(text, path)


def _reader(name: str) -> Callable[[str, str], Found]:
    if "dockerfile" in name or "containerfile" in name:
        return read_dockerfile
    if name.startswith("procfile"):
        return read_procfile
    return _READERS.get(os.path.splitext(name)[1], _read_script)


def _read_script(text: str, path: str) -> Found:
    joined = text.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if not line.lstrip().startswith("#")]
    return find_command(" ; ".join(lines), path, {})


_READERS: Final[Mapping[str, Callable[[str, str], Found]]] = {
    ".py": read_gunicorn,
    ".ini": read_ini,
    ".cfg": read_ini,
    ".xml": read_xml,
    ".yaml": read_yaml,
    ".yml": read_yaml,
    ".service": read_unit,
}


def _with_file(found: Found, directory: str) -> Found:
    """Add the configuration file that a command line names, or that gunicorn finds by itself."""
    named = [given for given in found.given if given.name in _FILE_FLAGS.get(found.server, ())]
    found.given = [given for given in found.given if given not in named]
    paths = [given.value for given in named]
    is_line = any(given.name == "app" for given in found.given) or bool(named)
    if found.server == "gunicorn" and is_line and not paths:
        paths = [path for path in ("gunicorn.conf.py",) if os.path.exists(_in(directory, path))]
    for path in paths:
        try:
            below = _read_file(_in(directory, path.removeprefix("file:")))
        except ConfigError as error:
            found.needs.append(f"the configuration file that it names: {error}")
            continue
        above = [find(item.name, found.server) for item in found.given]
        found.given[:0] = [
            item for item in below.given if find(item.name, below.server) not in above
        ]
        found.needs += below.needs
        found.remarks += [f"{path} was read, too", *below.remarks]
    return found


_FILE_FLAGS: Final = {"gunicorn": ("c", "config"), "uwsgi": ("ini", "xml", "yaml", "y", "x")}


def _in(directory: str, path: str) -> str:
    return os.path.join(directory, path)


# Translating


class Migration:
    """The translated settings, and how they are printed."""

    def __init__(self, server: str) -> None:
        self._server = server
        # Values by our options' names, normalised, and the comments beside them.
        self.values: dict[str, Any] = {}
        self._comments: dict[str, list[str]] = {}
        self.first: list[str] = []
        """What has to be said before all else."""
        self.needs: list[str] = []
        """What a person has to look at."""
        self.remarks: list[str] = []
        self._needless: list[str] = []
        self._attribute = ""

    def add(self, given: Given) -> None:
        """Translate one setting."""
        row = find(given.name, self._server)
        if row is None:
            if given.name in OPTIONS:
                self._set(given.name, given.value, "", given.remark)
            else:
                self.needs.append(f"{given.name} = {given.value}: this option is not known")
            return
        if row.values == 0 and given.value == "false":
            return
        translation = row.translate(given.value)
        if translation.refused:
            self.needs.append(f"{given.name} = {given.value}: {translation.note}")
        else:
            self._take(given, row, translation)

    def _take(self, given: Given, row: Row, translation: Translation) -> None:
        if "uwsgi_pass" in translation.note:
            self.first = [_NGINX]
        if not translation.settings:
            if translation.note:
                self.remarks.append(f"{given.name} = {given.value}: {translation.note}")
            elif not row.option:
                self._needless.append(given.name)
        for name, value in translation.settings.items():
            if name == "environ":
                self.needs.append(f"environment: {value}; put it into a file for env-file")
            elif name == "attribute":
                self._attribute = value
            else:
                note = "" if "uwsgi_pass" in translation.note else translation.note
                self._set(name, value, note, given.remark)

    def _set(self, name: str, text: str, *comments: str) -> None:
        kind = OPTIONS[name].type
        try:
            value = kind.convert(text)
        except ValueError as error:
            self.needs.append(f"{key_name(name)}: {error}")
            return
        if isinstance(kind, ListOf) and name in self.values:
            value = (*self.values[name], *value)
        self.values[name] = value
        told = self._comments.setdefault(name, [])
        told.extend(comment for comment in comments if comment and comment not in told)

    def default(self, name: str, value: str, comment: str) -> None:
        """Set what the other server does unless it is told otherwise."""
        if name not in self.values:
            self._set(name, value, comment)

    def finish(self) -> None:
        """Put the application's name together, and check the settings as a whole."""
        app = self.values.get("app")
        if self._attribute and ":" not in (app or ""):
            self.values["app"] = f"{app or 'app'}:{self._attribute}"
        if not self.values.get("app"):
            self.remarks.append("the application is named on the command line: aiowsgi module:name")
        try:
            Config(**self.values)
        except ConfigError as error:
            self.needs.append(str(error))

    def lines(self, origin: str) -> Iterator[str]:
        """The TOML file."""
        yield f"# From {origin} ({SERVERS[self._server]}). Start with: aiowsgi -c aiowsgi.toml"
        yield from _comment("First", self.first)
        yield ""
        for name, value in self.values.items():
            comments = f"  # {'; '.join(self._comments[name])}" if self._comments.get(name) else ""
            yield f"{key_name(name)} = {toml_text(OPTIONS[name].type.to_toml(value))}{comments}"
        if self._needless:
            self.remarks.append(f"not needed here: {', '.join(dict.fromkeys(self._needless))}")
        yield from _comment("Worth knowing", list(dict.fromkeys(self.remarks)))
        yield from _comment("What needs a person", self.needs)


def _comment(title: str, sentences: Sequence[str]) -> Iterator[str]:
    if sentences:
        yield ""
        yield f"# {title}:"
        yield from (f"# - {line}" for sentence in sentences for line in sentence.splitlines())


_NGINX: Final = (
    "aiowsgi speaks HTTP, not the uwsgi protocol: in nginx, uwsgi_pass must become"
    " proxy_pass http://, and include uwsgi_params must become proxy_set_header Host $host"
)


def translate(found: Found) -> Migration:
    """Translate all settings of one source."""
    migration = Migration(found.server)
    migration.needs += found.needs
    migration.remarks += found.remarks
    for given in found.given:
        if found.server != "gunicorn" or find(given.name, "gunicorn") or given.name == "app":
            # In gunicorn's file, other names are variables of the program.
            migration.add(given)
    _add_defaults(migration, found)
    migration.finish()
    return migration


def _add_defaults(migration: Migration, found: Found) -> None:
    """Defaults of the other server that an application may rely on."""
    names = {given.name.replace("_", "-") for given in found.given}
    if found.server in {"gunicorn", "uwsgi"}:
        threaded = any("gthread" in g.value or "gevent" in g.value for g in found.given)
        if not threaded:
            migration.default(
                "threads", "1", "one request at a time, as before; raise it if code is thread-safe"
            )
    if found.server == "gunicorn":
        if not names & {"accesslog", "access-logfile"}:
            migration.default("access_log", "no", "gunicorn logs no requests unless told to")
        migration.default(
            "proxy_headers", "yes", "gunicorn believes X-Forwarded-Proto of forwarded_allow_ips"
        )
