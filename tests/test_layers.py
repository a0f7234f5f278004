"""The house's floors: who may import whom, where threads may be named, what tests each room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "aiowsgi"

FLOORS = tuple(
    frozenset(names.split())
    for names in (
        # What can go wrong.
        "exceptions",
        # Options, and what they are made of.
        (
            "kinds options address grammar config env_file settings reference importer processors"
            " loops notify privileges"
        ),
        # Bytes, files and descriptors.
        (
            "http1 forwarded proxy proxy_protocol tls socket_file sockets file_wrapper log_sinks"
            " logs wsgi_errors"
        ),
        # Requests and responses as values, and what is told of them.
        (
            "environ wsgi endpoints access_atoms access_log report metrics exposition overview"
            " views staffing census"
        ),
        # Threads.
        "pool bridge overtime",
        # Connections, and what they share.
        (
            "patrol intake dispatch handover hub line dialogue connection acceptor gate entrance"
            " admin admin_client admin_pages admin_guard admin_site insight recycling"
        ),
        # One process.
        "assembly server seal top",
        # Several.
        "channel board spawn crew generations reload worker supervisor solo",
        # The faces.
        "runner cli testing pytest_plugin __main__ __init__",
    )
)
"""From the ground up. A module imports from its own floor or from those below it."""

SANS_IO = ("http1", "environ", "wsgi", "file_wrapper", "address", "kinds", "proxy_protocol")
"""Values in, values out: no event loop, no threads, no waiting."""

TESTED_ELSEWHERE = {
    "access_atoms": ("test_access_log", "an atom is seen in the line that it is a part of"),
    "assembly": ("test_server", "what it makes is seen at work there"),
    "admin_client": ("test_top", "its answers and its errors are what the commands show"),
    "exceptions": ("test_cli", "raised elsewhere; what becomes of them is said there"),
    "http1/events": ("http1/test_reader", "values, which the reader yields"),
    "http1/grammar": ("http1/test_http1_grammar", "pytest wants names of files to be unique"),
    "http1/h11_parser": ("http1/test_parsers", "one table for both libraries"),
    "http1/httptools_parser": ("http1/test_parsers", "one table for both libraries"),
    "options": ("test_config", "an option is seen in the fields that it makes"),
}
"""Modules without a file of tests of the same name: where else, and why."""

FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    """The top-level module or package that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path):
    """Dotted names that a file imports when it runs, wherever in it; not those for types alone."""
    package = ("aiowsgi", *path.relative_to(PACKAGE).parts[:-1])
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        nodes.extend(ast.iter_child_nodes(node))


def test_every_module_has_its_floor():
    """A new room is put on the map."""
    assert {room_of(path) for path in MODULES} <= set(FLOOR_OF)


def test_every_module_has_its_tests():
    """They stand in the file of its name, or where the table says; packages aside."""
    tests = {str(path.relative_to(TESTS).with_suffix("")) for path in TESTS.rglob("test_*.py")}
    modules = {path.relative_to(PACKAGE) for path in MODULES if path.stem != "__init__"}
    missing = {
        str(path.with_suffix(""))
        for path in modules
        if str(path.with_name(f"test_{path.stem.strip('_')}")) not in tests
    }
    assert missing == set(TESTED_ELSEWHERE)
    assert {where for where, _ in TESTED_ELSEWHERE.values()} <= tests


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_imports_from_above(path):
    """Knowledge flows upward only."""
    floor = FLOOR_OF[room_of(path)]
    own = {room_of(other) for other in MODULES}
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        if package == "aiowsgi" and (room := rest.partition(".")[0]) in own:
            assert FLOOR_OF[room] <= floor, f"it imports {name}"


def test_no_two_rooms_import_each_other():
    """On one floor there is an order, too."""
    graph = {}
    for path in MODULES:
        rooms = graph.setdefault(room_of(path), set())
        for name in imports_of(path):
            package, _, rest = name.partition(".")
            room = rest.partition(".")[0]
            if package == "aiowsgi" and room in FLOOR_OF and room != room_of(path):
                rooms.add(room)
    done = set()
    while len(done) < len(graph):
        free = {room for room, needs in graph.items() if needs - done <= {room}} - done
        assert free, f"a circle among {sorted(set(graph) - done)}"
        done |= free


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_threads_are_named_at_the_boundary_alone(path):
    """``threading`` and ``call_soon_threadsafe`` stand in ``bridge`` and ``pool.py``."""
    if room_of(path) in ("bridge", "pool"):
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
    "path",
    [path for path in MODULES if room_of(path) in SANS_IO],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_what_works_on_values_does_no_input_or_output(path):
    """The sans-I/O rooms know no loop, no socket and no clock."""
    names = set(imports_of(path))
    assert not {name.partition(".")[0] for name in names} & {"asyncio", "selectors", "select"}
    # gmtime() is a calendar, and not a clock.
    assert {name for name in names if name.startswith("time")} <= {"time.gmtime"}
