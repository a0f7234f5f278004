"""Fixtures that serve applications, and two checks that hold for every test.

A test must not leave an error in asyncio's log. A test that starts a process must be marked slow::

    @pytest.mark.slow("processes")       # or, for a whole module, pytestmark = ...

so that ``pytest -m "not slow"`` stays under a minute. The mark says what the test needs: see
`SLOW_NEEDS`.
"""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from functools import partial

import pytest
from support import LOOPS, PARSERS, Client

SLOW_NEEDS = {
    "processes": "starts processes: Python, aiowsgi or a small program",
    "chromium": "drives a browser",
    "nginx": "runs behind nginx",
    "haproxy": "runs behind HAProxy",
    "wrk": "sends load with wrk, ab or httperf",
    "soak": "works for more than a second, by its nature",
}
"""What a test marked slow needs, and what that means."""

STARTS_A_PROCESS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
"""Audit events (PEP 578) that a new process raises."""

_fast_tests: list[str] = []
"""The running test, if it is not marked slow."""


def pytest_configure():
    """Watch for processes."""
    sys.addaudithook(_refuse_process)


def _refuse_process(event, args):
    if event in STARTS_A_PROCESS and _fast_tests:
        pytest.fail(f'{_fast_tests[0]} starts a process; mark it @pytest.mark.slow("processes")')


def pytest_itemcollected(item):
    """Refuse a slow mark without a need, or with one that is not in the table."""
    for mark in item.iter_markers("slow"):
        if not mark.args or not SLOW_NEEDS.keys() >= {*mark.args}:
            raise pytest.UsageError(f"{item.nodeid}: slow() takes {', '.join(SLOW_NEEDS)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Note whether the test may start processes."""
    if item.get_closest_marker("slow") is None:
        _fast_tests.append(item.nodeid)
    try:
        return (yield)
    finally:
        _fast_tests.clear()


@pytest.fixture(params=LOOPS)
def loop_name(request, monkeypatch):
    """Name of each event loop in turn; asyncio's own runs in debug mode."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1" if request.param == "asyncio" else "")
    return request.param


@pytest.fixture(params=PARSERS)
def parser_name(request):
    """Name of each parser in turn."""
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
    """As ``serve``, on each loop with one parser."""
    return partial(serve_on, loop_name, "auto")


@pytest.fixture
def serve_once(serve_on):
    """As ``serve``, on one loop with one parser."""
    return partial(serve_on, "auto", "auto")


@pytest.fixture
def connect():
    """Open raw connections to a server: ``client = connect(server)``. They close with the test."""
    with ExitStack() as clients:
        yield lambda server, **options: clients.enter_context(Client(server.port, **options))


@pytest.fixture
def make_connection():
    """Make connections on fake transports: ``make_connection(app, **transport)``."""
    from conversing import connections

    with connections() as make:
        yield make


@pytest.fixture(autouse=True)
def no_error_in_the_asyncio_log(caplog):
    """Fail a test if asyncio logged an error, such as an exception in a callback."""
    yield
    for when in ("setup", "call", "teardown"):
        for record in caplog.get_records(when):
            if record.name == "asyncio" and record.levelno >= logging.ERROR:
                pytest.fail(f"asyncio logged: {record.getMessage()}")
