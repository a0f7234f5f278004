"""Bottle's ``run()``."""

from __future__ import annotations

import sys
import textwrap

import bottle
import pytest
import requests
from processes import running
from support import PATIENCE

from aiowsgi.config.options import Config
from aiowsgi.frameworks import bottle as adapter


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"port": 1}, {"host": "127.0.0.1", "port": 1}),
        ({"bind": "unix:s", "threads": 2}, {"bind": "unix:s", "threads": 2}),
        ({"port": 1, "quiet": True}, {"host": "127.0.0.1", "port": 1, "access_log": False}),
    ],
)
def test_options(monkeypatch, options, expected):
    """Host and port are Bottle's, the others are options of the server."""
    calls = []
    monkeypatch.setattr(adapter, "serve", lambda app, **given: calls.append((app, given)))
    app = bottle.Bottle()
    quiet = {"quiet": True, **options}
    bottle.run(app, server="aiowsgi.frameworks.bottle:AiowsgiServer", **quiet)
    ((served, given),) = calls
    assert served is app
    assert Config(**given) == Config(**{**expected, "access_log": False})


@pytest.mark.slow("processes")
def test_program(tmp_path):
    """A program that calls ``bottle.run`` serves, and stops when it is told to."""
    program = """
        import bottle
        @bottle.get("/")
        def index():
            return "Bottle by run()"
        bottle.run(server="aiowsgi.frameworks.bottle:AiowsgiServer", port=0)
    """
    with running(sys.executable, "-c", textwrap.dedent(program)) as process:
        url = process.expect(r"on (http://\S+:[1-9]\d*)")[1]
        answer = requests.get(url, timeout=PATIENCE, proxies={"http": ""})
        assert answer.text == "Bottle by run()"
        assert process.stop() == 0
