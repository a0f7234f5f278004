"""The pytest plugin: defines the fixtures ``aiowsgi_server`` and ``aiowsgi_live``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from aiowsgi.testing import RunningServer


@pytest.fixture
def aiowsgi_server() -> Iterator[Callable[..., RunningServer]]:
    """Serve applications until the test ends: ``server = aiowsgi_server(app, **options)``.

    See ``aiowsgi.testing.serve``.
    """
    from aiowsgi.testing import serve  # not when pytest starts

    with ExitStack() as servers:
        yield lambda app, **options: servers.enter_context(serve(app, **options))


@pytest.fixture(scope="session")
def aiowsgi_live() -> Iterator[Callable[..., RunningServer]]:
    """Serve applications until the session ends: ``server = aiowsgi_live(app, **options)``.

    For tests with a browser, which share one server. The same application with the same options is
    served once. See ``aiowsgi.testing.serve``; an access log is not written unless it is asked for.
    """
    from aiowsgi.testing import serve  # not when pytest starts

    running: list[tuple[object, dict[str, object], RunningServer]] = []
    with ExitStack() as servers:

        def live(app: WSGIApplication, **options: object) -> RunningServer:
            for served, with_options, server in running:
                if served is app and with_options == options:
                    return server
            server = servers.enter_context(serve(app, **options))
            running.append((app, options, server))
            return server

        yield live
