"""Rendering the options as text."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from aiowsgi.config.help import Entry, render_help, render_option_table, render_settings
from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.sources import Settings, Sources, flag_name, key_name

README = Path(__file__).parents[2] / "README.md"


def test_readme() -> None:
    """The README has the table that render_option_table() returns."""
    text = README.read_text(encoding="utf-8")
    _, begin, rest = text.partition("<!-- options -->\n")
    table, end, _ = rest.partition("<!-- /options -->")
    assert begin
    assert end
    assert table.strip() == render_option_table(), "see the docstring of aiowsgi.config.help"


def test_table() -> None:
    """Every option has a row of three cells, and bars within them are escaped."""
    table = render_option_table()
    rows = [row.replace("\\|", "") for row in table.splitlines() if row]
    assert all(row.count("|") == 4 for row in rows)
    assert "| `-w, --workers N\\|auto` | `1` | " in table
    assert "| `--[no-]access-log` | `on` | " in table
    for name in OPTIONS:
        assert name == "app" or key_name(name) in table


@pytest.mark.parametrize("width", [60, 80, 120])
def test_help(width: int) -> None:
    """The help names every option, fits the terminal's width, and never breaks a default."""
    text = render_help(width, "BEFORE", [Entry("--do", "Do it.")], "AFTER")
    assert text.startswith("BEFORE\n\nCommands:\n  --do ")
    assert text.endswith("\n\nAFTER")
    assert max(map(len, text.splitlines())) <= width
    assert "[default: 127.0.0.1:8000]" in text
    assert "[default: 75s]" in text
    assert "--certfile, --ssl-certfile FILE\n" in text
    for name in OPTIONS:
        assert name == "app" or key_name(name) in text


def test_sections_in_order() -> None:
    """Sections come in the order of the fields, from the application to the process."""
    text = render_help(80, "", [], "")
    titles = [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles[:3] == ["Commands", "Application", "Listening"]
    assert titles[-1] == "Process"
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"bind": ":80,unix:/run/a b.sock", "workers": "auto", "access_log": False},
        {"umask": "022", "keep_alive": "1.5s", "max_rss": "512M", "route_limit": "/a,/b*=2"},
        {"access_logformat": '%(h)s "\\"\t é', "app": "shop:app"},
    ],
)
def test_settings_round_trip(given: dict[str, Any], tmp_path: Path) -> None:
    """The output of --print-config is a file that --config reads as the same configuration."""
    config = Config(**given)
    text = render_settings(Settings(config, {}))
    (tmp_path / "aiowsgi.toml").write_text(text, encoding="utf-8")
    assert tomllib.loads(text)
    assert Sources({}, {}, str(tmp_path), "aiowsgi.toml").load().config == config


def test_settings_origins() -> None:
    """Each setting has its source as a comment; an option that is not set is a comment."""
    lines = render_settings(
        Settings(Config(threads=8, workers=None), {"threads": "--threads"})
    ).splitlines()
    assert "threads = 8  # --threads" in lines
    assert 'workers = "auto"  # default' in lines
    assert "# certfile is not set" in lines
    assert not any(line.startswith(("# host", "host")) for line in lines)
    assert flag_name("threads") == "--threads"
