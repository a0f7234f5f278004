"""The table of other servers' options: complete, without contradictions, and readable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiowsgi.config.foreign import ROWS, SERVERS, find, render_table
from aiowsgi.config.options import OPTIONS

OWN_COMMANDS = {"config", "c", "check-config", "print-config", "app", "version"}
"""Settings of other servers that are no settings of a server that runs."""


def gunicorn_names() -> Iterator[str]:
    config = pytest.importorskip("gunicorn.config")
    for setting in config.KNOWN_SETTINGS:
        yield from (setting.name, *(setting.cli or ()))


def granian_names() -> Iterator[str]:
    cli = pytest.importorskip("granian.cli")
    for parameter in cli.cli.params:
        yield from (*parameter.opts, *parameter.secondary_opts)


def uvicorn_names() -> Iterator[str]:
    main = pytest.importorskip("uvicorn.main")
    for parameter in main.main.params:
        yield from (*parameter.opts, *parameter.secondary_opts)


def waitress_names() -> Iterator[str]:
    adjustments = pytest.importorskip("waitress.adjustments")
    yield from (name for name, _ in adjustments.Adjustments._params)


@pytest.mark.parametrize(
    ("server", "names"),
    [
        ("gunicorn", gunicorn_names),
        ("granian", granian_names),
        ("uvicorn", uvicorn_names),
        ("waitress", waitress_names),
    ],
)
def test_the_table_knows_every_option(server: str, names: object) -> None:
    """Each option of the installed release has a row, or is an option of that name here."""
    assert callable(names)
    spellings = {name.lstrip("-").replace("_", "-") for name in names()}
    ours = {name.replace("_", "-").removeprefix("no-") for name in OPTIONS}
    unknown = {
        name
        for name in spellings - OWN_COMMANDS
        if find(name, server) is None and name.removeprefix("no-") not in ours
    }
    assert unknown == set()


@pytest.mark.parametrize("server", SERVERS)
def test_a_name_means_one_thing_in_a_server(server: str) -> None:
    """No name stands in two rows of one server."""
    counts = Counter(name for row in ROWS for name in row.names.get(server, ()))
    assert [name for name, count in counts.items() if count > 1] == []


def test_rows_lead_to_options() -> None:
    """Every option that a row names exists; a row without one says what to do."""
    for row in ROWS:
        assert row.option in {*OPTIONS, "", "attribute", "environ"}
        assert row.option or row.why
        assert set(row.names) <= set(SERVERS)


def test_a_name_that_is_ours_means_ours() -> None:
    """If another server has an option of our name, it leads to ours; one name means two things."""
    ours = {name.replace("_", "-"): name for name in OPTIONS}
    other = {
        (server, name, row.option)
        for row in ROWS
        for server, names in row.names.items()
        for name in names
        if ours.get(name, row.option) != row.option
    }
    assert other == {("uwsgi", "http", "bind")}


def test_values_become_options() -> None:
    """Values are written as our options take them."""
    given = {
        ("http-socket", "*:80"): {"bind": ":80"},
        ("socket", "/run/a.sock"): {"bind": "unix:/run/a.sock"},
        ("listen", "127.0.0.1:80 127.0.0.1:81"): {"bind": "127.0.0.1:80,127.0.0.1:81"},
        ("http", "8000"): {"bind": ":8000"},
        ("mount", "/shop=shop.py"): {"app": "shop.py", "root_path": "/shop"},
        ("buffer-size", "8192"): {"max_header_size": "65536"},
        ("buffer-size", "131072"): {"max_header_size": "131072"},
        ("chmod-socket", "true"): {"uds_permissions": "666"},
        ("processes", "%k"): {"workers": "auto"},
        ("trusted-proxy", "10.0.0.1"): {"forwarded_allow_ips": "10.0.0.1", "proxy_headers": "yes"},
        ("protocol", "http"): {},
        ("log-level", "notice"): {"log_level": "info"},
    }
    for (name, value), settings in given.items():
        servers = [server for server in SERVERS if find(name, server)]
        row = find(name, "uwsgi" if name != "listen" and "uwsgi" in servers else "waitress")
        row = row or find(name)
        assert row is not None
        assert row.translate(value).settings == settings


@pytest.mark.parametrize("server", SERVERS)
def test_the_documentation_has_every_row(server: str) -> None:
    """The table in Markdown has a line for each row, with the names as they are typed."""
    lines = render_table(server).splitlines()
    assert len(lines) == 2 + sum(server in row.names for row in ROWS)
    assert all(line.count("|") == 4 for line in lines)


MOVE_HERE = (Path(__file__).parents[2] / "docs" / "move-here.md").read_text()


@pytest.mark.parametrize("server", SERVERS)
def test_the_page_has_the_table(server: str) -> None:
    """The page "Move here" has a table for each server: the one that is rendered from the rows."""
    begin = f"<!-- foreign {server} -->\n"
    assert MOVE_HERE.partition(begin)[2].partition("<!-- /foreign -->")[0].strip() == (
        render_table(server)
    )
