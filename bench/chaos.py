"""Random signals at random moments: what is served, and what is left, in the end.

``python -m bench.chaos`` starts a server with one worker or three, and every other time with
``--preload``, again and again. Each round writes new versions of the application, some of which
fail to import, and sends signals at random moments of the start, of reloads and of the stop. Then
it checks that

* the code of the last HUP is served, or that the server has ended as it was asked to, with the
  status that is documented for that;
* no process is left, and no pid file;
* no more descriptors are open in the supervisor than before the signals.

A round that fails is printed with its seed: ``--seed N --rounds 1`` replays it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from bench.running import ROOT
from bench.servers import HOST
from bench.system import free_port

APP = """
import os, time
if {broken}: raise RuntimeError("broken on purpose")
time.sleep({seconds})
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "{length}")])
    return [b"{version}"]
"""

PATIENCE: float = 30.0
"""Seconds for what should happen within one."""

HARMLESS = ("USR1", "USR2", "TTIN", "TTOU", "HUP")
ENDS = {"TERM": {0}, "INT": {0}, "QUIT": {131}}
"""Signals that end the server, and the statuses that may follow."""


@dataclass
class Round:
    """One server's life."""

    seed: int
    workers: int
    directory: Path
    port: int = field(default_factory=free_port)
    version: str = ""
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.pid_file = self.directory / "pid"

    def write_app(self, *, broken: bool = False) -> None:
        """Write the next version, in one step."""
        self.version = f"v{len(self.sent)}-{self.seed}"
        seconds = self.random.choice((0, 0, 0.05, 0.2))
        new = self.directory / "new"
        text = {"broken": broken, "seconds": seconds, "length": len(self.version)}
        new.write_text(APP.format(version=self.version, **text))
        new.replace(self.directory / "chaos_app.py")

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The server; whatever is left of it is killed in the end."""
        options = ["--workers", str(self.workers), "--graceful-timeout", "5s", "--no-access-log"]
        options += ["--preload"] if self.seed % 4 >= 2 else []
        address = ["--bind", f"{HOST}:{self.port}", "--pid", str(self.pid_file)]
        place = ["--app-dir", str(self.directory)]
        command = [sys.executable, "-m", "aiowsgi", "chaos_app:app", *options, *address, *place]
        with (self.directory / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def send(self, process: subprocess.Popen[bytes], name: str) -> None:
        """Send a signal after a random pause, and note it."""
        time.sleep(self.random.choice((0, 0, 0.01, 0.1)) * self.random.random())
        self.sent.append(name)
        process.send_signal(signal.Signals[f"SIG{name}"])

    # The rules

    def play(self) -> str:
        """Run it; what is wrong, or nothing."""
        self.write_app()
        with self.running() as process:
            # Before its pid file is there, no other program knows of the server.
            if not until(self.pid_file.exists):
                return "did not start"
            for _ in range(self.random.randrange(6)):
                self.disturb(process)
            if self.random.random() < 0.3:
                return self.end(process)
            self.write_app()
            self.send(process, "HUP")
            if not until(self.serves_newest):
                return "does not serve the newest code"
            return self.count_descriptors(process) or self.end(process)

    def disturb(self, process: subprocess.Popen[bytes]) -> None:
        """Send some signal that must not end the server."""
        name = self.random.choice(HARMLESS)
        # While starting, broken code ends the server, as it should.
        if name == "HUP" and (self.directory / "log").read_bytes().count(b"listening on"):
            self.write_app(broken=self.random.random() < 0.3)
        self.send(process, name)

    def serves_newest(self) -> bool:
        """Whether each of some answers is that of the newest version."""
        return all(self.answer() == self.version for _ in range(self.workers * 2))

    def answer(self) -> str:
        """The body of one response; empty if there is none."""
        with suppress(OSError), urlopen(f"http://{HOST}:{self.port}/", timeout=5) as response:
            text: str = response.read().decode()
            return text
        return ""

    def count_descriptors(self, process: subprocess.Popen[bytes]) -> str:
        """Compare what is open with what was, through a few more signals."""
        own = Path(f"/proc/{process.pid}")
        children = own / "task" / own.name / "children"

        def count() -> int:
            # One for each worker, its channel.
            return len(list((own / "fd").iterdir())) - len(children.read_text().split())

        def settled() -> int:
            # A worker that has ended is a child for a moment longer than its channel is open.
            counts = []
            for _ in range(10):
                counts.append(count())
                time.sleep(0.02)
            return max(counts)

        before = settled()
        for name in ("TTIN", "USR1", "TTOU", "HUP"):
            self.send(process, name)
        # Old workers may have been counted that were just about to end.
        if not until(lambda: count() <= before):
            return f"{before} descriptors became {count()}"
        return ""

    def end(self, process: subprocess.Popen[bytes]) -> str:
        """Stop it, with more signals on the way; what is wrong, or nothing."""
        name = self.random.choice(list(ENDS))
        self.send(process, name)
        allowed = set(ENDS[name])
        for _ in range(self.random.randrange(4)):
            if process.poll() is None:
                self.send(process, self.random.choice((*HARMLESS, "TERM")))
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return f"did not end by {name}"
        if status not in allowed:
            return f"ended by {name} with status {status}"
        if self.pid_file.exists():
            return "left its pid file"
        # A process of the session that is left would be found by a signal to it.
        return "" if until(lambda: not group_exists(process.pid)) else "left a process"


def group_exists(number: int) -> bool:
    """Whether a process of that group is there."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], bool]) -> bool:
    """Wait for ``condition``; False if `PATIENCE` seconds were not enough."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def play(seed: int, workers: int) -> str:
    """Play one round; what is wrong, with the signals and the end of the log, or nothing."""
    with tempfile.TemporaryDirectory() as directory:
        game = Round(seed, workers, Path(directory))
        wrong = game.play()
        if wrong:
            log = (game.directory / "log").read_text(errors="replace")[-2000:]
            wrong = f"seed {seed}, {workers} workers: {wrong}; sent {' '.join(game.sent)}\n{log}"
        return wrong


def main(arguments: list[str] | None = None) -> int:
    """Play rounds until one fails, or all have passed; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    options = parser.parse_args(arguments)
    failed = 0
    for seed in range(options.seed, options.seed + options.rounds):
        if wrong := play(seed, (1, 3)[seed % 2]):
            failed += 1
            print(wrong, flush=True)
    print(f"{options.rounds} rounds, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
