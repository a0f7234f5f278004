"""How evenly connections are spread over workers: ``python -m bench.spread``.

Two ways to share a port are compared. With a *shared socket*, which is what aiowsgi's supervisor
does, every worker accepts from one queue. With *SO_REUSEPORT* every process has a queue of its own,
and the kernel picks one by a hash of the addresses; here these are separate servers on one port.

Two loads: connections that are opened together and kept, as those of a proxy, whose worker is
decided once and for long; and a connection for each request, of which a few are open at a time.
Printed are the connections of each worker, and of those the largest share over the even one.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.running import ROOT
from bench.servers import HOST
from bench.system import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
CLIENTS = 8
"""Number of connections that are open at a time, if each has one request."""


def main(arguments: list[str] | None = None) -> int:
    """Measure both ways under both loads; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.spread", description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64, help="kept ones, by round")
    parser.add_argument("--requests", type=int, default=2000, help="on new connections, by round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    loads: dict[str, Callable[[int], Counter[str]]] = {
        f"{options.connections} kept": lambda port: _kept(port, options.connections),
        f"{options.requests} new": lambda port: _new(port, options.requests),
    }
    for way in (_shared, _reuse_port):
        with ExitStack() as servers:
            port = way(options.workers, servers)
            for name, load in loads.items():
                counts = [load(port) for _ in range(options.rounds)]
                _show(f"{way.__doc__} {name}", counts, options.workers)
    return 0


def _show(name: str, rounds: list[Counter[str]], workers: int) -> None:
    worst = [max(counts.values()) * workers / counts.total() for counts in rounds]
    shares = "  ".join("/".join(str(n) for _, n in counts.most_common()) for counts in rounds)
    print(f"{name:28} {max(worst):4.1f} x even at worst    {shares}", flush=True)


# The servers


def _shared(workers: int, servers: ExitStack) -> int:
    """shared socket"""
    return _start(servers, 0, "--workers", str(workers))


def _reuse_port(workers: int, servers: ExitStack) -> int:
    """SO_REUSEPORT"""
    port = free_port()
    for _ in range(workers):
        _start(servers, port, "--reuse-port")
    return port


def _start(servers: ExitStack, port: int, *options: str) -> int:
    bind = ("--bind", f"{HOST}:{port}", "--no-access-log")
    process = servers.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "aiowsgi", "bench.spread:application", *bind, *options],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
    servers.callback(process.send_signal, signal.SIGTERM)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"listening on \S+:(\d+)", line):
            return int(found[1])
    raise RuntimeError("the server did not start")


def application(environ: object, start_response: Callable[..., object]) -> list[bytes]:  # noqa: ARG001
    """Answers with the process id."""
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


# The loads


def _kept(port: int, count: int) -> Counter[str]:
    """Who serves each of ``count`` connections that are opened together."""
    with ExitStack() as opened:
        connections = [
            opened.enter_context(socket.create_connection((HOST, port))) for _ in range(count)
        ]
        return Counter(_ask(connection, KEPT) for connection in connections)


def _new(port: int, count: int) -> Counter[str]:
    """Who serves each of ``count`` requests on connections of their own."""
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def run() -> None:
        for _ in range(count // CLIENTS):
            with socket.create_connection((HOST, port)) as connection:
                pid = _ask(connection, LAST)
            with lock:
                counts[pid] += 1

    threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts


def _ask(connection: socket.socket, request: bytes) -> str:
    connection.sendall(request)
    return connection.recv(65536).rpartition(b"\r\n\r\n")[2].decode()


if __name__ == "__main__":
    sys.exit(main())
