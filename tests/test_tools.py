"""Programs that are missing skip a test here, and fail it in CI."""

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
    """A test is skipped where a program is missing, but not in CI."""
    monkeypatch.setattr(tools, "IN_CI", in_ci)
    mark = tools.needs_tool(*names)
    assert mark.args == (skipped,)
    assert (ABSENT in mark.kwargs["reason"]) == (ABSENT in names)


@pytest.mark.slow("processes")
def test_missing_tool_fails():
    """A program that is missing cannot be run, so that the test fails."""
    with pytest.raises(FileNotFoundError):
        subprocess.run([tools.tool(ABSENT)], check=False)


def test_other_name(monkeypatch, tmp_path):
    """Another program that does as well is found where the first is missing."""
    program = tmp_path / "google-chrome"
    program.touch(0o755)
    monkeypatch.setattr(tools, "PATH", str(tmp_path))
    assert tools.tool("chromium") == str(program)
