"""What the admin endpoint shows beyond health, as handlers by path.

===================  =============================================================================
``/``                the live view, a page for people
``/events``          what the page is fed with: an overview a second, as server-sent events
``/status.json``     an overview, see ``status/aggregate.py``
``/metrics``         for Prometheus, see ``status/prometheus.py``
``/requests``        the requests in flight, the oldest first, JSON
``/stacks``          the Python stack of each busy thread, text; ``/stacks.json`` the same for
                     programs
===================  =============================================================================

Each is made of one overview, for which a `Look` is asked. Nobody is asked while nobody looks, and
all who watch the events share one overview a second, as those do who probe.

The page is one file without a link to anywhere else. Its Content-Security-Policy names the script
and the style by their hashes, and allows nothing but to fetch from where the page came from: what
a client has put into a path can be shown on it, and not run.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from aiowsgi.admin.server import Answer, Feed
from aiowsgi.status.aggregate import Detail
from aiowsgi.status.prometheus import OPENMETRICS, TEXT, exposition

if TYPE_CHECKING:
    from aiowsgi.admin.server import Handler
    from aiowsgi.http1.messages import Request
    from aiowsgi.status.metrics import Tree

__all__ = ["CachedStatus", "Look", "page", "pages"]

T = TypeVar("T")

PERIOD: Final = 1.0
"""Seconds between two overviews of the live view."""

JSON: Final = "application/json"


class Look(Protocol):
    """Where overviews come from."""

    async def __call__(self, interest: Detail = Detail.FIGURES) -> Tree:
        """An overview of now. Is back within a second or so, whatever a worker does."""


def pages(look: Look) -> dict[str, Handler]:
    """The handlers of the table above."""
    event = CachedStatus(partial(_event, look))
    return {
        "/": lambda _: page("live.html"),
        "/events": lambda _: Feed(_events(event)),
        "/status.json": _shown(look, lambda tree, _: _json(tree)),
        "/metrics": _shown(look, _metrics),
        "/requests": _shown(look, lambda tree, _: _json(tree["requests"])),
        "/stacks": _shown(look, lambda tree, _: _stacks(tree), Detail.STACKS),
        "/stacks.json": _shown(look, lambda tree, _: _json(tree["stacks"]), Detail.STACKS),
    }


def _shown(
    look: Look, show: Callable[[Tree, Request], Answer], interest: Detail = Detail.FIGURES
) -> Callable[[Request], Coroutine[Any, Any, Answer]]:
    async def handler(request: Request) -> Answer:
        return show(await look(interest), request)

    return handler


def _json(value: object) -> Answer:
    return Answer(json.dumps(value), content_type=JSON)


def _metrics(tree: Tree, request: Request) -> Answer:
    accepted = b",".join(value for name, value in request.fields if name.lower() == b"accept")
    openmetrics = b"application/openmetrics-text" in accepted
    text = exposition(tree, openmetrics=openmetrics)
    return Answer(text, content_type=OPENMETRICS if openmetrics else TEXT)


def _stacks(tree: Tree) -> Answer:
    blocks = [
        f"{stack['what']}\n{stack['thread']} of worker {stack['worker']},"
        f" {stack['age']:.3f} s, request {stack['request']}\n{stack['text']}"
        for stack in tree["stacks"]
    ]
    return Answer("\n".join(blocks) or "No thread is busy.\n")


class CachedStatus(Generic[T]):
    """What was made within the last `PERIOD / 2`, for all who ask meanwhile."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        # What was made last, or is being made, and when that began.
        self._made: asyncio.Task[T] | None = None
        self._begun = 0.0

    async def get(self) -> T:
        """Have it made, unless it is still fresh."""
        loop = asyncio.get_running_loop()
        if self._made is None or loop.time() - self._begun > PERIOD / 2:
            self._begun = loop.time()
            self._made = loop.create_task(self._make())
        # One who goes must not cancel what others wait for.
        return await asyncio.shield(self._made)


async def _event(look: Look) -> str:
    # JSON as it is written here holds no line end, which would end the field.
    return f"data: {json.dumps(await look())}\n\n"


async def _events(event: CachedStatus[str]) -> AsyncGenerator[str, None]:
    """Overviews by the second, until nobody listens."""
    while True:
        yield await event.get()
        await asyncio.sleep(PERIOD)


# Pages


@cache
def page(name: str, status: str = "200 OK") -> Answer:
    """A page of ours, of the folder ``pages``."""
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
    """The sources of a policy that allow the inline elements of that name (CSP 3, 2.3.1)."""
    bodies = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    digests = (hashlib.sha256(body.encode()).digest() for body in bodies)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
