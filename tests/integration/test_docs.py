"""The documentation: its programs run, its commands are understood, and its options exist."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from types import ModuleType

import pytest
from processes import ROOT
from status_samples import a_report
from support import free_port

from aiowsgi.cli import main as cli
from aiowsgi.config.foreign import find
from aiowsgi.config.options import OPTIONS
from aiowsgi.status.aggregate import ServerFacts, WorkerReport, overview
from aiowsgi.status.prometheus import exposition

ASKS_A_SERVER = ("top", "requests", "stacks")
"""Subcommands that ask the admin endpoint of a running server."""

PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}


def blocks(language):
    """The code blocks in one language: parameters with the page and a number as their ids."""
    for name, text in PAGES.items():
        found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        for number, block in enumerate(found):
            yield pytest.param(block, id=f"{name}-{number}")


def commands():
    """The lines that start the server, with variables in front or without."""
    for parameter in blocks("sh"):
        for line in parameter.values[0].splitlines():
            if "aiowsgi" in line.split("#")[0].split() and "pip" not in line:
                yield line


@pytest.mark.filterwarnings("ignore:.cgi. is deprecated:DeprecationWarning")  # Pyramid imports it
@pytest.mark.parametrize("program", [*blocks("python")])
def test_program(program, monkeypatch):
    """A program runs as a module; what stands under ``__main__`` is not started."""
    module = ModuleType("documented")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(program, "documentation", "exec"), vars(module))
    assert hasattr(module, "app")


@pytest.mark.parametrize("line", [*commands()])
def test_command(line, monkeypatch, tmp_path, capsys):
    """The server understands each command, with the variables and the file that it names."""
    for parameter in blocks("toml"):
        (tmp_path / "aiowsgi.toml").write_text(parameter.values[0])
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).partition("=")[::2])
    assert words[0] == "aiowsgi"
    if words[1] in ASKS_A_SERVER:
        # The command gets as far as asking a server, which is not there.
        assert cli.main([word.replace("9000", str(free_port())) for word in words[1:]]) == 1
        return
    # --print-config does not import the application, which need not exist here.
    arguments = [word for word in words[1:] if word != "--check-config"]
    assert cli.main([*arguments, "--print-config"]) == 0
    assert "app = " in capsys.readouterr().out


def test_the_three_ways_to_say_it_mean_the_same(monkeypatch, tmp_path, capsys):
    """Flags, variables and the file of the quickstart give the same settings."""
    (file,) = (parameter.values[0] for parameter in blocks("toml"))
    (tmp_path / "aiowsgi.toml").write_text(file)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["-c", "aiowsgi.toml", "app:app", "--print-config"]) == 0
    by_file = capsys.readouterr().out
    assert cli.main(["--threads", "8", "--keep-alive", "30s", "app:app", "--print-config"]) == 0
    by_flags = capsys.readouterr().out
    values = [re.sub(r" *#.*", "", text) for text in (by_file, by_flags)]
    assert values[0] == values[1]


@pytest.mark.parametrize("name", PAGES)
def test_options_exist(name):
    """Each option that a page names is one of the server's."""
    ours = {f"--{option.replace('_', '-')}" for option in OPTIONS}
    ours |= {"--check-config", "--print-config", "--version", "--help"}
    ours |= {f"--no-{option.replace('_', '-')}" for option in OPTIONS}
    named = set(re.findall(r"`(--[a-z][a-z0-9-]*)", PAGES[name]))
    if name == "move-here.md":
        named = {flag for flag in named if find(flag) is None}
    assert named - ours == set()


@pytest.mark.parametrize("name", PAGES)
def test_variables_exist(name):
    """Each variable that a page names is that of an option."""
    named = set(re.findall(r"AIOWSGI_([A-Z_]+)", PAGES[name]))
    assert {variable.lower() for variable in named} <= {*OPTIONS, "config"}


LOG_LINES = re.findall(r'^\*\*"(.+?)":\*\*', PAGES["trouble.md"], re.MULTILINE)


def texts_of_the_package():
    """The strings in the package's code."""
    for path in (ROOT / "aiowsgi").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.parametrize("line", LOG_LINES)
def test_log_lines_exist(line):
    """The server can log each line that a page explains: its longest part without values."""
    part = max(re.split(r"\d[\d.]*|\b[A-Z]+\b|:", line), key=len).strip()
    assert len(part) > 8
    assert any(part in text for text in texts_of_the_package())


def test_metrics_exist():
    """Each metric that the page names is served."""
    report = {**a_report(), "certificate_expiry": 1.0}
    worker = WorkerReport(7, 1, "ready", report)
    text = exposition(overview(ServerFacts(2.0, 1.0), [worker]), openmetrics=False)
    named = set(re.findall(r"\b(?:aiowsgi|process)_[a-z_]+", PAGES["watch.md"]))
    assert len(named) > 10
    assert {name for name in named if name not in text} == set()


def test_every_page_is_in_the_table_of_contents():
    """The index lists each page."""
    (tree,) = re.findall(r"```{toctree}.*?```", PAGES["index.md"], re.DOTALL)
    listed = {line for line in tree.splitlines() if re.fullmatch(r"[a-z-]+", line)}
    assert listed | {"index"} == {name.removesuffix(".md") for name in PAGES}
