"""Applications whose threads are greenlets, with stand-ins for the libraries."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from aiowsgi.exceptions import ApplicationLoadError
from aiowsgi.system.monkey_patching import refuse_monkey_patching


@pytest.mark.parametrize(
    ("module", "function", "part", "library"),
    [
        ("gevent.monkey", "is_module_patched", "threading", "gevent"),
        ("eventlet.patcher", "is_monkey_patched", "thread", "eventlet"),
    ],
)
def test_patched(
    monkeypatch: pytest.MonkeyPatch, module: str, function: str, part: str, library: str
) -> None:
    """A process whose threads are replaced is refused; one that only has the library is not."""
    patched: set[str] = {"socket"}
    fake = SimpleNamespace(**{function: patched.__contains__})
    monkeypatch.setitem(sys.modules, module, fake)  # type: ignore[arg-type]
    refuse_monkey_patching()
    patched.add(part)
    with pytest.raises(ApplicationLoadError, match=f"{library} has replaced Python's threads"):
        refuse_monkey_patching()


def test_not_patched() -> None:
    """Most processes have neither library."""
    refuse_monkey_patching()
