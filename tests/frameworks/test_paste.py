"""Paste Deploy's INI files: the entry points, options, and ``pserve``."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

import pytest
import requests
from processes import ROOT, running
from support import PATIENCE

from aiowsgi.config.options import Config
from aiowsgi.frameworks import paste

ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
GLOBAL = {"__file__": "/srv/site.ini", "here": "/srv"}


class Serve:
    """Stands in for the server; notes what it is to serve."""

    def __init__(self, status=0):
        self.status = status
        self.calls = []

    def __call__(self, app, config):
        self.calls.append((app, config))
        return self.status


@pytest.fixture
def serve(monkeypatch):
    """The calls of the server."""
    server = Serve()
    monkeypatch.setattr(paste, "serve", server)
    return server


@pytest.mark.parametrize("group", ["paste.server_runner", "paste.server_factory"])
def test_entry_points(group):
    """``use = egg:aiowsgi`` finds the functions of the group's name."""
    module, _, name = ENTRY_POINTS[group]["main"].partition(":")
    assert name == group.partition(".")[2]
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"bind": "127.0.0.1:6543", "threads": "8"}, {"bind": ("127.0.0.1:6543",), "threads": 8}),
        ({"keep-alive": "5s", "access_log": "off"}, {"keep_alive": 5, "access_log": False}),
        ({"host": "::1", "port": "6543"}, {"bind": ("[::1]:6543",)}),
        # What waitress has here, so that only the line "use" changes.
        ({"listen": "127.0.0.1:1 [::1]:1"}, {"bind": ("127.0.0.1:1", "[::1]:1")}),
        ({"channel_timeout": "9", "expose_tracebacks": "false", "ident": "x"}, {"keep_alive": 9}),
    ],
)
def test_options(serve, options, expected):
    """Options are ours by their names, or waitress's."""
    app = object()
    paste.server_runner(app, GLOBAL, **options)
    paste.server_factory(GLOBAL, **options)(app)
    assert serve.calls == [(app, Config(**expected))] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thread": "8"}, "aiowsgi: thread: no such option; did you mean threads?"),
        ({"threads": "many"}, "aiowsgi: threads: 'many' is not a whole number"),
        ({"url_scheme": "https"}, "aiowsgi: url_scheme: leave it out"),
        ({"workers": "4"}, "start: aiowsgi 'paste.deploy:loadapp(\"config:/srv/site.ini\")'"),
    ],
)
def test_mistakes(serve, options, message):
    """A wrong option ends the process with a sentence."""
    with pytest.raises(SystemExit) as caught:
        paste.server_runner(object(), GLOBAL, **options)
    assert message in str(caught.value.code)
    assert serve.calls == []


def test_status(serve):
    """What was cut is the exit status."""
    serve.status = 1
    with pytest.raises(SystemExit) as caught:
        paste.server_runner(object(), GLOBAL)
    assert caught.value.code == 1


SITE = """
[app:main]
use = call:{module}:main
[server:main]
use = egg:aiowsgi
bind = 127.0.0.1:0
"""
APPLICATION = """
from pyramid.config import Configurator
from pyramid.response import Response

def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.add_route("hello", "/")
        config.add_view(lambda request: Response("Pyramid by pserve"), route_name="hello")
    return config.make_wsgi_app()
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a Pyramid application, its INI file, and the distribution's entry points."""
    (tmp_path / "served_site.py").write_text(APPLICATION)
    (tmp_path / "site.ini").write_text(SITE.format(module="served_site"))
    metadata = tmp_path / "aiowsgi-9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: aiowsgi\nVersion: 9\n")
    groups = {group: points for group, points in ENTRY_POINTS.items() if "paste" in group}
    lines = [f"[{group}]\nmain = {points['main']}\n" for group, points in groups.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return tmp_path


PSERVE = "import sys; from pyramid.scripts.pserve import main; sys.exit(main())"


@pytest.mark.slow("processes")
@pytest.mark.parametrize(
    "command",
    [
        ["-c", PSERVE, "FOLDER/site.ini"],
        ["-m", "aiowsgi", 'paste.deploy:loadapp("config:FOLDER/site.ini")', "-b:0"],
    ],
    ids=["pserve", "aiowsgi"],
)
def test_pserve(site, command):
    """Pyramid's pserve starts the server, and the server loads the file by itself."""
    arguments = [word.replace("FOLDER", str(site)) for word in command]
    with running(sys.executable, *arguments, PYTHONPATH=f"{site}:{ROOT}") as program:
        url = program.expect(r"http://\S+")[0].replace("0.0.0.0", "127.0.0.1")
        answer = requests.get(url, timeout=PATIENCE, proxies={"http": ""})
        assert answer.text == "Pyramid by pserve"
        assert program.stop() == 0
