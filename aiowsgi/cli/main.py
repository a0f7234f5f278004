"""The command line: flags in, an exit status out.

The flags are derived from the fields of ``Config``; here stand only those that are commands, as
``--check-config`` is. The statuses are

== =================================================================================
0  the server was stopped, or what was asked for was done
1  the server was stopped, and requests in progress were cut at ``graceful_timeout``; or there was
   none to ask
2  the command line, a variable or a configuration file is wrong
3  the application cannot be imported, or an address cannot be listened on
== =================================================================================

The first two are what ``supervisor/runner.py`` returns, and 4 where it serves an application
object, which the command line never has it do. Until the server is to run, nothing heavy is
imported: neither an event loop nor a parser, nor ssl, http or logging; ``--help`` shall come at
once.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

from aiowsgi.config.help import Entry, render_help, render_settings
from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.sources import Sources, flag_name, prepare_process
from aiowsgi.config.types import Flag, ListOf
from aiowsgi.exceptions import AdminError, ApplicationLoadError, BindError, ConfigError
from aiowsgi.suggest import did_you_mean
from aiowsgi.wsgi.importer import load_application, own_traceback

__all__ = ["Runner", "main"]

Runner: TypeAlias = Callable[[str, Config, Sources], int]
"""Serves the application of that name until it is stopped; returns the exit status. The sources
are those of the configuration, to be settled again by a reload."""

EXIT_NOTHING: Final = 1
EXIT_USAGE: Final = 2
EXIT_START: Final = 3


def main(argv: Sequence[str] | None = None, *, run: Runner | None = None) -> int:
    """Do what the command line says; return the exit status.

    ``argv`` is without the program's name, by default that of the process. ``run`` stands in for
    ``aiowsgi.supervisor.runner.run_server``, which is imported only when there is something to
    serve.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv and argv[0] in _TOOLS:
            return _tool(argv[0])(argv[1:])
        return _obey(argv, run)
    except ConfigError as error:
        return _fail(f"{error}\nTry 'aiowsgi --help'.", EXIT_USAGE)
    except ApplicationLoadError as error:
        sys.stderr.write(own_traceback(error))
        return _fail(str(error), EXIT_START)
    except BindError as error:
        return _fail(str(error), EXIT_START)
    except AdminError as error:
        return _fail(str(error), EXIT_NOTHING)


def _fail(message: str, status: int) -> int:
    print(f"aiowsgi: {message}", file=sys.stderr)
    return status


_TOOLS: Final = ("top", "requests", "stacks")
"""Words that ask a server that runs, each the name of a function of ``cli/top.py``. An application
in a module of such a name is served by ``aiowsgi requests:app``."""


def _tool(name: str) -> Callable[[Sequence[str]], int]:
    from aiowsgi.cli import top

    tool: Callable[[Sequence[str]], int] = getattr(top, name)
    return tool


def _obey(argv: Sequence[str], run: Runner | None) -> int:
    given, rest = _parser().parse_known_args(argv)
    flags = vars(given)
    commands = {name: flags.pop(name) for name in _COMMANDS}
    if commands["help"]:
        return _show(_help(_terminal_width()))
    if commands["version"]:
        return _show(_version())
    _refuse(rest)
    sources = Sources(flags, dict(os.environ), os.getcwd(), commands["config"])
    settings = sources.load()
    if commands["print_config"]:
        return _show(render_settings(settings))
    if commands["check_config"]:
        return _check(settings.config)
    name = _named_application(settings.config)
    return (run or _server())(name, settings.config, sources)


def _show(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Its reader, a pager or head(1), has seen enough. What is left must not be flushed again
        # when the interpreter exits.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return 0


def _check(config: Config) -> int:
    name = _named_application(config)
    prepare_process(config)
    load_application(name, factory=config.factory, app_dir=config.app_dir)
    return _show(f"The configuration is valid, and {name} can be imported.")


def _named_application(config: Config) -> str:
    if config.app is None:
        raise ConfigError("no application is named; write: aiowsgi module:attribute")
    return config.app


def _server() -> Runner:
    from aiowsgi.supervisor.runner import run_server

    return run_server


# Parsing

_COMMANDS: Final[dict[str, Entry]] = {
    "help": Entry("-h, --help", "Show this."),
    "version": Entry("--version", "Show the version."),
    "check_config": Entry(
        "--check-config", "Check the configuration, import the application, and exit."
    ),
    "print_config": Entry(
        "--print-config", "Show every setting and where it comes from, as a TOML file."
    ),
    "config": Entry("-c, --config FILE", "A TOML file of options. Variable: AIOWSGI_CONFIG."),
}
"""The flags that are no options of the server; all but the last take no value."""


class _Parser(argparse.ArgumentParser):
    """Reports as all sources do: a ConfigError, no dump of the usage and no exit."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse for a value that is missing, or one too many."""
        raise ConfigError(message.removeprefix("argument "))


def _parser() -> _Parser:
    """Collects text only: ``config/sources.py`` reads values, as it does for the other sources."""
    parser = _Parser(
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        # Without a width it would import shutil, and with that the compressors, to ask for one.
        formatter_class=partial(argparse.HelpFormatter, width=80),
    )
    for name, entry in _COMMANDS.items():
        *spellings, last = entry.usage.replace(",", "").split()
        if last.isupper():
            parser.add_argument(*spellings, dest=name, default=None)
        else:
            parser.add_argument(*spellings, last, dest=name, action="store_true", default=False)
    for name, option in OPTIONS.items():
        if name == "app":
            parser.add_argument(name, nargs="?")
        else:
            parser.add_argument(*option.flags, flag_name(name), dest=name, **_action(option.type))
    return parser


def _action(kind: object) -> dict[str, Any]:
    if isinstance(kind, Flag):
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(kind, ListOf):
        return {"action": "extend", "type": kind.split}
    return {"action": "store"}


def _refuse(rest: Sequence[str]) -> None:
    """Raise ConfigError for arguments that argparse could not place, the first flag before all.

    After a misspelt flag its value looks like the application, and the application like one
    argument too many; the flag is what the user wants to hear of.
    """
    for argument in rest:
        if argument.startswith("-"):
            spelling = argument.partition("=")[0]
            raise ConfigError(f"{spelling}: no such option{did_you_mean(spelling, _spellings())}")
    if rest:
        raise ConfigError(f"{rest[0]}: one argument too many; one application is served")


def _spellings() -> Iterator[str]:
    for entry in _COMMANDS.values():
        yield from (word for word in entry.usage.replace(",", "").split() if word.startswith("-"))
    for name, option in OPTIONS.items():
        yield from (flag_name(name), *option.flags)
        if isinstance(option.type, Flag):
            yield flag_name(f"no-{name}")


# What is shown


def _help(width: int) -> str:
    usage = (
        "Usage: aiowsgi [OPTIONS] MODULE[:ATTRIBUTE]\n"
        "       aiowsgi top|requests|stacks [--admin ADDRESS]\n\n"
    )
    before = f"{usage}An asyncio HTTP/1.1 server for WSGI applications."
    paragraphs = [textwrap.fill(paragraph, width) for paragraph in _ABOUT_OPTIONS]
    return render_help(width, before, _COMMANDS.values(), "\n\n".join([*paragraphs, _STATUSES]))


_ABOUT_OPTIONS: Final = (
    (
        "Each option is a variable too, and a key of a TOML file: --keep-alive is"
        " AIOWSGI_KEEP_ALIVE and keep-alive. The command line goes before variables, these before"
        " --env-file, that before the --config file, and that before [tool.aiowsgi] in"
        " ./pyproject.toml."
    ),
    (
        "TIME is 30, 30s, 2m, 1.5s or 500ms. SIZE is 65536, 64k, 1M or 1G. What repeats may be one"
        " list with commas, or with spaces for PATHS=N."
    ),
)

_STATUSES: Final = """\
Exit status:
  0  stopped as asked
  1  stopped as asked, but requests in progress were cut
  2  wrong usage or configuration
  3  the application cannot be imported, or an address cannot be bound

Example:
  aiowsgi shop.wsgi:application --bind :8000 --workers auto --threads 8"""


def _terminal_width() -> int:
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
    except (ValueError, OSError):
        columns = 80
    # Longer lines are hard to read.
    return max(40, min(columns, 120))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("aiowsgi")
    except PackageNotFoundError:
        release = "of a source tree"
    return f"aiowsgi {release}, Python {sys.version.split()[0]}"
