"""Importing everything before privileges are dropped."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_FOR_SERVERS = (
    "aiowsgi/cli/",
    "aiowsgi/frameworks/",
    "aiowsgi/pytest_plugin.py",
    "aiowsgi/testing.py",
)


def imported_by_functions() -> set[str]:
    """Modules that functions of the server import, as far as they are installed."""
    names = set()
    for path in (ROOT / "aiowsgi").rglob("*.py"):
        if str(path.relative_to(ROOT)).startswith(NOT_FOR_SERVERS):
            continue
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import):
                        names |= {alias.name for alias in node.names}
                    elif isinstance(node, ast.ImportFrom) and node.module:
                        names.add(node.module)
    return {name for name in names if importlib.util.find_spec(name.partition(".")[0])}


@pytest.mark.slow("processes")
def test_everything_is_imported() -> None:
    """After import_everything(), no function of the server needs to read a module's file."""
    names = imported_by_functions()
    assert "ssl" in names
    script = f"""
import sys
from aiowsgi.system.imports import import_everything
import_everything()
print(sorted(set({sorted(names)!r}) - sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow("processes")
def test_no_framework_is_imported() -> None:
    """What starts the server from a framework would import that, and Django wants its settings."""
    script = """
import sys
before = {*sys.modules}  # A namespace package may be there from the start.
from aiowsgi.system.imports import import_everything
import_everything()
print([name for name in ("bottle", "django", "paste") if name in {*sys.modules} - before])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
