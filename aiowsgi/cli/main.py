"""The command line: takes arguments, runs a command or the server, returns an exit status.

The exit statuses are

== =================================================================================
0  the server was stopped, or a command has done its work
1  the server was stopped, and requests in progress were cut after ``graceful_timeout``; or a
   command found no server to ask
2  the command line, a variable or a configuration file is wrong
3  the application cannot be imported, or the server cannot listen on an address
== =================================================================================

0 and 1 are what ``supervisor/runner.py`` returns. It returns 4 only for an application object,
which the command line never serves.

Nothing heavy is imported before the server runs (no event loop, no parser, no ssl, http or
logging), so that ``--help`` is fast.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from aiowsgi.cli.arguments import COMMANDS, CommandLine, read_arguments
from aiowsgi.config.help import render_help, render_settings
from aiowsgi.config.options import Config
from aiowsgi.config.sources import Settings, Sources, prepare_process
from aiowsgi.exceptions import AdminError, ApplicationLoadError, BindError, ConfigError
from aiowsgi.wsgi.importer import load_application, own_traceback

__all__ = ["Runner", "main"]

Runner: TypeAlias = Callable[[str, Config, Sources], int]
"""Serves the application of that name until the server is stopped; returns the exit status. A
reload reads the sources of the configuration again."""

EXIT_NOTHING: Final = 1
EXIT_USAGE: Final = 2
EXIT_START: Final = 3


def main(argv: Sequence[str] | None = None, *, run: Runner | None = None) -> int:
    """Run the command line; return the exit status.

    ``argv`` has no program name; the default is the process's own arguments. ``run`` serves the
    application; the default is ``aiowsgi.supervisor.runner.run_server``.
    """
    argv = sys.argv[1:] if argv is None else argv
    if sys.platform == "win32":
        return _fail(_NOT_ON_WINDOWS, EXIT_USAGE)
    try:
        if argv and argv[0] == "migrate":
            return _migrate(argv[1:])
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


_NOT_ON_WINDOWS: Final = (
    "aiowsgi needs Linux or macOS: it uses fork, unix sockets and signals; on Windows run it in WSL"
    " or in a container, or use waitress"
)


def _fail(message: str, status: int) -> int:
    print(f"aiowsgi: {message}", file=sys.stderr)
    return status


_TOOLS: Final = ("top", "requests", "stacks")
"""Commands that ask a running server; each is a function of ``cli/top.py``. To serve a module of
such a name, write ``aiowsgi requests:app``."""


def _tool(name: str) -> Callable[[Sequence[str]], int]:
    from aiowsgi.cli import top

    tool: Callable[[Sequence[str]], int] = getattr(top, name)
    return tool


def _migrate(argv: Sequence[str]) -> int:
    from aiowsgi.cli.migrate import migrate

    return migrate(argv)


def _obey(argv: Sequence[str], run: Runner | None) -> int:
    line = read_arguments(argv)
    commands = line.commands
    if "help" in commands:
        return _show(_help(_terminal_width()))
    if "version" in commands:
        return _show(_version())
    os.environ.update(line.environ)
    config_file = commands.get("config")
    assert not isinstance(config_file, bool)
    sources = Sources(line.options, dict(os.environ), os.getcwd(), config_file)
    settings = sources.load()
    for note in (*line.notes, *_unused(line, settings)):
        print(f"aiowsgi: {note}", file=sys.stderr)
    if "print_config" in commands:
        return _show(render_settings(settings))
    if "check_config" in commands:
        return _check(settings.config)
    name = _named_application(settings.config)
    return (run or _server())(name, settings.config, sources)


def _unused(line: CommandLine, settings: Settings) -> Iterator[str]:
    """Sentences about what was given and has no effect, though it has one in other servers."""
    config, origin = settings.config, settings.origins.get("forwarded_allow_ips")
    if origin and not config.proxy_headers and not config.proxy_protocol:
        yield f"{origin} has no effect without --proxy-headers"
    if os.path.exists("gunicorn.conf.py") and "config" not in line.commands:
        yield "gunicorn.conf.py is not read; see: aiowsgi migrate gunicorn.conf.py"
    if arguments := os.environ.get("GUNICORN_CMD_ARGS"):
        yield f"GUNICORN_CMD_ARGS is not read; see: aiowsgi migrate -- gunicorn {arguments}"


def _show(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader, a pager or head(1), has closed the pipe. The interpreter must not flush the
        # rest again when it exits.
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


# What is shown


def _help(width: int) -> str:
    usage = (
        "Usage: aiowsgi [OPTIONS] MODULE[:ATTRIBUTE]\n"
        "       aiowsgi top|requests|stacks [--admin ADDRESS]\n"
        "       aiowsgi migrate FILE | -- COMMAND\n\n"
    )
    before = f"{usage}An asyncio HTTP/1.1 server for WSGI applications."
    paragraphs = [textwrap.fill(paragraph, width) for paragraph in _ABOUT_OPTIONS]
    return render_help(width, before, COMMANDS.values(), "\n\n".join([*paragraphs, _STATUSES]))


_ABOUT_OPTIONS: Final = (
    (
        "Each option is a variable too, and a key of a TOML file: --keep-alive is"
        " AIOWSGI_KEEP_ALIVE and keep-alive. The command line goes before variables, these before"
        " --env-file, that before the --config file, and that before [tool.aiowsgi] in"
        " ./pyproject.toml."
    ),
    (
        "Flags of gunicorn, waitress, uvicorn, uWSGI, mod_wsgi-express, cheroot and granian are"
        " understood if they have a counterpart; aiowsgi migrate translates their configuration"
        " files and command lines."
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
    return f"aiowsgi {release}, Python {sys.version.split()[0]}, {', '.join(_build())}"


def _build() -> Iterator[str]:
    """Yield what decides the speed: build, event loop and parser of ``auto``, interpreter lock."""
    from importlib.util import find_spec

    reader = find_spec("aiowsgi.http1.reader")
    yield "pure" if reader is None or str(reader.origin).endswith(".py") else "compiled"
    yield "uvloop" if find_spec("uvloop") else "asyncio"
    yield "httptools" if find_spec("httptools") else "h11"
    # Python 3.13 and later have the function.
    yield "GIL" if getattr(sys, "_is_gil_enabled", lambda: True)() else "no GIL"
