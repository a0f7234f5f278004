"""A steady load of requests on kept and on new connections, and what became of each.

It is used by the tests and by ``bench/restart.py``, and measures no speed: it answers one question,
whether a request was lost. A request has *failed* if its connection was made and no whole response
came. A connection that is *refused* has cost its client nothing that a load balancer would not
notice; whether it is allowed is the test's to say.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 10 * float(os.environ.get("TEST_UNIT", "1"))
"""Seconds after which a request counts as failed."""

BUSY = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


class Load:
    """Threads that send requests, one after the other, until the load is stopped."""

    def __init__(self, address: tuple[str, int] | str, kept: int, new: int) -> None:
        self.address = address
        # "answered", "refused", "failed", and "reset" for those of the failed that were reset.
        self.counts: Counter[str] = Counter()
        # Bodies of the responses, and how many came.
        self.bodies: Counter[bytes] = Counter()
        # What the failures looked like, for the test's message.
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._run, args=(BUSY,), daemon=True) for _ in range(kept)),
            *(threading.Thread(target=self._run, args=(LAST,), daemon=True) for _ in range(new)),
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        with self._answered:
            target = self.counts["answered"] + count
            reached = self._answered.wait_for(
                lambda: self.counts["answered"] >= target, timeout=PATIENCE
            )
        assert reached, f"no more answers came: {self}"

    def stop(self) -> None:
        """End the load and wait for the answers that are on their way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a request was neither answered nor refused"

    def __str__(self) -> str:
        return f"{dict(self.counts)} {self.failures[:5]}"

    # In the threads

    def _run(self, request: bytes) -> None:
        while not self._stop.is_set():
            try:
                connection = _connect(self.address)
            except OSError as error:
                self._note("refused", str(error))
                self._stop.wait(0.01)
                continue
            with connection, connection.makefile("rb") as answers:
                self._use(connection, answers, request)

    def _use(self, connection: socket.socket, answers, request: bytes) -> None:
        """Send requests on one connection until either side has had enough."""
        while True:
            try:
                connection.sendall(request)
                body, goes_on = _read_response(answers)
            except (OSError, EOFError, ValueError) as error:
                reset = isinstance(error, (ConnectionResetError, BrokenPipeError))
                self._note("failed", repr(error), reset=reset)
                return
            self._note("answered", body)
            if not goes_on or self._stop.is_set():
                return

    def _note(self, outcome: str, what: str | bytes, *, reset: bool = False) -> None:
        with self._answered:
            self.counts[outcome] += 1
            if isinstance(what, bytes):
                self.bodies[what] += 1
            elif outcome == "failed":
                self.failures.append(what)
                self.counts["reset"] += reset
            self._answered.notify_all()


def _connect(address: tuple[str, int] | str) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    connection = socket.socket(family)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _read_response(answers) -> tuple[bytes, bool]:
    """The body, and whether the connection stays open. Raises EOFError or ValueError."""
    status = answers.readline()
    if not status.startswith(b"HTTP/1.1 200 "):
        raise (ValueError if status else EOFError)(status)
    length, goes_on = -1, True
    while (line := answers.readline()) != b"\r\n":
        if not line:
            raise EOFError("in a header section")
        name, _, value = line.lower().partition(b":")
        if name == b"content-length":
            length = int(value)
        elif name == b"connection" and value.strip() == b"close":
            goes_on = False
    body = answers.read(length)
    if len(body) < length:
        raise EOFError("in a body")
    return body, goes_on


@contextmanager
def load(address: tuple[str, int] | str, *, kept: int = 4, new: int = 4) -> Iterator[Load]:
    """Keep a server busy for a block, with so many connections that are kept and that are not."""
    running = Load(address, kept, new)
    try:
        yield running
    finally:
        running.stop()
