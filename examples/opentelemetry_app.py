"""Traces by OpenTelemetry: ``aiowsgi --app-dir examples opentelemetry_app``.

    pip install opentelemetry-sdk opentelemetry-instrumentation-wsgi

Each request becomes a span, which continues the trace of a client or proxy that sends
``traceparent``. The span carries the identifier under which the request stands in aiowsgi's logs
and in its live view, so that one leads to the other. Spans are printed here; in earnest, put an
OTLP exporter in the place of the console's.

The processor's thread is started when this module is imported, which each worker process does by
itself: nothing has to be done after a fork, since there is none.
"""

import os
import time

from opentelemetry import trace
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

provider = TracerProvider(
    resource=Resource.create({"service.name": "shop", "service.instance.id": str(os.getpid())})
)
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(), schedule_delay_millis=500))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop")


def shop(environ, start_response):
    """A page that takes a query to make, which is a span of its own."""
    with tracer.start_as_current_span("query") as span:
        span.set_attribute("db.system.name", "sqlite")
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Traced on aiowsgi.\n"]


def note_identifier(span, environ):
    """Called with the request's span, as it begins."""
    if span.is_recording():
        span.set_attribute("aiowsgi.request_id", environ["aiowsgi.request_id"])


application = OpenTelemetryMiddleware(shop, request_hook=note_identifier, tracer_provider=provider)
