"""Runs one server: pinned to its cores, ready when it answers, stopped by a terminate signal.

The harness ends only what it started: each server leads a session of its own, so that its worker
processes can be ended with it if it does not stop by itself.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.servers import HOST
from bench.system import free_port, poll, running_on

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.servers import ServerSpec

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 20.0
"""A server that has not answered 200 by then has failed."""
STOP_SECONDS = 10.0
"""A server that has not ended by then after a terminate signal is killed."""
LAST_WORDS = 240
"""Characters of a failed server's output that are shown."""
REQUEST = b"GET / HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"


class ServerError(Exception):
    """A server did not start, or ended by itself; the message holds its last words."""


class RunningServer:
    """A server for the time of a ``with`` block, ready when the block begins.

    ``app`` is ``module:attribute``; ``cores`` is where it may run; ``python`` is its interpreter.
    Raises ServerError when it ends or stays silent before it has answered once.
    """

    def __init__(
        self,
        spec: ServerSpec,
        app: str,
        threads: int,
        cores: Iterable[int],
        python: str = sys.executable,
    ) -> None:
        self.spec = spec
        self.port = free_port()
        self.seconds_to_first_answer = 0.0
        self._command = [python, *spec.arguments(app, self.port, threads)]
        self._cores = frozenset(cores)
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> Self:
        self.process = self._spawn()
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """Root of the server's process tree."""
        return self.process.pid

    @property
    def url(self) -> str:
        """The URL of the application."""
        return f"http://{HOST}:{self.port}/"

    def _spawn(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
        with running_on(self._cores):
            self._started = time.monotonic()
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
                text=True,
            )

    def _wait_until_it_answers(self) -> None:
        for _ in poll(time.monotonic() + READY_SECONDS):
            if self.process.poll() is not None:
                raise ServerError(f"ended with status {self.process.returncode}: {self._words()}")
            if _answers(self.port):
                self.seconds_to_first_answer = time.monotonic() - self._started
                return
        raise ServerError(f"no answer within {READY_SECONDS:.0f} s: {self._words()}")

    def _words(self) -> str:
        self._output.seek(0)
        return " ".join(self._output.read()[-LAST_WORDS:].split())

    def _stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._output.close()


def _answers(port: int) -> bool:
    """Whether a request is answered with success."""
    try:
        with socket.create_connection((HOST, port), timeout=READY_SECONDS) as connection:
            connection.sendall(REQUEST)
            return re.match(rb"HTTP/1\.[01] 200", connection.recv(12)) is not None
    except OSError:
        return False
