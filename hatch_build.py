"""Compiles the hot modules when a wheel is built with ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=1``.

mypyc turns the modules of `COMPILED` into C, the C compiler makes extension modules of that, and
these are added to the wheel beside the Python files of the same name. Python prefers an extension
module to a file, so that nothing else has to choose. Without the variable the wheel is pure.
"""

from __future__ import annotations

import os
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = """
http1: body h11_parser head_cache httptools_parser messages reader receive_buffer response semantics
http1: syntax target
wsgi: environ file_wrapper handler
exchange: app_context disconnect exchange output output_buffer record writers
threads: batching fair_queue pool scheduler wakeups
connection: body_buffer body_receiver connection deadlines peer state timer_wheel transport
logs: access_logger writer
status: collector
server: accept
"""
"""The modules that run for every request or connection, by package.

A module with a class that is derived from a class written in C must not be among them: mypyc does
not know how large an instance of the base is, and the process crashes (`exceptions`: OSError;
`exchange.memory_budget`, `exchange.request_body` and `wsgi.errors`: io). `logs.access_format` makes
the function for a line of the access log from source text when the server starts.
"""

OPTIMISATION = os.environ.get("AIOWSGI_COMPILE_LEVEL", "3")
"""The C compiler's level; 0 builds in a third of the time, for trying."""


class CompileHook(BuildHookInterface[Any]):
    """Adds extension modules to the wheel; see the module's docstring."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before the files of the wheel are collected; see hatchling."""
        if version == "editable":
            return
        self._folder = TemporaryDirectory()
        built = compile_modules(Path(self.root), Path(self._folder.name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"] |= {str(path): name for name, path in built.items()}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built."""
        del build_data, artifact_path
        if version != "editable":
            self._folder.cleanup()


def compile_modules(root: Path, folder: Path) -> dict[str, Path]:
    """Compile `COMPILED` of ``root``; return the extension modules by their path in the wheel."""
    # Imported here: a pure wheel is built without them.
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    with chdir(root):
        extensions = mypycify(
            list(module_files()),
            group_name="aiowsgi",
            opt_level=OPTIMISATION,
            debug_level="0",
            target_dir=str(folder / "c"),
        )
        command = build_ext(Distribution({"ext_modules": extensions}))
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "objects")
        command.ensure_finalized()
        command.run()
    lib = folder / "lib"
    return {str(path.relative_to(lib)): path for path in sorted(lib.rglob("*")) if path.is_file()}


def module_files() -> list[str]:
    """The files of the modules that are compiled, relative to the project's folder."""
    return [
        f"aiowsgi/{package}/{name}.py"
        for package, _, names in (line.partition(":") for line in COMPILED.split("\n") if line)
        for name in names.split()
    ]
