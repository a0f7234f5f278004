"""The programs of ``examples/``, started as their first lines say."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from signal import SIGINT, SIGTERM
from threading import Event

import pytest
import requests
from processes import running, serving
from support import PATIENCE

from aiowsgi.wsgi.importer import load_application

pytestmark = pytest.mark.slow("processes")

EXAMPLES = Path(__file__).parents[2] / "examples"


def get(url):
    """The answer to GET, without what the developer's environment says of proxies."""
    return requests.get(url, timeout=PATIENCE, proxies={"http": ""})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hello:app", "Hello, world!"),
        ("plain", "Plain WSGI on aiowsgi"),
        ("flask_app", "Flask on aiowsgi"),
        ("django_app", "Django on aiowsgi"),
        ("bottle_app", "Bottle on aiowsgi"),
        ("pyramid_app", "Pyramid on aiowsgi"),
    ],
)
def test_application(name, text):
    """An application answers when it is started from the command line, and stops when told to."""
    with serving("--app-dir", "examples", name) as (program, url):
        assert text in get(url).text
        assert program.stop() == 0


@pytest.mark.parametrize("arguments", [[], ["--blocking"]])
@pytest.mark.parametrize("signal", [SIGINT, SIGTERM])
def test_embed(arguments, signal):
    """A program serves in its own loop, or leaves that to aiowsgi, and ends properly."""
    command = [sys.executable, "examples/embed.py", "--bind", "127.0.0.1:0", *arguments]
    with running(*command) as program:
        url = program.expect(r"http://\S+")[0]
        assert get(url).text == "Hello from within!\n"
        assert program.stop(signal) == 0


def test_disconnected(serve, connect, monkeypatch, caplog):
    """The query is interrupted when its client goes, and the thread answers the next request."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    app = load_application("disconnected", factory=False, app_dir=str(EXAMPLES))
    module = sys.modules["disconnected"]
    begun, ended = Event(), Event()
    monkeypatch.setattr(module, "sqlite3", NoisySqlite(begun))

    def observed(environ, start_response):
        try:
            return app(environ, start_response)
        finally:
            ended.set()

    server = serve(observed, threads=1)
    client = connect(server)
    client.get()
    assert begun.wait(PATIENCE)
    client.close()
    assert ended.wait(PATIENCE)
    assert "The query was given up: interrupted." in caplog.text
    monkeypatch.setattr(module, "QUERY", "SELECT 42")
    assert get(server.url).text == "42\n"


class NoisySqlite:
    """The module sqlite3, with connections that tell when a query is being executed."""

    OperationalError = sqlite3.OperationalError
    ProgrammingError = sqlite3.ProgrammingError

    def __init__(self, begun):
        self.begun = begun

    def connect(self, *arguments):
        """A connection that sets the event once a thousand instructions have been executed."""
        database = sqlite3.connect(*arguments)
        database.set_progress_handler(self.begun.set, 1000)
        return database
