"""Development: files are watched, workers restarted, failures shown."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from processes import Program
from sample_apps import ask, ask_until, workers, write_app
from support import PATIENCE

from aiowsgi.config.options import Config
from aiowsgi.exceptions import ConfigError
from aiowsgi.supervisor import reloader as module
from aiowsgi.supervisor.children import Origin
from aiowsgi.supervisor.reloader import Filter, beside_watch, changes, describe, error_page

# What is wanted


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/app/a.py", True),
        ("/app/deep/er/a.py", True),
        ("/app/a.html", True),
        ("/app/templates/a.txt", True),
        ("/app/a.txt", False),
        ("/app/test_a.py", False),
        ("/app/generated/a.py", False),
        ("/app/.git/a.py", False),
        ("/app/x/__pycache__/a.py", False),
        ("/app/venv/site-packages/a.py", False),
        ("/application/a.py", False),
        ("/.hidden/app/a.py", True),
    ],
)
def test_filter(path: str, wanted: bool) -> None:
    """Patterns are for names or for paths below the directory; some directories never count."""
    watched = Filter(
        ("/app", "/.hidden/app"),
        ("*.py", "*.html", "templates/*"),
        ("test_*", "generated/*"),
    )
    assert watched.wants(path) is wanted


def test_filter_of_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directories that are named, or the one that the application is in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    here, src = str(tmp_path), str(tmp_path / "src")
    assert Filter.of(Config()) == ([here], ("*.py",), ())
    assert Filter.of(Config(app_dir="src")).directories == [src]
    assert Filter.of(Config(chdir="src")).directories == [src]
    options = {"reload_dir": ("src", "."), "reload_include": "*.txt", "reload_exclude": "a*"}
    assert Filter.of(Config(**options)) == ([src, here], ("*.py", "*.txt"), ("a*",))
    with pytest.raises(ConfigError, match=r"reload_dir: .*/none: no such directory"):
        Filter.of(Config(reload_dir="none"))


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["a.py"], "a.py changed"),
        (["c.py", "b/a.py", "c.py"], "b/a.py, c.py changed"),
        (["5.py", "4.py", "3.py", "2.py", "1.py"], "1.py, 2.py, 3.py and 2 more changed"),
    ],
)
def test_describe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], line: str
) -> None:
    """A few names, as seen from here."""
    monkeypatch.chdir(tmp_path)
    assert describe(str(tmp_path / name) for name in names) == line


# Watching


@pytest.fixture(params=["watchfiles", "polling"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of watching."""
    if request.param == "watchfiles":
        pytest.importorskip("watchfiles")
    else:
        # An entry of None makes an import fail.
        monkeypatch.setitem(sys.modules, "watchfiles", None)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_way")
async def test_changes(tmp_path: Path) -> None:
    """Files that are made, written and removed are told, and no others."""
    (tmp_path / "deep").mkdir()
    file, other = tmp_path / "deep" / "a.py", tmp_path / "deep" / "a.txt"
    seen = changes(Filter([str(tmp_path)]), pytest.fail)

    async def after(*steps: tuple[object, ...]) -> list[str]:
        upcoming = asyncio.ensure_future(anext(seen))
        await asyncio.sleep(0)  # its first step looks around, or has the system watch
        for step, *arguments in steps:
            step(*arguments)  # type: ignore[operator]
        return await asyncio.wait_for(upcoming, PATIENCE)

    assert await after((other.write_text, "1"), (file.write_text, "1")) == [str(file)]
    assert await after((file.write_text, "22")) == [str(file)]
    assert await after((other.unlink,), (file.unlink,)) == [str(file)]
    await seen.aclose()


class FakeEntry:
    """A directory entry that is gone when it is looked at."""

    path = "/app/a.py"

    def stat(self) -> None:
        raise FileNotFoundError


def test_removed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes while it is looked at is not there."""
    monkeypatch.setattr(Filter, "files", lambda _: iter([FakeEntry()]))
    assert module._look(Filter([])) == {}


def test_directory_removed_meanwhile(tmp_path: Path) -> None:
    """A directory that is gone, and one that is another's by a link, hold no files."""
    (tmp_path / "self").symlink_to(tmp_path)
    (tmp_path / "a.py").touch()
    watched = Filter([str(tmp_path), str(tmp_path / "gone")])
    assert [entry.name for entry in watched.files()] == ["a.py"]


@pytest.mark.slow("processes")
async def test_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Changes are told for as long as the other goes on, whose result is the result."""
    monkeypatch.chdir(tmp_path)
    told: asyncio.Queue[str] = asyncio.Queue()

    async def fake(
        _: Filter, refused: Callable[[str], object], known: object
    ) -> AsyncIterator[list[str]]:
        yield [str(tmp_path / "a.py")]
        refused("no more watches")
        yield [str(tmp_path / "b.py")]

    async def main() -> int:
        assert await told.get() == "a.py changed"
        assert await told.get() == "b.py changed"
        while "has ended" not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.001)
        return 7

    monkeypatch.setattr(module, "changes", fake)
    assert await beside_watch(main(), Config(), told.put_nowait, Origin.now()) == 7
    assert "no more watches" in caplog.text
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222 - it does not wait


async def test_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot watch all files is told of once, and the files are looked at."""

    class Refusing:
        async def awatch(*_: object, **__: object) -> AsyncIterator[object]:
            raise PermissionError("Permission denied (os error 13)")
            yield

    monkeypatch.setitem(sys.modules, "watchfiles", Refusing)  # type: ignore[arg-type]
    told: list[str] = []
    seen = changes(Filter([str(tmp_path)]), told.append)
    upcoming = asyncio.ensure_future(anext(seen))
    while not told:  # noqa: ASYNC110 - the next step of the watching
        await asyncio.sleep(0)
    (tmp_path / "a.py").write_text("1")
    assert await asyncio.wait_for(upcoming, PATIENCE) == [str(tmp_path / "a.py")]
    (problem,) = told
    assert "refuses to watch: Permission denied" in problem
    await seen.aclose()


# What is shown


def test_error_page() -> None:
    """The text is shown as it is, whatever it holds."""
    answers: list[tuple[str, dict[str, str]]] = []
    page = error_page('File "<a & b>"\n  {boom}\nValueError: \udcff')
    body = b"".join(page({}, lambda status, fields: answers.append((status, dict(fields)))))
    assert answers[0][0] == "500 Internal Server Error"
    assert answers[0][1]["Content-Type"] == "text/html; charset=utf-8"
    assert b"File &quot;&lt;a &amp; b&gt;&quot;\n  {boom}\nValueError: \\udcff</pre>" in body


# With real processes


@pytest.fixture(params=["watchfiles", "polling"])
def developing(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Program, tuple[Path, tuple[str, int]]]]:
    """A server with ``--reload``, and both ways of watching."""
    home = tmp_path / "home"
    home.mkdir()
    write_app(home, version="1")
    variables = {"ANSWER": "v"}
    if request.param == "watchfiles":
        pytest.importorskip("watchfiles")
    else:
        shadow = tmp_path / "shadow"
        shadow.mkdir()
        (shadow / "watchfiles.py").write_text("raise ImportError('not here')")
        variables["PYTHONPATH"] = str(shadow)
    with workers(home, "--reload", "--log-level", "info", **variables) as (program, address):
        yield program, (home, address)


@pytest.mark.slow("processes")
def test_reload(developing: tuple[Program, tuple[Path, tuple[str, int]]]) -> None:
    """A save restarts within half a second; a mistake is shown, and mended by the next save."""
    program, (home, address) = developing
    assert ask(address) == (200, "v1")
    saved = monotonic()
    write_app(home, version="2")
    program.expect(r"served_app\.py changed; restarting")
    assert monotonic() - saved < PATIENCE
    ask_until(address, 200, "v2")

    write_app(home, "def app(:")
    program.expect("the application cannot be imported")
    program.expect("SyntaxError")
    page = ask_until(address, 500, "SyntaxError")
    assert "def app(:" in page

    write_app(home, version="3")
    ask_until(address, 200, "v3")

    write_app(home, "import os; os._exit(5)")
    program.expect("before it served: exit status 5")
    write_app(home, version="4")
    ask_until(address, 200, "v4")

    program.process.send_signal(signal.SIGHUP)
    program.expect("HUP; restarting")
    program.expect("listening")
    assert program.stop() == 0


@pytest.mark.slow("processes")
def test_first_start_fails(tmp_path: Path) -> None:
    """In development, an application that cannot be imported at first is waited for too."""
    write_app(tmp_path, "import no_such_thing")
    with workers(tmp_path, "--reload", ANSWER="v") as (program, address):
        assert "no_such_thing" in ask_until(address, 500, "ModuleNotFoundError")
        write_app(tmp_path, version="1")
        ask_until(address, 200, "v1")
        assert program.stop() == 0


@pytest.mark.slow("processes")
def test_bad_configuration(tmp_path: Path) -> None:
    """A configuration that went bad is told, and the old one goes on."""
    write_app(tmp_path, version="1")
    settings = tmp_path / "a.toml"
    settings.write_text("threads = 2")
    with workers(tmp_path, "--reload", "-c", str(settings), ANSWER="v") as (program, address):
        settings.write_text("thread = 2")
        write_app(tmp_path, version="2")
        program.expect("the old configuration stays: .*did you mean threads")
        ask_until(address, 200, "v2")
