"""The command line, in this process with a server that only takes notes, and as a program."""

from __future__ import annotations

import importlib.metadata
import os
import runpy
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from option_samples import SAMPLE_NAME, check_set, given_for, sample
from support import COMPILED

from aiowsgi.cli.main import main
from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.sources import Sources, flag_name
from aiowsgi.config.types import Flag, ListOf
from aiowsgi.exceptions import ApplicationLoadError, BindError

ROOT = Path(__file__).parents[2]


class Server:
    """Stands in for the server: notes what it is to serve."""

    def __init__(self, outcome: int | Exception = 0) -> None:
        self.outcome = outcome
        self.calls: list[tuple[str, Config]] = []

    def __call__(self, app: str, config: Config, sources: Sources) -> int:
        self.calls.append((app, config))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, without the variables and the path of the developer."""
    monkeypatch.chdir(tmp_path)
    conventional = {variable for option in OPTIONS.values() for variable in option.variables}
    for variable in list(os.environ):
        if variable in conventional or variable.startswith("AIOWSGI_"):
            monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "path", sys.path.copy())


def served(*argv: str) -> tuple[str, Config]:
    """What the server is given for these arguments."""
    server = Server()
    assert main(argv, run=server) == 0
    (call,) = server.calls
    return call


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The message for these arguments, which nothing is served for."""
    server = Server()
    assert main(argv, run=server) == 2
    assert server.calls == []
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


# Serving


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "app"])
def test_every_flag(name: str) -> None:
    """Every option can be set by its flag."""
    Path(SAMPLE_NAME).touch()
    argv: list[str] = []
    for option, text in given_for(name).items():
        if isinstance(OPTIONS[option].type, Flag):
            argv.append(flag_name(option if text == "yes" else f"no_{option}"))
        else:
            argv += [flag_name(option), text]
    app, config = served("m:app", *argv)
    assert app == config.app == "m:app"
    check_set(name, replace(config, app=None))


@pytest.mark.parametrize("name", [n for n, o in OPTIONS.items() if isinstance(o.type, ListOf)])
def test_repeated_flag(name: str) -> None:
    """A flag that repeats adds to the list, which may also be one text."""
    kind = OPTIONS[name].type
    text = sample(name)
    argv = [flag_name(name), text, flag_name(name), kind.separator.join([text, text])]
    _, config = served("m:app", *argv)
    assert getattr(config, name) == kind.convert(text) * 3


@pytest.mark.parametrize(
    "argv",
    [
        ["m:app", "-b", ":80", "-w", "2", "--ssl-certfile", "c", "--ssl-keyfile", "k"],
        ["-b:80", "-w2", "--certfile=c", "--keyfile=k", "m:app"],
        ["--bind=:80", "--workers", "2", "m:app", "--certfile", "c", "--keyfile", "k"],
    ],
)
def test_spellings(argv: list[str]) -> None:
    """Flags have short and usual spellings, and stand before or behind the application."""
    expected = Config(app="m:app", bind=(":80",), workers=2, certfile="c", keyfile="k")
    assert served(*argv) == ("m:app", expected)


def test_application_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable or a file can name the application."""
    monkeypatch.setenv("AIOWSGI_APP", "shop:app")
    assert served()[0] == "shop:app"
    assert served("other:app")[0] == "other:app"


def test_config_flag(tmp_path: Path) -> None:
    """-c names a file of options, which flags go before."""
    (tmp_path / "a.toml").write_text("threads = 9\nbacklog = 9")
    _, config = served("m:app", "-c", "a.toml", "--threads", "3")
    assert config == Config(app="m:app", threads=3, backlog=9)


def test_default_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments, those of the process are taken."""
    monkeypatch.setattr(sys, "argv", ["aiowsgi", "m:app", "--threads", "3"])
    server = Server(outcome=4)
    assert main(run=server) == 4
    assert server.calls == [("m:app", Config(app="m:app", threads=3))]


def test_real_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no other is given, the application is served by aiowsgi.runner."""
    server = Server()
    monkeypatch.setattr("aiowsgi.supervisor.runner.run_server", server)
    assert main(["m:app"]) == 0
    assert server.calls == [("m:app", Config(app="m:app"))]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ApplicationLoadError("no module named m"), "aiowsgi: no module named m\n"),
        (
            BindError("127.0.0.1:80: permission denied"),
            "aiowsgi: 127.0.0.1:80: permission denied\n",
        ),
    ],
)
def test_failed_start(error: Exception, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that cannot start says why in one line, and the exit status is 3."""
    assert main(["m:app"], run=Server(error)) == 3
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("argv", "note"),
    [
        (["m:app", "-k", "gthread"], "-k gthread: requests always run in threads here"),
        (["m:app", "--forwarded-allow-ips", "*"], "--forwarded-allow-ips has no effect without"),
        (["m:app"], "FORWARDED_ALLOW_IPS has no effect without --proxy-headers"),
        (["m:app"], "gunicorn.conf.py is not read; see: aiowsgi migrate gunicorn.conf.py"),
        (["m:app"], "see: aiowsgi migrate -- gunicorn --workers 4"),
    ],
)
def test_notes(
    argv: list[str],
    note: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What has another meaning here, or none, is said when the server starts."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 4")
    Path("gunicorn.conf.py").touch()
    served(*argv)
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("aiowsgi: ") and note in line for line in lines)


def test_no_notes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of what is used."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    Path("gunicorn.conf.py").touch()
    Path("aiowsgi.toml").write_text("proxy-headers = true")
    served("m:app", "-c", "aiowsgi.toml", "--timeout", "30")
    assert capsys.readouterr().err == ""


def test_environment_for_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn's --env sets a variable before the application is imported."""
    monkeypatch.setenv("SHOP_MODE", "old")
    served("m:app", "--env", "SHOP_MODE=new")
    assert os.environ["SHOP_MODE"] == "new"


# Mistakes


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no application is named; write: aiowsgi module:attribute"),
        (["--thread", "8", "m:app"], "--thread: no such option; did you mean --threads?"),
        (["--thread=8", "m:app"], "--thread: no such option; did you mean --threads?"),
        (["m:app", "--no-acess-log"], "did you mean --no-access-log?"),
        (["m:app", "--ssl-cert", "x"], "did you mean --ssl-certfile?"),
        (["m:app", "--chek-config"], "did you mean --check-config?"),
        (["m:app", "--work", "2"], "--work: no such option; did you mean --workers?"),
        (["m:app", "-q"], "-q: no such option\n"),
        (["m:app", "other:app"], "other:app: one argument too many"),
        (["m:app", "--threads"], "--threads: expected one argument"),
        (["m:app", "--workers"], "--workers: expected one argument"),
        (["m:app", "--reload=x"], "--reload: takes no value, and was given 'x'"),
        (["m:app", "--threads", "many"], "--threads: 'many' is not a whole number"),
        (["m:app", "-w", "0"], "--workers: 0 is too small; the minimum is 1"),
        (["m:app", "-c", "missing.toml"], "missing.toml: No such file or directory"),
        (["m:app", "--bind", ":1", "--uds", "x"], "--bind and --uds: give one of them"),
    ],
)
def test_mistakes(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is answered with what is wrong and what was meant, and status 2."""
    output = refused(capsys, *argv)
    assert output.startswith("aiowsgi: ")
    assert message in output
    assert output.endswith("Try 'aiowsgi --help'.\n")


def test_windows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """There, one sentence says what to use instead."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert "needs Linux or macOS" in refused(capsys, "m:app")


# Commands


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("300", 120), ("x", 80), ("9", 40)])
def test_help(
    flag: str,
    columns: str,
    width: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The help fits the terminal, and goes before mistakes."""
    monkeypatch.setenv("COLUMNS", columns)
    assert main([flag, "--frobnicate"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: aiowsgi ")
    assert "aiowsgi shop.wsgi:application" in text.splitlines()[-1]
    paragraph = [line for line in text.splitlines() if "Each option" in line]
    assert width - 15 <= len(paragraph[0]) <= width


@pytest.mark.slow("processes")
def test_help_without_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no terminal to ask, lines have 80 columns."""
    monkeypatch.delenv("COLUMNS", raising=False)
    with open("not-a-terminal", "w", encoding="utf-8") as file:
        program("--help", stdout=file)
    assert max(map(len, Path("not-a-terminal").read_text().splitlines())) <= 80
    assert capsys.readouterr().out == ""


def test_source_version(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no distribution is installed, that is said, with Python's version."""
    # Its own imports are done once a distribution has been looked for.
    assert importlib.metadata.version("pytest")
    monkeypatch.setattr(sys, "path", [])
    assert main(["--version"]) == 0
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert capsys.readouterr().out.startswith(f"aiowsgi of a source tree, Python {python}.")


def test_installed_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version is that of the installed distribution."""
    metadata = tmp_path / "aiowsgi-9.9.9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: aiowsgi\nVersion: 9.9.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("aiowsgi 9.9.9, Python ")


@pytest.mark.parametrize(
    ("missing", "loop", "parser"),
    [([], "uvloop", "httptools"), (["uvloop", "httptools"], "asyncio", "h11")],
)
def test_version_says_what_decides_the_speed(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    missing: list[str],
    loop: str,
    parser: str,
) -> None:
    """Compiled or pure, the event loop and the parser that ``auto`` takes, and the lock."""
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    build = "compiled" if COMPILED else "pure"
    assert main(["--version"]) == 0
    words = capsys.readouterr().out.strip().split(", ")
    assert words[2:] == [build, loop, parser, "GIL" if gil else "no GIL"]


def test_print_config(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting is shown with where it comes from, as TOML, without an application."""
    monkeypatch.setenv("PORT", "5000")
    Path("pyproject.toml").write_text("[tool.aiowsgi]\nbacklog = 9")
    assert main(["--print-config", "--threads", "8"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert "threads = 8  # --threads" in lines
    assert 'bind = ["0.0.0.0:5000"]  # PORT' in lines
    assert "backlog = 9  # pyproject.toml" in lines
    assert 'keep-alive = "75s"  # default' in lines
    assert tomllib.loads(text)["threads"] == 8


def test_check_config(capsys: pytest.CaptureFixture[str]) -> None:
    """The application is imported, from where it will be, and nothing is served."""
    home = Path("home")
    home.mkdir()
    (home / "checked_application.py").write_text("def app(environ, start_response): ...")
    server = Server()
    assert main(["checked_application", "--chdir", "home", "--check-config"], run=server) == 0
    assert server.calls == []
    assert "checked_application can be imported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["a_missing_module:app"], 3, "No module named 'a_missing_module'"),
        (["os:environ"], 3, "os:environ is not callable"),
        (["a_failing_module:app"], 3, "ZeroDivisionError: division by zero\naiowsgi: importing"),
        (["os:getcwd", "--chdir", "missing"], 2, "chdir: missing: No such file or directory"),
        ([], 2, "no application is named"),
    ],
)
def test_check_config_fails(
    argv: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong configuration is status 2, an application that cannot be imported is status 3."""
    Path("a_failing_module.py").write_text("1 / 0")
    assert main([*argv, "--check-config"]) == status
    assert message in capsys.readouterr().err


# As a program


def program(*argv: str, **more: object) -> subprocess.CompletedProcess[str]:
    """``python -m aiowsgi`` with these arguments, run to its end."""
    command = [sys.executable, "-W", "error", "-X", "importtime", "-m", "aiowsgi", *argv]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    return subprocess.run(command, text=True, check=False, timeout=30, cwd=ROOT, **streams)  # type: ignore[call-overload,no-any-return]


@pytest.mark.slow("processes")
def test_help_is_light() -> None:
    """--help imports no event loop, parser, network or logging module."""
    # What measures the coverage of programs that tests start imports more than all else.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    result = program("--help", env=environ)
    assert result.returncode == 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "aiowsgi" in imported
    assert "foreign" not in {line.rpartition(".")[2].strip() for line in lines}
    heavy = {"asyncio", "concurrent", "email", "h11", "http", "httptools", "json", "logging"}
    heavy |= {"multiprocessing", "shutil", "socket", "ssl", "tempfile", "threading", "urllib"}
    assert imported & (heavy | {"uvloop"}) == set()


def test_reader_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that nobody reads any more is dropped, and what was asked for counts as done."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["--help"]) == 0
        assert os.path.samestat(os.fstat(writer), os.stat(os.devnull))


def test_main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """python -m aiowsgi exits with what main returns."""
    monkeypatch.setattr(sys, "argv", ["aiowsgi", "--threds"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "aiowsgi" / "__main__.py"), run_name="__main__")
    assert caught.value.code == 2


@pytest.mark.slow("processes")
def test_program_status() -> None:
    """The program's exit status is what main returns."""
    result = program("--threds")
    assert result.returncode == 2
    assert "did you mean --threads?" in result.stderr


@pytest.mark.slow("processes")
def test_closed_pipe() -> None:
    """A reader that leaves early, as head(1) does, is no error."""
    command = [sys.executable, "-W", "error", "-m", "aiowsgi", "--help"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0
