"""Servers for tests of applications."""

from __future__ import annotations

import threading
import urllib.request

import pytest
from support import Client, Gate

from aiowsgi import ConfigError, testing
from aiowsgi.exceptions import BindError


def hello(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]


def test_a_server_in_a_thread():
    """It has a URL that any client can ask, and is gone afterwards."""
    with testing.serve(hello) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        with urllib.request.urlopen(server.url) as response:
            assert response.read() == b"hello"
    with pytest.raises(ConnectionRefusedError):
        Client(server.port)
    assert not [t for t in threading.enumerate() if t.name.startswith("aiowsgi")]


def test_the_access_log_is_off_unless_asked_for(capfd):
    """Tests' output is theirs."""
    with testing.serve(hello) as server, urllib.request.urlopen(server.url):
        pass
    assert capfd.readouterr() == ("", "")
    with testing.serve(hello, access_log=True) as server, urllib.request.urlopen(server.url):
        pass
    assert '"GET / HTTP/1.1" 200' in capfd.readouterr().out


def test_options_are_those_of_the_configuration(tmp_path):
    """A wrong one is an error at once, and so is a port that is taken."""
    with testing.serve(hello, bind=(f"unix:{tmp_path}/socket",)) as server:
        assert server.port == 0
    with pytest.raises(ConfigError, match="no such option"), testing.serve(hello, nonsense=1):
        pass
    with (
        testing.serve(hello) as server,
        pytest.raises(BindError, match="in use"),
        testing.serve(hello, bind=(f"127.0.0.1:{server.port}",)),
    ):
        pass


def test_requests_in_progress_are_cut():
    """The end of the block does not wait for an application that hangs."""
    gate = Gate()
    with testing.serve(gate.before(hello)) as server:
        client = Client(server.port)
        client.get()
        gate.wait()
    with client, pytest.raises((EOFError, ConnectionResetError)):
        client.read_head()
    gate.open()


def test_an_exception_in_the_block_is_the_tests_own():
    """It is raised when the server has gone."""
    with pytest.raises(KeyError), testing.serve(hello):
        raise KeyError
