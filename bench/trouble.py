"""Measures servers under overload, hangs and slow clients: ``python -m bench.trouble``. Linux only.

Each scenario starts a server with four threads, measures what it gives to good clients while it is
in trouble, ends the trouble, and checks whether the server recovers:

===============  =================================================================================
``overload``     more requests of 20 ms than the threads can answer, from clients that wait for a
                 second after a refusal; *good* is a 200 within a second
``stuck``        four requests that hang for ever, and then good clients
``list``         clients that hardly read responses of 3 MB, given as one block, beside good ones
``generator``    the same, given block by block
``file``         the same, given as a file
``dribble``      clients that send header sections or bodies, or read a page, a byte a second
``descriptors``  150 descriptors, and 200 clients that hold on to their connections; *good* is how
                 many of them were served
``soak``         a million requests of good clients and ten thousand slow uploads, or as much of it
                 as there is time for: memory at the end less that after a tenth
``refuse``       every thread hangs and the queue is full: how many are refused a second
===============  =================================================================================

*Good* is requests served a second to good clients; *of untroubled*, what share that is of what the
same server does without the trouble (in ``overload``, of what its threads can do). *MB* is the
resident memory that the trouble took. Figures of one run are for comparing its rows only: the load
shares one processor with the slow clients.

The scenarios are in ``scenarios.py``. This module has the servers, and prints the table.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import replace

from bench.load import LoadError
from bench.report import markdown_table, number
from bench.running import RunningServer, ServerError
from bench.scenarios import QUICK, SCENARIOS, THREADS, Outcome, Size
from bench.servers import SERVERS, Arguments, ServerSpec
from bench.system import choose_cores, raise_descriptor_limit

APP = "bench.trouble_app:app"

# The servers

_OPTIONS = {
    "overload": ["--queue-timeout", "500ms"],
    "stuck": ["--request-timeout", "1s"],
    "refuse": ["--queue-size", "1", "--queue-timeout", "0", "--graceful-timeout", "1s"],
}
"""Options that an operator of aiowsgi would set for a scenario; the others have their defaults."""


def _servers(scenario: str) -> list[ServerSpec]:
    ours = SERVERS["aiowsgi-httptools"]

    def arguments(app: str, port: int, threads: int) -> list[str]:
        return [*ours.arguments(app, port, threads), *_OPTIONS.get(scenario, ())]

    peers = ("gunicorn-gthread", "waitress", "granian", "uvicorn+a2wsgi")
    specs = [replace(ours, name="aiowsgi", arguments=arguments), *(SERVERS[p] for p in peers)]
    if scenario == "descriptors":
        specs = [replace(spec, arguments=_with_few(spec.arguments)) for spec in specs]
    return specs[:1] if scenario == "refuse" else specs


DESCRIPTORS = 150


def _with_few(arguments: Arguments) -> Arguments:
    """The same command, run by a shell that limits its descriptors."""
    script = f'ulimit -n {DESCRIPTORS} && exec "$@"'
    return lambda *of: ["-c", script, "sh", sys.executable, *arguments(*of)]


# The command

COLUMNS = ["scenario", "server", "good/s", "of untroubled", "p99 ms", "MB", "recovered", "notes"]


def main(arguments: list[str] | None = None) -> int:
    """Run the scenarios and print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.trouble", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="smaller scenarios, a few minutes")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, between commas")
    parser.add_argument("--servers", default="", help="servers, between commas (all)")
    options = parser.parse_args(arguments)
    raise_descriptor_limit()
    os.sched_setaffinity(0, choose_cores().load)
    rows = list(_rows(options))
    print(markdown_table(COLUMNS, rows))
    return 0


def _rows(options: argparse.Namespace) -> Iterator[list[str]]:
    size = QUICK if options.quick else Size()
    chosen = {name for name in options.servers.split(",") if name}
    for name in options.only.split(","):
        for spec in _servers(name):
            if spec.installed and (not chosen or spec.name in chosen):
                print(f"{name}: {spec.name}", file=sys.stderr, flush=True)
                yield [name, spec.name, *_row(_outcome(name, spec, size))]


def _outcome(name: str, spec: ServerSpec, size: Size) -> Outcome:
    python = "/bin/sh" if name == "descriptors" else sys.executable
    try:
        with RunningServer(spec, APP, THREADS, choose_cores().server, python) as it:
            return SCENARIOS[name](it, size)
    except (LoadError, ServerError) as error:
        return Outcome(note=str(error))


def _row(outcome: Outcome) -> list[str]:
    return [
        number(outcome.good, 0),
        "" if outcome.share is None else number(outcome.share, 2),
        number(outcome.p99 * 1000, 1) if outcome.p99 else "",
        "" if outcome.megabytes is None else number(outcome.megabytes, 1),
        {True: "yes", False: "no", None: ""}[outcome.recovered],
        outcome.note,
    ]


if __name__ == "__main__":
    sys.exit(main())
