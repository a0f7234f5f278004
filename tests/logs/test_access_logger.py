"""From an exchange to the access log: what is said, and from where."""

from __future__ import annotations

import pytest

from aiowsgi.exchange import record as record_module
from aiowsgi.exchange.app_context import AppContext
from aiowsgi.exchange.record import RequestRecord
from aiowsgi.http1.messages import Request
from aiowsgi.logs import access_format as report_module
from aiowsgi.logs.access_logger import AccessLogger, observe

REQUEST = Request("GET", "/a?b", "/a", "b", "x", "HTTP/1.1", [], 0, True, False)


def a_record(client=("192.0.2.1", 1234)):
    """The record of a request whose times are known."""
    record = RequestRecord(REQUEST, client, "id", 10.0, 10.5)
    record.started_at, record.finished_at = 11.0, 13.0
    record.status, record.response_bytes = 200, 5
    return record


class FakeResponse:
    """What was sent."""

    fields = (("X-A", "b"),)


@pytest.fixture
def lines(monkeypatch):
    """Reports in a format; gives the report and its lines."""
    monkeypatch.setattr(report_module, "monotonic", lambda: 14.0)
    monkeypatch.setattr(report_module, "time", lambda: 784111777.0)

    def make(format_):
        written = []
        return AccessLogger(format_, written.append, pid=7), written

    return make


def test_a_finished_exchange_is_one_line(lines):
    """Who, what, how much, and how long each part took."""
    report, written = lines(
        "%(h)s %(client_port)s %(r)s %(s)s %(B)s %(duration_ms)s %(queue_ms)s %(read_ms)s"
        " %(app_ms)s %(write_ms)s %({x-a}o)s %({HTTP_X}e)s"
    )
    report.finished(a_record(), FakeResponse(), {"HTTP_X": "y"})
    assert written == [
        "192.0.2.1 1234 GET /a?b HTTP/1.1 200 5 3000.000 500.000 500.000 3000.000 1000.000 b y"
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"REMOTE_ADDR": None, "REMOTE_PORT": "x", "HTTP_REFERER": 5, "HTTP_USER_AGENT": b"\xff"},
        {"HTTP_REFERER": object(), "HTTP_AUTHORIZATION": ["Basic"], "HTTP_USER_AGENT": "€\n"},
    ],
)
@pytest.mark.parametrize("format_", ["timed", "combined", "common", "json"])
def test_an_environ_that_the_application_has_spoilt_costs_no_line(lines, environ, format_):
    """The address is the connection's; what is no text is shown as best can be."""
    report, written = lines(format_)
    report.finished(a_record(), FakeResponse(), environ)
    (line,) = written
    assert "192.0.2.1" in line
    assert line.isprintable()


def test_a_unix_socket_has_no_port(lines):
    """Nor an address."""
    report, written = lines("%(h)s %(client_port)s")
    report.finished(a_record(("", 0)), FakeResponse(), {})
    assert written[0].split()[0] == "-"


@pytest.mark.parametrize(("request_", "said"), [(None, "-"), (REQUEST, "/a?b")])
@pytest.mark.parametrize(
    ("queued_at", "started_at", "times"),
    [
        (0.0, 0.0, "4000.000 4000.000 0.000 0.000"),
        (11.0, 0.0, "4000.000 1000.000 3000.000 0.000"),
        (11.0, 13.0, "4000.000 1000.000 2000.000 1000.000"),
    ],
)
def test_a_refusal_is_one_line(lines, monkeypatch, request_, said, queued_at, started_at, times):
    """Whether its head was read, it was queued, and a thread had taken it, or not."""
    report, written = lines(
        "%(h)s %(target)s %(s)s %(B)s %(request_id)s"
        " %(duration_ms)s %(read_ms)s %(queue_ms)s %(app_ms)s"
    )
    record = RequestRecord(request_, ("192.0.2.1", 1), "id", 10.0, queued_at)
    record.started_at = started_at
    monkeypatch.setattr(record_module, "monotonic", lambda: 14.0)
    report.refused(record.refused(400, 7))
    assert written == [f"192.0.2.1 {said} 400 7 id {times}"]


class Observer:
    """Notes what it hears."""

    def __init__(self):
        self.heard = []

    def finished(self, *what):
        """An exchange is over."""
        self.heard.append(("finished", *what))

    def refused(self, *what):
        """The server answered by itself."""
        self.heard.append(("refused", *what))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_all_observers_hear_of_all(number):
    """None costs nothing, one is called itself, two are called in their order."""
    service = AppContext(None, {}, server="", send_date=False)
    observers = [Observer() for _ in range(number)]
    observe(service, observers)
    if not number:
        assert service.finished is service.refused is None
        return
    service.finished(1, 2, 3)
    service.refused(4)
    for observer in observers:
        assert observer.heard == [("finished", 1, 2, 3), ("refused", 4)]
