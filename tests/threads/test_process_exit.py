"""How a process ends whose application has left threads or exit functions behind."""

from __future__ import annotations

import subprocess
import sys
from time import monotonic

import pytest
from processes import ROOT
from support import PATIENCE

pytestmark = pytest.mark.slow("processes")

SCRIPT = """
import atexit, logging, os, sys, threading, time
from math import inf
from aiowsgi.threads.process_exit import finish_threads

def forever():
    threading.Event().wait()

{application}
finish_threads({deadline}, 7)
print("finished")
sys.stdout.flush()
os._exit(7)
"""


def run(application: str, deadline: str = "time.monotonic() + 0.1") -> tuple[int, str, str]:
    """Exit status and output of a process with this application."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(application=application, deadline=deadline)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(
    "application",
    [
        "threading.Thread(target=forever, name='mail').start()",
        "atexit.register(forever)",
        "atexit.register(lambda: threading.Thread(target=forever).start() or forever())",
    ],
)
def test_a_deadline(application: str) -> None:
    """Whatever still runs at the deadline is cut, and the status stays as it was decided."""
    began = monotonic()
    status, out, _ = run(application)
    assert (status, out) == (7, "")
    assert monotonic() - began < PATIENCE


def test_names() -> None:
    """Threads that are waited for are named in the log."""
    _, _, log = run("threading.Thread(target=forever, name='mail').start()")
    assert "waiting for threads of the application: mail" in log


def test_in_time() -> None:
    """What ends in time has ended when it returns: threads first, then exit functions."""
    application = """
atexit.register(print, "at exit")
logged = threading.Event()
logging.lastResort.addFilter(lambda record: logged.set() or True)
threading.Thread(target=lambda: logged.wait() and print("a thread"), name="Thread-1").start()
threading.Thread(target=forever, daemon=True).start()
"""
    assert run(application, "inf") == (7, "a thread\nat exit\nfinished\n", LOG)
    assert run("", "inf") == (7, "finished\n", "")


LOG = "waiting for threads of the application: Thread-1\n"


def test_no_thread_left() -> None:
    """Without a thread to watch the time, nothing is waited for."""
    application = """
threading.Thread(target=forever).start()
def none_left(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = none_left
"""
    assert run(application) == (7, "finished\n", "")
