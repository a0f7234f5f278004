"""README.md and the programs on embedding are right: commands, options, links."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import requests
from processes import LISTENING, ROOT, running
from support import PATIENCE

from aiowsgi.cli import main as cli
from aiowsgi.config import help as reference
from aiowsgi.config.options import OPTIONS

README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def blocks(language, text=README):
    """The code blocks in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


SERVE, TEST = (block.strip() for block in blocks("sh"))


@pytest.mark.parametrize("line", [SERVE, TEST])
def test_command(line):
    """Each of the two commands is one line: make an environment, install, do something."""
    assert "\n" not in line
    create, install, _ = (shlex.split(part) for part in line.split("&&"))
    assert create == ["python3", "-m", "venv", ".venv"]
    assert install[:2] == [".venv/bin/pip", "install"]
    ((extras),) = re.findall(r"^\.\[(.*)\]$", install[-1])
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_serve_command(monkeypatch):
    """The first command serves an application that exists, with options that exist."""
    script, *arguments = shlex.split(SERVE.split("&&")[-1])
    assert script == ".venv/bin/aiowsgi"
    assert "aiowsgi" in PROJECT["scripts"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert cli.main([*arguments, "--check-config"]) == 0


def test_test_command():
    """The second command runs the whole suite."""
    assert TEST.split("&&")[-1].split() == [".venv/bin/python", "-m", "pytest"]


def test_extras():
    """Every extra is explained, and none else."""
    table = README.partition("| Extra ")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z]+)`[,| ]", table)) == set(PROJECT["optional-dependencies"])


def test_options():
    """The table of options is the one that is rendered from the code."""
    table = README.partition("<!-- options -->")[2].partition("<!-- /options -->")[0]
    assert table.strip() == reference.render_option_table()


def test_flags_exist():
    """Every flag that the text names is one of aiowsgi's, unless it is another server's."""
    text = re.sub(r"^\| (gunicorn|uvicorn|waitress) [^|]*\|", "", README, flags=re.MULTILINE)
    ours = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", reference.render_option_table()))
    ours |= {f"--{name.replace('_', '-')}" for name in OPTIONS}
    ours |= {"--check-config", "--print-config", "-c", "-m", "-e"}
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)) <= ours


def test_links():
    """Every file that the text links to exists."""
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", README)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []


BLOCKING, EMBEDDED, BACKGROUND, FIXTURE = blocks("python", (ROOT / "docs/embed.md").read_text())


@pytest.mark.slow("processes")
def test_blocking_program():
    """The first program of the page on embedding serves until it is told to stop."""
    with running(sys.executable, "-c", BLOCKING.replace(":8000", ":0")) as program:
        url = program.expect(LISTENING)[1]
        answer = requests.get(url, timeout=PATIENCE, proxies={"http": ""})
        assert answer.text == "Hello!\n"
        assert program.stop() == 0


@pytest.mark.parametrize(
    ("program", "output"), [(EMBEDDED, "http://127.0.0.1:"), (BACKGROUND, "Hello world!")]
)
@pytest.mark.slow("processes")
def test_program(program, output):
    """The other programs serve for a moment, and end by themselves."""
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
    assert result.stdout.startswith(output)
    assert result.stderr == ""


@pytest.mark.slow("processes")
def test_fixture_program(tmp_path):
    """The test in the documentation passes, without anything that this project's tests set up."""
    (tmp_path / "test_greeting.py").write_text(FIXTURE)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    command = [sys.executable, "-m", "pytest"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, "1 passed" in result.stdout) == (0, True), result.stdout
