"""Run programs, wait for lines of their output, and stop them."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from support import PATIENCE

ROOT = Path(__file__).parent.parent
LISTENING = r"listening on (\S+)"


class Program:
    """A running program and the lines that it has written."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._unread = b""
        self.lines: list[str] = []

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches ``pattern``; fail if none comes in time."""
        deadline = monotonic() + PATIENCE
        while (line := self._line(deadline)) is not None:
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        said = "\n".join(self.lines)
        raise AssertionError(f"no line matches {pattern!r}; the program wrote:\n{said}")

    def _line(self, deadline: float) -> str | None:
        assert self.process.stdout is not None
        while b"\n" not in self._unread:
            ready, _, _ = select.select(
                [self.process.stdout], [], [], max(0, deadline - monotonic())
            )
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def running(*command: str, **variables: str) -> Iterator[Program]:
    """Run ``command`` in the project's folder, and kill it at the end of the block.

    ``variables`` are added to the environment.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | {"PYTHONUNBUFFERED": "1"} | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        try:
            yield Program(process)
        finally:
            process.kill()


_FOREIGN = {"PORT", "WEB_CONCURRENCY", "SCRIPT_NAME", "FORWARDED_ALLOW_IPS"}
"""Variables of a developer's shell that would configure the server."""


@contextmanager
def serving(*arguments: str, **variables: str) -> Iterator[tuple[Program, str]]:
    """Run ``python -m aiowsgi`` on a free port; the block gets the program and its URL."""
    command = (sys.executable, "-m", "aiowsgi", "--bind", "127.0.0.1:0", *arguments)
    with running(*command, **variables) as program:
        yield program, program.expect(LISTENING)[1]
