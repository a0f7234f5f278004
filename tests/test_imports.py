"""The packages: which may import which, where threads may be named, which tests each module has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "aiowsgi"

MAY_IMPORT = {
    "net": "",
    "http1": "",
    "system": "",
    "proxy": "net",
    "config": "net",
    "wsgi": "http1",
    "exchange": "http1 wsgi",
    "threads": "exchange config",
    "logs": "config exchange",
    "status": "exchange",
    "connection": "exchange threads http1 proxy wsgi net",
    "admin": "status http1 config net",
    "server": "connection threads logs status config net system http1",
    "supervisor": "server admin",
    "cli": "supervisor",
    "frameworks": "supervisor",
    "frameworks/django": "",
    "frameworks/django/management": "",
    "frameworks/django/management/commands": "server",
}
"""Each package, and those that it may import from: these, and whatever these may import from."""

EVERYWHERE = {"exceptions", "loggers", "suggest"}
"""Modules of the top level that every package may import."""

THREADS_MEET = ("exchange/", "threads/", "logs/writer.py", "status/collector.py")
"""Where ``threading`` and ``call_soon_threadsafe`` may be named."""

SANS_IO = (
    "http1/",
    "wsgi/environ.py",
    "wsgi/handler.py",
    "net/address.py",
    "proxy/",
    "config/types.py",
)
"""Values in, values out: no event loop, no threads, no waiting."""

TESTED_ELSEWHERE = {
    "admin/client": ("cli/test_top", "its answers and its errors are what the commands show"),
    "config/option": ("config/test_options", "an option is seen in the fields that it makes"),
    "frameworks/django/management/commands/runserver": (
        "frameworks/test_django",
        "what is tested is the command",
    ),
    "exchange/forked_child": ("integration/test_forking", "the exit status is seen by the parent"),
    "http1/h11_parser": ("http1/test_parsers", "one table for both libraries"),
    "http1/httptools_parser": ("http1/test_parsers", "one table for both libraries"),
    "http1/messages": ("http1/test_reader", "values, which the reader yields"),
    "logs/atoms": ("logs/test_access_format", "an atom is seen in the line that it is a part of"),
    "server/after_fork": ("integration/test_forking", "seen in processes that fork"),
    "server/factory": ("server/test_server", "what it makes is seen at work there"),
    "suggest": ("config/test_types", "a hint is seen in the errors that it ends"),
    "system/descriptors": ("server/test_accept", "the limit is seen in what is accepted"),
    "system/memory": ("supervisor/test_recycling", "measured for --max-rss"),
}
"""Modules without a file of tests of the same name: where else, and why."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def named(path):
    """The path as the tables of this module have it."""
    return path.relative_to(PACKAGE).as_posix()


def package_of(path):
    """The package that a file belongs to; empty for the top level."""
    return path.relative_to(PACKAGE).parent.as_posix().removeprefix(".")


def imports_of(path, *, types=True):
    """Dotted names that a file imports, wherever in it; those for types alone if ``types``."""
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            nodes.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        nodes.extend(ast.iter_child_nodes(node))


def modules_imported(path, *, types=True):
    """The modules of aiowsgi that a file imports, as paths; a package is its ``__init__``."""
    for name in imports_of(path, types=types):
        parts = name.split(".")
        if parts[0] != "aiowsgi":
            continue
        for length in (len(parts), len(parts) - 1):
            base = PACKAGE.joinpath(*parts[1:length])
            found = [
                file for file in (base.with_suffix(".py"), base / "__init__.py") if file in MODULES
            ]
            if found:
                yield found[0]
                break


def reachable(package):
    """Every package that ``package`` may import from."""
    direct = set(MAY_IMPORT[package].split())
    return direct.union(*(reachable(other) for other in direct))


def test_the_table_names_every_package():
    """A new package gets a row, and a row that has no package goes."""
    assert {package_of(path) for path in MODULES} - {""} == set(MAY_IMPORT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_what_the_table_allows(package):
    """Imports go from the shells to the core, for types too."""
    allowed = reachable(package) | {package}
    assert package not in reachable(package)
    wrong = {
        f"{named(path)} imports {named(target)}"
        for path in MODULES
        if package_of(path) == package
        for target in modules_imported(path)
        if package_of(target) not in allowed and target.stem not in EVERYWHERE
    }
    assert wrong == set()


TYPES_TOO = {"exchange"}
"""Packages in which imports for types form no circle either."""


def test_no_modules_import_each_other():
    """There is no circle of modules at run time, nor, in `TYPES_TOO`, for types."""
    needs = {
        path: set(modules_imported(path, types=package_of(path) in TYPES_TOO)) - {path}
        for path in MODULES
    }
    done = set()
    while len(done) < len(needs):
        free = {path for path, others in needs.items() if others <= done} - done
        assert free, f"a circle among {sorted(named(path) for path in set(needs) - done)}"
        done |= free


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_says_what_lives_there(package):
    """The docstring of its ``__init__`` says what belongs there and what does not."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text()))
    assert docstring is not None
    assert len(docstring.split()) >= 20


def test_every_module_has_its_tests():
    """They are in the file of its name, or where the table says; packages aside."""
    tests = {str(path.relative_to(TESTS).with_suffix("")) for path in TESTS.rglob("test_*.py")}
    modules = {path.relative_to(PACKAGE) for path in MODULES if path.stem != "__init__"}
    missing = {
        str(path.with_suffix(""))
        for path in modules
        if str(path.with_name(f"test_{path.stem}")) not in tests
    }
    assert missing == set(TESTED_ELSEWHERE)
    assert {where for where, _ in TESTED_ELSEWHERE.values()} <= tests


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_threads_are_named_where_they_meet_alone(path):
    """``threading`` and ``call_soon_threadsafe`` stand in the modules of `THREADS_MEET`."""
    if named(path).startswith(THREADS_MEET):
        return
    names = {name.partition(".")[0] for name in imports_of(path)}
    assert not names & {"threading", "_thread", "queue"}
    attributes = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert "call_soon_threadsafe" not in attributes


@pytest.mark.parametrize(
    "path", [path for path in MODULES if named(path).startswith(SANS_IO)], ids=named
)
def test_what_works_on_values_does_no_input_or_output(path):
    """The sans-I/O modules know no loop, no socket and no clock."""
    names = set(imports_of(path))
    assert not {name.partition(".")[0] for name in names} & {"asyncio", "selectors", "select"}
    # gmtime() is a calendar, and not a clock.
    assert {name for name in names if name.startswith("time")} <= {"time.gmtime"}
