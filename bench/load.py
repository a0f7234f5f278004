"""Runs the load generators wrk, httperf and ApacheBench, and reads their output.

Running and reading are apart, so that the reading can be tested on recorded outputs. Whatever a
tool counts as an error, and every answer that is not 2xx, becomes ``problems``: a figure that was
reached by failing must be seen to be. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.servers import HOST

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path(__file__).with_name("wrk.lua")
GRACE_SECONDS = 60.0
"""How much longer than asked for a tool may run before it is ended."""
PACKAGES = {"wrk": "wrk", "httperf": "httperf", "ab": "apache2-utils"}
"""The Debian package of each tool."""
MICROSECONDS = 1e6


class LoadError(Exception):
    """A load generator is missing, failed, or said something that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator measured in one run."""

    requests: int
    """Requests that were answered."""
    seconds: float
    p50: float = 0.0
    """Median latency, where the tool tells it."""
    p99: float = 0.0
    cpu: float = 0.0
    """Processor time that the tool itself used; close to ``seconds``, the tool is the limit."""
    kept: int = 0
    """Answers after which the connection stayed open, where the tool counts them."""
    beside: int = 0
    """Answers to requests that were sent as a load only, and are not among ``requests``."""
    problems: str = ""
    """Errors and refusals in words; empty for a clean run."""

    @property
    def rate(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds if self.seconds else 0.0


def wrk(port: int, mode: str, connections: int, seconds: int) -> Load:
    """Drive all ``connections`` as fast as the server answers; ``mode`` is one of wrk.lua's.

    ``seconds`` are whole ones because wrk takes no others.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    script = ["-s", str(SCRIPT), f"http://{HOST}:{port}/", "--", *mode.split()]
    return _watched(parse_figures, [*command, *script], seconds)


def sink(port: int, connections: int, seconds: int) -> Load:
    """Read large responses on all ``connections`` with ``bench.sink``."""
    command = [sys.executable, "-m", "bench.sink", str(port), str(connections), str(seconds)]
    return _watched(parse_figures, command, seconds)


def neighbours(port: int, seconds: int) -> Load:
    """Ask for little beside clients that ask for much, with ``bench.neighbours``."""
    command = [sys.executable, "-m", "bench.neighbours", str(port), str(seconds)]
    return _watched(parse_figures, command, seconds)


def httperf(port: int, connections: int, calls: int) -> Load:
    """Make ``calls`` requests on each of ``connections``, one connection after the other."""
    target = ["--server", HOST, "--port", str(port), "--uri", "/", "--timeout", "30"]
    plan = ["--num-conns", str(connections), "--num-calls", str(calls)]
    return _watched(parse_httperf, ["httperf", "--hog", *target, *plan])


def ab(port: int, requests: int, concurrency: int, *, keep: bool) -> Load:
    """Make ``requests`` in all, by HTTP/1.0 as ApacheBench does, keeping connections or not."""
    options = ["-q", "-r", "-s", "10", "-n", str(requests), "-c", str(concurrency)]
    url = f"http://{HOST}:{port}/"
    return _watched(parse_ab, ["ab", *(["-k"] if keep else []), *options, url])


def parse_figures(output: str) -> Load:
    """Read the JSON line that wrk.lua, ``bench.sink`` and ``bench.neighbours`` print at the end."""
    line = next((line for line in output.splitlines() if line.startswith('{"requests"')), None)
    if line is None:
        raise LoadError(f"no figures: {_end(output)}")
    figures = json.loads(line)
    names = {"connect": "connect errors", "read": "read errors", "write": "write errors"}
    names |= {"timeout": "timeouts", "status": "answers not 2xx or 3xx"}
    return Load(
        requests=figures["requests"],
        seconds=figures["microseconds"] / MICROSECONDS,
        p50=figures["p50"] / MICROSECONDS,
        p99=figures["p99"] / MICROSECONDS,
        beside=figures.get("beside", 0),
        problems=_problems({text: figures[key] for key, text in names.items()}),
    )


def parse_httperf(output: str) -> Load:
    """Read httperf's summary."""
    replies = _number(r"^Total: .* replies (\d+) ", output)
    rate = _number(r"^Request rate: ([\d.]+) req/s", output)
    refused = sum(map(int, re.findall(r"\b[1345]xx=(\d+)", output)))
    counts = {
        "errors": _number(r"^Errors: total (\d+) ", output),
        "answers not 2xx": refused,
        "missing replies": _number(r"^Total: .* requests (\d+) ", output) - replies,
    }
    return Load(
        requests=int(replies),
        # Computed from the rate, because httperf rounds the duration to milliseconds.
        seconds=replies / rate if rate else 0.0,
        problems=_problems(counts),
    )


def parse_ab(output: str) -> Load:
    """Read ApacheBench's report."""
    counts = {
        "failed": _number(r"^Failed requests:\s+(\d+)", output),
        "write errors": _number(r"^Write errors:\s+(\d+)", output, default=0),
        "answers not 2xx": _number(r"^Non-2xx responses:\s+(\d+)", output, default=0),
    }
    requests = int(_number(r"^Complete requests:\s+(\d+)", output))
    rate = _number(r"^Requests per second:\s+([\d.]+)", output)
    return Load(
        requests=requests,
        seconds=requests / rate if rate else 0.0,
        p50=_number(r"^\s+50%\s+(\d+)", output, default=0) / 1000,
        p99=_number(r"^\s+99%\s+(\d+)", output, default=0) / 1000,
        kept=int(_number(r"^Keep-Alive requests:\s+(\d+)", output, default=0)),
        problems=_problems(counts),
    )


def missing_tools() -> list[str]:
    """The load generators that are not installed, by the names of their Debian packages."""
    return [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]


def _watched(parse: Callable[[str], Load], command: list[str], seconds: float = 0.0) -> Load:
    """Run a tool for about ``seconds``; return its figures and the processor time that it used."""
    before = _children_cpu()
    run = parse(_run(command, seconds + GRACE_SECONDS))
    return replace(run, cpu=_children_cpu() - before)


def _children_cpu() -> float:
    """Processor time of the children waited for so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run(command: list[str], timeout: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
        )
    except FileNotFoundError:
        raise LoadError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise LoadError(f"{command[0]} did not end by itself") from None
    if done.returncode:
        name = Path(command[0]).name
        raise LoadError(f"{name} failed: {_end(done.stderr or done.stdout)}")
    return done.stdout


def _number(pattern: str, text: str, default: float | None = None) -> float:
    """Return the first group of ``pattern`` as a number. Raises LoadError if there is no match."""
    if found := re.search(pattern, text, re.MULTILINE):
        return float(found[1])
    if default is None:
        raise LoadError(f"no {pattern!r} in: {_end(text)}")
    return default


def _end(text: str) -> str:
    """The end of a tool's output, on one line."""
    return " ".join(text.split())[-300:]


def _problems(counts: dict[str, float]) -> str:
    return ", ".join(f"{int(count)} {name}" for name, count in counts.items() if count)
