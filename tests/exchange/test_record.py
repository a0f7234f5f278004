"""The facts about a request, apart from what writes them."""

from __future__ import annotations

import pytest

from aiowsgi.exchange.record import RequestRecord
from aiowsgi.http1.messages import Request


def a_record(target="/a"):
    """A record of a request that was queued at second 2."""
    request = Request("GET", target, "/a", "", "x", "HTTP/1.1", [], 0, True, False)
    return RequestRecord(request, ("192.0.2.1", 5), "id-1", 1.0, 2.0)


def test_a_record_describes_its_request():
    """Whatever the client put into the target, the description is printable ASCII."""
    assert a_record("/a\x1b[2J\xe9").describe() == "GET /a?[2J? HTTP/1.1"
    assert "not read" in RequestRecord(None, ("", 0), "id-1", 1.0, 0.0).describe()


@pytest.mark.parametrize("fact", ["finished_at", "client_left", "overruled"])
def test_a_response_is_awaited_until_it_is_complete_or_cannot_be_sent(fact):
    """The end of the response, the loss of the connection and another answer end the wait."""
    record = a_record()
    record.started_at = 3.0
    assert record.awaited
    setattr(record, fact, 4.0)
    assert not record.awaited


def test_an_answer_of_the_event_loop_has_a_record_of_its_own():
    """It has the facts of the request so far; the thread's record is not changed."""
    record = a_record()
    record.started_at, record.waited_before = 3.0, 0.5
    answer = record.refused(504, 42)
    assert (answer.request, answer.client, answer.request_id) == (
        record.request,
        ("192.0.2.1", 5),
        "id-1",
    )
    assert (answer.received_at, answer.queued_at, answer.started_at) == (1.0, 2.0, 3.0)
    assert (answer.waited_before, answer.status, answer.response_bytes) == (0.5, 504, 42)
    assert answer.ended
    assert answer.finished_at > 3.0
    assert (record.status, record.finished_at, record.ended) == (0, 0.0, False)


def test_phases_that_a_refused_request_has_not_reached_took_no_time():
    """So that nobody who reads the record has to know how far the request came."""
    answer = RequestRecord(None, ("", 0), "id-1", 1.0, 0.0).refused(408, 0)
    assert answer.received_at == 1.0 < answer.queued_at
    assert answer.queued_at == answer.started_at == answer.finished_at
