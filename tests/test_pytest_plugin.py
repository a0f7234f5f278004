"""The fixtures that come with the package, in a pytest of its own."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow("processes")

pytest_plugins = ["pytester"]

TESTS = """
import urllib.request

def hello(environ, start_response):
    start_response("200 OK", [])
    return [environ["SCRIPT_NAME"].encode()]

def test_one(aiowsgi_server):
    server = aiowsgi_server(hello)
    other = aiowsgi_server(hello, root_path="/prefix")
    assert server.port != other.port
    for running, expected in ((server, b""), (other, b"/prefix")):
        with urllib.request.urlopen(running.url) as response:
            assert response.read() == expected
    ports.append(server.port)

ports = []

def test_two(aiowsgi_server):
    import socket, pytest
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]))
"""


def test_the_fixture_serves_until_the_test_is_over(pytester):
    """Several applications at a time, with options; each is gone with its test."""
    pytester.makepyfile(TESTS)
    pytester.makeini(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope=function"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)


def test_the_plugin_costs_nothing_until_it_is_used(pytester):
    """pytest starts without importing the server."""
    pytester.makepyfile(
        "import sys\ndef test(): assert 'aiowsgi.server.server' not in sys.modules\n"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


LIVE = """
import urllib.request
import pytest

def hello(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

urls = []

@pytest.mark.parametrize("number", range(2))
def test_live(aiowsgi_live, number):
    server = aiowsgi_live(hello)
    with urllib.request.urlopen(server.url) as response:
        assert response.read() == b"hello"
    urls.append(server.url)
    assert aiowsgi_live(hello, root_path="/other").url != server.url

def test_one_server_for_the_session(aiowsgi_live):
    assert {aiowsgi_live(hello).url, *urls} == {urls[0]}
"""


def test_the_live_fixture_serves_until_the_session_is_over(pytester):
    """The same application with the same options is served once, by tests of all modules."""
    pytester.makepyfile(LIVE)
    pytester.makeini(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope=function"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3)
