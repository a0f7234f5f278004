"""The handlers of the admin endpoint, except for health, by path.

==================  ==============================================================================
``/``               the live view, a page
``/events``         what the page shows: a status each second, as server-sent events
``/history.json``   what it plots: some values of each second of the last fifteen minutes
``/status.json``    the status, see ``status/aggregate.py``
``/metrics``        for Prometheus, see ``status/prometheus.py``
``/requests``       the requests in flight, the oldest first, as JSON
``/stacks``         the Python stacks of busy threads, equal ones once, as text; ``?all`` shows all
                    calls and not only those of the application's own code
``/stacks.json``    the stack of each busy thread
==================  ==============================================================================

The page is one file without a reference to anything outside. Its Content-Security-Policy names the
script and the style by their hashes, and allows requests only to where the page came from: what a
client has put into a path can be shown on it and cannot be run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from aiowsgi.admin.server import Answer, Feed
from aiowsgi.admin.tables import stack_lines
from aiowsgi.status.aggregate import Detail
from aiowsgi.status.prometheus import OPENMETRICS, TEXT, exposition

if TYPE_CHECKING:
    from aiowsgi.admin.history import StatusHistory, StatusSource
    from aiowsgi.admin.server import Handler
    from aiowsgi.http1.messages import Request
    from aiowsgi.status.metrics import Tree

__all__ = ["page", "pages"]

JSON: Final = "application/json"


def pages(source: StatusSource, history: StatusHistory) -> dict[str, Handler]:
    """The handlers of the table above."""
    return {
        "/": lambda _: page("live.html"),
        "/events": lambda _: Feed(_events(history)),
        "/history.json": lambda _: _json(history.points()),
        "/status.json": _from(source, lambda tree, _: _json(tree)),
        "/metrics": _from(source, _metrics),
        "/requests": _from(source, lambda tree, _: _json(tree["requests"])),
        "/stacks": _from(source, _stacks, Detail.STACKS),
        "/stacks.json": _from(source, lambda tree, _: _json(tree["stacks"]), Detail.STACKS),
    }


def _from(
    source: StatusSource,
    make: Callable[[Tree, Request], Answer],
    detail: Detail = Detail.FIGURES,
) -> Callable[[Request], Coroutine[Any, Any, Answer]]:
    """A handler whose answer is made of the present status."""

    async def handler(request: Request) -> Answer:
        return make(await source(detail), request)

    return handler


def _json(value: object) -> Answer:
    return Answer(json.dumps(value), content_type=JSON)


def _metrics(tree: Tree, request: Request) -> Answer:
    accepted = b",".join(value for name, value in request.fields if name.lower() == b"accept")
    openmetrics = b"application/openmetrics-text" in accepted
    text = exposition(tree, openmetrics=openmetrics)
    return Answer(text, content_type=OPENMETRICS if openmetrics else TEXT)


def _stacks(tree: Tree, request: Request) -> Answer:
    lines = stack_lines(tree["stacks"], whole=request.query == "all")
    return Answer("\n".join(lines) + "\n")


async def _events(history: StatusHistory) -> AsyncGenerator[str, None]:
    """The last sample and each one after it."""
    tree = await history.latest()
    while True:
        # JSON as it is written here contains no line end, which would end the field.
        yield f"data: {json.dumps(tree)}\n\n"
        tree = await history.next()


# Pages


@cache
def page(name: str, status: str = "200 OK") -> Answer:
    """A page of the folder ``html``."""
    text = files("aiowsgi.admin").joinpath("html", name).read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src {_hashes('script', text)};"
        f" style-src {_hashes('style', text)}; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    fields = (
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    )
    return Answer(text, status, "text/html; charset=utf-8", fields)


def _hashes(element: str, text: str) -> str:
    """The policy's sources that allow the inline elements of that name (CSP 3, 2.3.1)."""
    bodies = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    digests = (hashlib.sha256(body.encode()).digest() for body in bodies)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
