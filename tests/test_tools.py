"""A missing program skips a test on a developer's machine and fails it in CI."""

from __future__ import annotations

import subprocess

import pytest
import tools

ABSENT = "no-such-program-for-aiowsgi"


@pytest.mark.parametrize(
    ("names", "in_ci", "skipped"),
    [
        (["sh"], False, False),
        ([ABSENT], False, True),
        (["sh", ABSENT], False, True),
        ([ABSENT], True, False),
    ],
)
def test_needs_tool(monkeypatch, names, in_ci, skipped):
    """A test is skipped if a program is missing, but not in CI."""
    monkeypatch.setattr(tools, "IN_CI", in_ci)
    mark = tools.needs_tool(*names)
    assert mark.args == (skipped,)
    assert (ABSENT in mark.kwargs["reason"]) == (ABSENT in names)


@pytest.mark.slow("processes")
def test_missing_tool_fails():
    """A missing program raises FileNotFoundError, which fails the test."""
    with pytest.raises(FileNotFoundError):
        subprocess.run([tools.tool(ABSENT)], check=False)


def test_other_name(monkeypatch, tmp_path):
    """A program is found under its other name."""
    program = tmp_path / "google-chrome"
    program.touch(0o755)
    monkeypatch.setattr(tools, "PATH", str(tmp_path))
    assert tools.tool("chromium") == str(program)
