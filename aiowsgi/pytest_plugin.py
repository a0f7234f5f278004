"""The pytest plugin: defines the fixture ``aiowsgi_server``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aiowsgi.testing import RunningServer


@pytest.fixture
def aiowsgi_server() -> Iterator[Callable[..., RunningServer]]:
    """Serve applications until the test ends: ``server = aiowsgi_server(app, **options)``.

    See ``aiowsgi.testing.serve``.
    """
    from aiowsgi.testing import serve  # not when pytest starts

    with ExitStack() as servers:
        yield lambda app, **options: servers.enter_context(serve(app, **options))
