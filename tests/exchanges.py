"""Exchanges as the event loop makes them, for tests of what becomes of them before they run."""

from __future__ import annotations

from support import FakeWriter, Signal

from aiowsgi.exchange.app_context import AppContext
from aiowsgi.exchange.exchange import Exchange
from aiowsgi.exchange.output import ResponseOutput
from aiowsgi.exchange.output_buffer import OutputLimits
from aiowsgi.http1.messages import Request
from aiowsgi.wsgi.environ import ConnectionInfo, EnvironBuilder


def an_exchange(path="/", client="192.0.2.1"):
    """An exchange whose output is assigned to it, and its output."""
    context = AppContext(None, {}, server="", send_date=False)
    environ = EnvironBuilder({}, ConnectionInfo(client, "4711", "localhost", "80", "http"))
    request = Request("GET", path, path, "", "x", "HTTP/1.1", [], 0, True, False)
    output = ResponseOutput(FakeWriter(), Signal(), OutputLimits())
    exchange = Exchange(context, output, environ, request, 0.0)
    output.assign(exchange)
    return exchange, output
