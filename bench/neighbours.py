"""Small requests beside large ones: ``bench.neighbours PORT SECONDS``.

Three clients ask for ``/compute`` of ``bench.apps.busy`` again and again, which keeps three threads
of the server computing; one client asks for ``/`` every ten milliseconds, as a user's page or a
health check does. The figures printed are those of the small requests, and how many of the large
ones were answered in the meantime, so that a server cannot win by starving them.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from statistics import quantiles
from threading import Event, Thread

from bench.servers import HOST

NEIGHBOURS = 3
"""Clients whose requests compute."""
INTERVAL = 0.010
"""Seconds from one small request to the next, unless its answer takes longer."""
TIMEOUT = 30.0
"""Seconds within which each answer must come."""
MICROSECONDS = 1e6


class Client:
    """One kept connection; it opens a new one if the server closes the old one."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)
        self.refused = 0
        """Answers other than 200."""

    def ask(self, path: str) -> float:
        """Ask once; return the seconds until the whole answer was read."""
        asked = time.perf_counter()
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        response.read()
        self.refused += response.status != http.client.OK
        return time.perf_counter() - asked

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Neighbour(Thread):
    """A client that keeps one thread of the server computing until it is told to stop."""

    def __init__(self, port: int, stop: Event) -> None:
        super().__init__(daemon=True)
        self._client = Client(port)
        self._stop_asked = stop
        self.answered = 0
        self.problem = ""
        """Why the client stopped early; empty if it did not."""

    def run(self) -> None:
        """Ask, and ask again."""
        try:
            while not self._stop_asked.is_set():
                self._client.ask("/compute")
                self.answered += 1
        except (OSError, http.client.HTTPException) as error:
            self.problem = repr(error)
        finally:
            self._client.close()

    @property
    def refused(self) -> int:
        """Answers other than 200."""
        return self._client.refused


def main(port: str, seconds: str) -> int:
    """Run for so many seconds and print the figures as one line of JSON."""
    stop = Event()
    neighbours = [Neighbour(int(port), stop) for _ in range(NEIGHBOURS)]
    for neighbour in neighbours:
        neighbour.start()
    client = Client(int(port))
    started = time.perf_counter()
    latencies = _ask_regularly(client, started + float(seconds))
    elapsed = time.perf_counter() - started
    answered = sum(neighbour.answered for neighbour in neighbours)
    client.close()
    stop.set()
    for neighbour in neighbours:
        neighbour.join(TIMEOUT)
    if problems := [neighbour.problem for neighbour in neighbours if neighbour.problem]:
        print(problems[0], file=sys.stderr)
        return 1
    refused = client.refused + sum(neighbour.refused for neighbour in neighbours)
    print(json.dumps(_figures(latencies, elapsed, answered, refused)))
    return 0


def _ask_regularly(client: Client, until: float) -> list[float]:
    """The latencies of small requests; a request that falls due during another is left out."""
    latencies = []
    while (due := time.perf_counter() + INTERVAL) < until:
        latencies.append(client.ask("/"))
        time.sleep(max(0.0, due - time.perf_counter()))
    return latencies


def _figures(
    latencies: list[float], elapsed: float, answered: int, refused: int
) -> dict[str, float]:
    """What `bench.load.parse_figures` reads."""
    cuts = quantiles(latencies, n=100, method="inclusive") if len(latencies) > 1 else [0.0] * 99
    return {
        "requests": len(latencies),
        "microseconds": round(elapsed * MICROSECONDS),
        "p50": round(cuts[49] * MICROSECONDS),
        "p99": round(cuts[98] * MICROSECONDS),
        "beside": answered,
        **dict.fromkeys(("connect", "read", "write", "timeout"), 0),
        "status": refused,
    }


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
