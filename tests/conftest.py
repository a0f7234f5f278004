"""Fixtures: a server for every event loop and every parser, and a check that nothing is amiss."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import pytest
from support import LOOPS, PARSERS, Client

from aiowsgi import testing


@pytest.fixture(params=LOOPS)
def loop_name(request, monkeypatch):
    """Each event loop in turn; asyncio's own in debug mode."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1" if request.param == "asyncio" else "")
    return request.param


@pytest.fixture(params=PARSERS)
def parser_name(request):
    """Each parser in turn."""
    return request.param


@pytest.fixture
def serve(loop_name, parser_name):
    """Serve applications until the test ends: ``server = serve(app, **options)``."""
    with ExitStack() as servers:

        def start(app, **options):
            options = {"loop": loop_name, "http": parser_name, **options}
            return servers.enter_context(testing.serve(app, **options))

        yield start


@pytest.fixture
def connect():
    """Open raw connections to a server, closed when the test ends."""
    with ExitStack() as clients:
        yield lambda server, **options: clients.enter_context(Client(server.port, **options))


@pytest.fixture(autouse=True)
def nothing_reaches_the_loops_handler(caplog):
    """No test may leave an error in asyncio's log: an exception that nobody handled."""
    yield
    for when in ("setup", "call", "teardown"):
        for record in caplog.get_records(when):
            if record.name == "asyncio" and record.levelno >= logging.ERROR:
                pytest.fail(f"asyncio logged: {record.getMessage()}")
