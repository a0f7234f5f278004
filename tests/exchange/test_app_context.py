"""What all exchanges share: the date, and the server's own answers."""

from __future__ import annotations

from aiowsgi.exceptions import RequestError
from aiowsgi.exchange import app_context as service_module
from aiowsgi.exchange.app_context import AppContext


def test_the_date_is_made_once_a_second(monkeypatch):
    """Contexts are shared until the clock shows another second; the drain shows at once."""
    now = 784111777.5
    monkeypatch.setattr(service_module, "time", lambda: now)
    service = AppContext(None, {}, server="me", send_date=True)
    asked = {"head_only": False, "http_11": True, "keep_alive": True}
    first = service.context(**asked)
    assert first.date == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert first.server == "me"
    assert first.keep_alive
    now += 0.4
    assert service.context(**asked) is first
    now += 0.2
    assert service.context(**asked).date == "Sun, 06 Nov 1994 08:49:38 GMT"
    service.draining = True
    assert not service.context(**asked).keep_alive


def test_the_date_can_be_left_out():
    """``--no-date-header``: nothing is sent."""
    service = AppContext(None, {}, server="", send_date=False)
    assert service.context(head_only=True, http_11=False, keep_alive=False).date == ""


def test_the_servers_own_answers_are_made_once_a_second(monkeypatch):
    """In an overload many are wanted; what tells them apart is kept apart."""
    now = 100.0
    monkeypatch.setattr(service_module, "time", lambda: now)
    service = AppContext(None, {}, server="", send_date=True)

    def answer(status=503, detail="busy", fields=(), **more):
        asked = {"head_only": False, "http_11": True, "keep_alive": True, **more}
        return service.answer(RequestError(status, detail), service.context(**asked), fields)

    first = answer()
    assert answer() is first
    retry = [("Retry-After", "1")]
    others = [answer(500), answer(detail="x"), answer(fields=retry), answer(keep_alive=False)]
    assert len({first.data, *(other.data for other in others)}) == 5
    now = 101.0
    assert answer().data != first.data
