"""Sends requests without a pause, on kept and on new connections, and counts what came of them.

The tests and ``bench/restart.py`` use it to find out whether a request was lost, and not to measure
speed. A request has *failed* if its connection was made and no complete response came. A connection
may also be *refused*: then the client has sent nothing, and a load balancer tries another server.

Each request has a token of its own in its query string. An application can note the tokens of the
requests that it has started: see `Load.lost`.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

PATIENCE = 10 * float(os.environ.get("TEST_UNIT", "1"))
"""Seconds after which a request counts as failed."""


def get(token: str, *, last: bool) -> bytes:
    """Return a request; the ``last`` one on its connection asks for the connection's end."""
    end = "Connection: close\r\n\r\n" if last else "\r\n"
    return f"GET /?{token} HTTP/1.1\r\nHost: test\r\n{end}".encode()


class Failure(NamedTuple):
    """A request that failed."""

    token: str
    kept: bool
    """Whether its connection was kept after an earlier response. A server may close such a
    connection at any time, and a client may repeat the request (RFC 9112, section 9.3.1)."""
    reset: bool
    what: str
    """The exception that the client got."""


class Load:
    """Threads that send requests, one after the other, until the load is stopped."""

    def __init__(self, address: tuple[str, int] | str, kept: int, new: int) -> None:
        self.address = address
        # Keys: "answered", "refused", "failed", and "reset" (a part of "failed").
        self.counts: Counter[str] = Counter()
        # How often each response body came.
        self.bodies: Counter[bytes] = Counter()
        self.failures: list[Failure] = []
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number, number >= kept), daemon=True)
            for number in range(kept + new)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Wait until ``count`` more requests have been answered."""
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

    def lost(self, begun: Collection[str]) -> list[Failure]:
        """Return the failed requests that the application had not started."""
        return [failure for failure in self.failures if failure.token not in begun]

    def __str__(self) -> str:
        return f"{dict(self.counts)} {self.failures[:5]}"

    # In the threads of the load

    def _run(self, number: int, last: bool) -> None:
        tokens = (f"{number}.{n}" for n in count())
        while not self._stop.is_set():
            try:
                connection = _connect(self.address)
            except OSError:
                with self._lock:
                    self.counts["refused"] += 1
                self._stop.wait(0.01)
                continue
            with connection, connection.makefile("rb") as answers:
                self._use(connection, answers, tokens, last)

    def _use(self, connection: socket.socket, answers, tokens: Iterator[str], last: bool) -> None:
        """Send requests on one connection until either side closes it."""
        for earlier, token in enumerate(tokens):
            try:
                connection.sendall(get(token, last=last))
                body, goes_on = _read_response(answers)
            except (OSError, EOFError, ValueError) as error:
                reset = isinstance(error, (ConnectionResetError, BrokenPipeError))
                self._note_failure(Failure(token, earlier > 0, reset, repr(error)))
                return
            self._note_answer(body)
            if not goes_on or self._stop.is_set():
                return

    def _note_answer(self, body: bytes) -> None:
        with self._answered:
            self.counts["answered"] += 1
            self.bodies[body] += 1
            self._answered.notify_all()

    def _note_failure(self, failure: Failure) -> None:
        with self._lock:
            self.failures.append(failure)
            self.counts["failed"] += 1
            self.counts["reset"] += failure.reset


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
    """Return the body, and whether the connection stays open.

    Raises EOFError if the connection ended, and ValueError for a status other than 200.
    """
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
    """Keep a server busy for a block, with ``kept`` connections and ``new`` ones at a time."""
    running = Load(address, kept, new)
    try:
        yield running
    finally:
        running.stop()
