"""Programs that tests drive and that no Python package brings: curl, wrk, nginx and others.

On a developer's machine a test is skipped where its program is missing. In CI, where ``CI`` is
``true``, nothing is skipped: the test runs, and fails for want of the program::

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
"""Where to look: servers are installed where only the administrator's path leads."""

OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}
"""What does as well."""


def tool(name: str) -> str:
    """Where the program is; its bare name if it is not installed, which cannot be run then."""
    return _find(name) or name


def _find(name: str) -> str | None:
    found = (shutil.which(each, path=PATH) for each in (name, *OTHER_NAMES.get(name, ())))
    return next(filter(None, found), None)


def needs_tool(*names: str) -> pytest.MarkDecorator:
    """Mark a test, or a module as its ``pytestmark``, that runs the programs of these names."""
    missing = [name for name in names if _find(name) is None]
    reason = f"not installed: {', '.join(missing)}"
    return pytest.mark.skipif(bool(missing) and not IN_CI, reason=reason)
