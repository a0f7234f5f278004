"""How the threads of a process share the interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_apps import ask, single_process, workers, write_app

from aiowsgi.system.interpreter import LONGEST, set_switch_interval
from aiowsgi.testing import serve

TELLS_INTERVAL = """
import sys

def app(environ, start_response):
    out = b"%.6f" % sys.getswitchinterval()
    start_response("200 OK", [("Content-Length", str(len(out)))])
    return [out]
"""


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """This process has the interval that it had, whatever a test sets."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(
    ("asked", "interval"), [(0.0, 0.005), (0.0002, 0.0002), (LONGEST, LONGEST), (1e9, LONGEST)]
)
def test_set(asked: float, interval: float) -> None:
    """0 leaves the interval as it is; a longer one than `LONGEST` is cut to that."""
    sys.setswitchinterval(0.005)
    set_switch_interval(asked)
    assert sys.getswitchinterval() == pytest.approx(interval)


@pytest.mark.slow("processes")
@pytest.mark.parametrize(
    ("arguments", "interval"),
    [
        ((), "0.000200"),
        (("--switch-interval", "1ms"), "0.001000"),
        (("--switch-interval=0",), "0.005000"),
    ],
)
def test_a_worker(tmp_path: Path, arguments: tuple[str, ...], interval: str) -> None:
    """A worker process sets what the option says, by default 0.2 ms."""
    write_app(tmp_path, TELLS_INTERVAL)
    with workers(tmp_path, *arguments) as (_, address):
        assert ask(address) == (200, interval)


@pytest.mark.slow("processes")
def test_serving_an_object(tmp_path: Path) -> None:
    """So does a program that calls ``aiowsgi.serve``, whose process is the server's."""
    with single_process(tmp_path, TELLS_INTERVAL, switch_interval=0.001) as (_, address):
        assert ask(address) == (200, "0.001000")


def test_embedded() -> None:
    """A server inside another program leaves that program's interval alone."""
    before = sys.getswitchinterval()
    with serve(lambda environ, start_response: [], switch_interval=0.001):
        assert sys.getswitchinterval() == before
