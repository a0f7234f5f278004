"""The scenarios of trouble: their clients, their application, and how their outcome is shown."""

from __future__ import annotations

import socket

import pytest
from support import PATIENCE, Client, eventually

from aiowsgi import testing
from bench import slow_clients, trouble
from bench.scenarios import Outcome, _recovers
from bench.slow_clients import BODIES, HEADERS, SlowClients, reading
from bench.trouble import _row
from bench.trouble_app import BIG, BLOCK, app


@pytest.fixture
def port():
    """The port of a server of the scenarios' application."""
    with testing.serve(app) as server:
        yield server.port


@pytest.mark.slow("soak")
def test_slow_clients_send_and_read_a_byte_at_a_time(port, monkeypatch) -> None:
    """They stay connected while others are served; a closed connection is no longer counted."""
    monkeypatch.setattr(slow_clients, "STEP_SECONDS", 0.001)
    beginnings = [HEADERS, BODIES, reading("/list"), reading("/generator"), b"nonsense\r\n\r\n"]
    with SlowClients(port, 10, beginnings) as crowd:
        eventually(lambda: crowd.held == 8)
        with Client(port) as client:
            client.get()
            assert client.read_response()[2] == b"Hello, world!"
    assert crowd.held == 8


def test_no_slow_clients_without_a_server() -> None:
    """No connection is counted, and no exception is raised."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with SlowClients(closed.getsockname()[1], 3, [HEADERS]) as crowd:
            assert crowd.held == 0


def test_it_is_seen_whether_a_server_serves(port) -> None:
    """A server has recovered if it answers; one that does not listen has not."""
    assert _recovers(port, PATIENCE)
    assert not _recovers(1, 0.01)


@pytest.mark.parametrize("path", ["/list", "/generator", "/file"])
def test_the_big_responses_are_of_one_size(port, path) -> None:
    """Nearly: one of them comes in blocks."""
    with Client(port) as client:
        client.get(path)
        body = client.read_response()[2]
    assert len(BIG) - len(BLOCK) < len(body) <= len(BIG)


def test_a_row_of_the_table() -> None:
    """What was not measured is left out."""
    assert _row(Outcome(note="ended")) == ["0", "", "", "", "no", "ended"]
    row = _row(Outcome(1234.5, 0.9, 0.0123, 3.21, recovered=True))
    assert row == ["1,234", "0.90", "12.3", "3.2", "yes", ""]


def test_what_aiowsgi_is_given_against_each_trouble() -> None:
    """Options that there are, for scenarios that there are."""
    assert set(trouble._OPTIONS) <= set(trouble.SCENARIOS)
    for scenario in trouble.SCENARIOS:
        ours, *peers = trouble._servers(scenario)
        command = ours.arguments(trouble.APP, 80, 4)
        assert command[-len(trouble._OPTIONS.get(scenario, [])) :] or not peers
        assert bool(peers) is (scenario != "refuse")
