"""The command ``aiowsgi migrate``: its output, its exit status and its errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aiowsgi.cli.main import main
from aiowsgi.config.sources import Sources


def test_the_output_is_a_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed can be used by -c, and says with what differs beside each line."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "gunicorn.conf.py"
    file.write_text("bind = ['127.0.0.1:1', 'unix:/tmp/s']\ntimeout = 30\nworkers = 2\n")
    assert main(["migrate", "gunicorn.conf.py"]) == 0
    output = capsys.readouterr().out
    (tmp_path / "aiowsgi.toml").write_text(output)
    config = Sources({}, {}, str(tmp_path), "aiowsgi.toml").load().config
    assert config.bind == ("127.0.0.1:1", "unix:/tmp/s")
    assert (config.request_timeout, config.workers, config.threads) == (30, 2, 1)
    lines = output.splitlines()
    assert lines[0] == "# From gunicorn.conf.py (gunicorn). Start with: aiowsgi -c aiowsgi.toml"
    assert 'request-timeout = "30s"  # limits the application\'s answer (504)' in output


def test_what_needs_a_person_comes_last(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The exit status is 1, and the end of the output says why."""
    file = tmp_path / "gunicorn.conf.py"
    file.write_text("workers = 'many'\nstatsd_host = 'x:1'\nkeyfile = 'k'\n")
    assert main(["migrate", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    needs = lines[lines.index("# What needs a person:") + 1 :]
    assert [line.partition(":")[0] for line in needs] == ["# - workers", "# - statsd_host = x",
                                                          "# - keyfile"]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["missing.ini"], "missing.ini: No such file or directory"),
        (["."], ".: Is a directory"),
        (["a.ini", "b.ini"], "b.ini: one argument too many"),
        (["--", "nginx"], "nginx: starts none of gunicorn"),
    ],
)
def test_cannot_be_read(
    argv: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exit status is 2, with a reason."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.ini").touch()
    assert main(["migrate", *argv]) == 2
    assert message in capsys.readouterr().err


def test_not_utf8(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file in another encoding is refused, not guessed."""
    (tmp_path / "uwsgi.ini").write_bytes(b"[uwsgi]\nmodule = \xff")
    assert main(["migrate", str(tmp_path / "uwsgi.ini")]) == 2
    assert "is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "status"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_usage(argv: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The help fits 80 columns."""
    assert main(["migrate", *argv]) == status
    output = capsys.readouterr().out
    assert output.startswith("Usage: aiowsgi migrate FILE")
    assert max(map(len, output.splitlines())) <= 80


def test_the_example_of_the_documentation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page "Move here" shows a file, and what really comes of it."""
    page = (Path(__file__).parents[2] / "docs" / "move-here.md").read_text()
    (source,) = re.findall(r"^```py\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (expected,) = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gunicorn.conf.py").write_text(source)
    assert main(["migrate", "gunicorn.conf.py"]) == 1
    assert capsys.readouterr().out == expected
