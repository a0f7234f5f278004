"""Why requests are refused, in the log: what is said, and how often."""

from __future__ import annotations

import logging

import pytest
from conversing import POST, hello
from fake_kernel import FakeLoop
from support import eventually

from aiowsgi.connection import refusal_log
from aiowsgi.connection.refusal_log import LONGEST, RefusalLog
from aiowsgi.exceptions import RequestError
from aiowsgi.exchange.record import RequestRecord
from aiowsgi.http1.messages import partial_request


@pytest.mark.parametrize(
    ("sent", "line", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1", "400, The Host field is missing."),
        (b"\x16\x03\x01", "???  ", r"does not start with a method. [\x16]"),
        (b"GET /a HTTP/3.0\r\n", "GET /a HTTP/3.0", "505, The HTTP version"),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nb ad: 1\r\n", "GET /a HTTP/1.1", "malformed. [b ad: 1]"),
        (
            b"GET /" + b"x" * 9000,
            "GET /xxxx",
            "414, The request line is too long. [--limit-request-line]",
        ),
        (POST + b"Content-Length: 2g\r\n\r\n", "POST / HTTP/1.1", "decimal number. [2g]"),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", "POST / HTTP/1.1", "chunked. [gzip]"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", "POST / HTTP/1.1", "malformed. [x]"),
    ],
)
def test_a_refusal_is_logged_with_its_cause(serve, connect, caplog, tmp_path, sent, line, reason):
    """The client, the request line as far as it was read, and what was wrong; in both logs."""
    caplog.set_level(logging.INFO, "aiowsgi.server")
    access = tmp_path / "access.log"
    server = serve(
        hello, access_log=True, access_logfile=str(access), access_logformat="%(r)s|%(s)s"
    )
    client = connect(server)
    client.send(sent)
    status = client.read_response()[0]
    host, port = client.socket.getsockname()
    eventually(lambda: "refused" in caplog.text)
    assert f'refused "{line}' in caplog.text
    assert f'" of {host}:{port}: {status}, ' in caplog.text
    assert reason in caplog.text
    eventually(lambda: access.read_text().endswith(f"|{status}\n"))
    first_word = line.split()[0].replace("???", r"\x16\x03\x01")
    assert access.read_text().startswith(first_word)


def test_a_client_that_sent_nothing_readable_in_time(serve_once, connect, caplog):
    """408 shows what there was of the request line."""
    caplog.set_level(logging.INFO, "aiowsgi.server")
    client = connect(serve_once(hello, header_timeout=0.1))
    client.send(b"GET /half")
    assert client.read_response()[0] == 408
    eventually(lambda: "The header section took too long." in caplog.text)
    assert 'refused "GET /half ' in caplog.text


class Log:
    """A log of refusals whose clock a test sets."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self.timers = []
        monkeypatch.setattr(refusal_log, "monotonic", lambda: self.now)
        loop = FakeLoop(at_once=False)
        loop.call_later = lambda delay, callback: self.timers.append((delay, callback))
        self.log = RefusalLog(loop)

    def add(self, line=b"GET / HTTP/1.1", at_fault=b""):
        record = RequestRecord(partial_request(line), ("", 0), "id", 0.0, 0.0)
        self.log.add(record, RequestError(400, "Wrong.", at_fault))


def test_one_line_a_second_and_the_number_of_the_others(monkeypatch, caplog):
    """A flood does not fill the log, and nothing goes unmentioned."""
    caplog.set_level(logging.INFO, "aiowsgi.server")
    log = Log(monkeypatch)
    for _ in range(5):
        log.add()
        log.now += 0.1
    assert [record.message for record in caplog.records] == [
        'refused "GET / HTTP/1.1" of a unix socket: 400, Wrong.'
    ]
    ((delay, callback),) = log.timers
    assert delay == pytest.approx(0.9)
    callback()
    assert caplog.records[-1].message == "refused 4 more requests within a second"
    log.now += 1
    log.add()
    assert len(caplog.records) == 3


def test_nothing_of_a_client_breaks_a_line_or_makes_it_long(monkeypatch, caplog):
    """Control characters are escaped, and what is long is cut."""
    caplog.set_level(logging.INFO, "aiowsgi.server")
    log = Log(monkeypatch)
    log.add(b"GET /\x1b" + b"x" * 5000, b"a\nb\xff" + b"y" * 5000)
    message = caplog.records[0].message
    assert message.isascii()
    assert message.isprintable()
    assert r"[a\nb\xffy" in message
    assert len(message) < 3 * LONGEST


def test_below_the_level_nothing_is_counted(monkeypatch, caplog):
    """No timer is set for what will not be logged."""
    caplog.set_level(logging.WARNING, "aiowsgi.server")
    log = Log(monkeypatch)
    log.add()
    log.add()
    assert not caplog.records
    assert not log.timers
