"""What a person at a terminal is told."""

from __future__ import annotations

import pytest

from aiowsgi.config.options import Config
from aiowsgi.supervisor.start_line import start_line


@pytest.mark.parametrize(
    ("options", "workers", "end"),
    [
        (
            {"threads": 1, "http": "h11", "loop": "asyncio"},
            1,
            "1 worker x 1 thread, h11, asyncio; Ctrl-C stops",
        ),
        (
            {"threads": 8, "loop": "uvloop"},
            2,
            "2 workers x 8 threads, httptools, uvloop; Ctrl-C stops",
        ),
    ],
)
def test_line(options: dict[str, object], workers: int, end: str) -> None:
    """Version, workers and threads, parser, event loop, and how to stop it."""
    line = start_line(Config(**options), workers)
    assert line.startswith("aiowsgi ")
    assert line.endswith(end)
