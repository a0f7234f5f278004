"""Finds the programs that tests run and that pip cannot install: curl, wrk, nginx and others.

A test is skipped if its program is missing. In CI, where the variable ``CI`` is ``true``, the test
runs, and fails because the program is missing::

    @needs_tool("wrk")
    def test_something():
        subprocess.run([tool("wrk"), ...])
"""

from __future__ import annotations

import os
import shutil

import pytest

IN_CI = os.environ.get("CI") == "true"

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
"""Folders to search. Debian installs servers in ``sbin``, which only root's PATH contains."""

OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}
"""Other names of the same program."""


def tool(name: str) -> str:
    """Return the program's path, or its bare name if it is not installed."""
    return _find(name) or name


def _find(name: str) -> str | None:
    found = (shutil.which(each, path=PATH) for each in (name, *OTHER_NAMES.get(name, ())))
    return next(filter(None, found), None)


def needs_tool(*names: str) -> pytest.MarkDecorator:
    """Mark a test, or a module as its ``pytestmark``, that runs the programs of these names."""
    missing = [name for name in names if _find(name) is None]
    reason = f"not installed: {', '.join(missing)}"
    return pytest.mark.skipif(bool(missing) and not IN_CI, reason=reason)
