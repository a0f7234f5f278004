"""The selection of the event loop."""

from __future__ import annotations

import asyncio
import sys

import pytest
import uvloop

from aiowsgi.exceptions import ConfigError
from aiowsgi.system.event_loop import loop_factory


@pytest.mark.parametrize(
    ("name", "factory"),
    [
        ("auto", uvloop.new_event_loop),
        ("uvloop", uvloop.new_event_loop),
        ("asyncio", asyncio.new_event_loop),
    ],
)
def test_installed(name: str, factory: object) -> None:
    """``auto`` selects uvloop if it is installed."""
    assert loop_factory(name) is factory


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uvloop, ``auto`` selects asyncio, and ``uvloop`` is an error."""
    monkeypatch.setitem(sys.modules, "uvloop", None)  # type: ignore[arg-type]
    assert loop_factory("auto") is asyncio.new_event_loop
    with pytest.raises(ConfigError, match="loop: uvloop is not installed"):
        loop_factory("uvloop")
