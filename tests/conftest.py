"""Fixtures: a server for every event loop and every parser, and a check that nothing is amiss."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial

import pytest
from support import LOOPS, PARSERS, Client


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
def serve_on():
    """Serve applications until the test ends: ``server = serve_on(loop, parser, app, **more)``."""
    from aiowsgi import testing

    with ExitStack() as servers:

        def start(loop, http, app, **options):
            return servers.enter_context(testing.serve(app, loop=loop, http=http, **options))

        yield start


@pytest.fixture
def serve(serve_on, loop_name, parser_name):
    """Serve applications on each loop with each parser: ``server = serve(app, **options)``."""
    return partial(serve_on, loop_name, parser_name)


@pytest.fixture
def serve_on_loops(serve_on, loop_name):
    """The same, where the parser does not matter."""
    return partial(serve_on, loop_name, "auto")


@pytest.fixture
def serve_once(serve_on):
    """The same, where neither matters."""
    return partial(serve_on, "auto", "auto")


@pytest.fixture
def connect():
    """Open raw connections to a server, closed when the test ends."""
    with ExitStack() as clients:
        yield lambda server, **options: clients.enter_context(Client(server.port, **options))


@pytest.fixture
def make_connection():
    """Make connections on fake transports: ``make_connection(app, **transport)``."""
    from conversing import connections

    with connections() as make:
        yield make


@pytest.fixture(autouse=True)
def nothing_reaches_the_loops_handler(caplog):
    """No test may leave an error in asyncio's log: an exception that nobody handled."""
    yield
    for when in ("setup", "call", "teardown"):
        for record in caplog.get_records(when):
            if record.name == "asyncio" and record.levelno >= logging.ERROR:
                pytest.fail(f"asyncio logged: {record.getMessage()}")
