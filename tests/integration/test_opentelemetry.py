"""The example with OpenTelemetry, started as its first line says."""

from __future__ import annotations

import json

import pytest
import requests
from processes import serving
from support import PATIENCE

pytestmark = pytest.mark.slow("processes")

pytest.importorskip("opentelemetry.instrumentation.wsgi")

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def test_a_request_continues_the_trace_of_its_client():
    """Its span has the client's as its parent, and the identifier that the response shows."""
    options = ("--request-id-header", "--no-access-log", "--app-dir", "examples")
    with serving(*options, "opentelemetry_app") as (program, url):
        answer = requests.get(
            f"{url}/cart",
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
            timeout=PATIENCE,
            proxies={"http": ""},
        )
        assert answer.text == "Traced on aiowsgi.\n"
        query, request = read_span(program), read_span(program)
        assert program.stop() == 0
    assert request["kind"] == "SpanKind.SERVER"
    assert request["context"]["trace_id"] == query["context"]["trace_id"] == f"0x{TRACE}"
    assert request["parent_id"] == f"0x{PARENT}"
    assert query["parent_id"] == request["context"]["span_id"]
    assert request["attributes"]["aiowsgi.request_id"] == answer.headers["X-Request-Id"]
    assert request["resource"]["attributes"]["service.name"] == "shop"


def read_span(program):
    """The next span that the program prints."""
    program.expect(r"^\{$")
    start = len(program.lines)
    program.expect(r"^\}$")
    return json.loads("{" + "".join(program.lines[start:]))
