"""Runs the workloads with each server, in rounds: ``python -m bench --help``.

In each round each server is started, measured and stopped before the next one. The order changes
from round to round, so that other activity of the machine affects all servers alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench import plots
from bench.load import LoadError, missing_tools
from bench.measures import Sample
from bench.report import Results, as_json, verdict_table, workload_table
from bench.running import ROOT, RunningServer, ServerError
from bench.servers import DEFAULT_SERVERS, SERVERS
from bench.system import choose_cores, raise_descriptor_limit
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.servers import ServerSpec
    from bench.system import Cores
    from bench.workloads import Workload

Row = TypeVar("Row")

RESULTS = ROOT / "bench" / "results"
QUICK_ROUNDS = 1
QUICK_SECONDS = 1
DESCRIPTORS = 11_000
"""Open files that the largest workload needs on either side."""
NOTES = {spec.name: spec.note for spec in SERVERS.values() if spec.note}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables, write raw figures and charts; returns the exit status."""
    options = _options(arguments)
    if missing := missing_tools():
        _say(f"Install these Debian packages first: {' '.join(missing)}")
        return 2
    if raise_descriptor_limit() < DESCRIPTORS:
        _say(f"Fewer than {DESCRIPTORS:,} open files are allowed; the idle workloads will suffer")
    cores = choose_cores()
    os.sched_setaffinity(0, cores.load)
    results = Results()
    tables = []
    for workload in options.only:
        _measure(workload, options, cores, results)
        tables.append(workload_table(workload, results, NOTES))
        print(tables[-1], flush=True)
    tables.append(f"### Criteria\n\n{verdict_table(results, WORKLOADS)}")
    print(tables[-1])
    _write(options, cores, results, tables)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure WSGI servers.")
    add = parser.add_argument
    workloads, servers = list(WORKLOADS.values()), [SERVERS[name] for name in DEFAULT_SERVERS]
    add("--only", type=_chosen(WORKLOADS), default=workloads, help=", ".join(WORKLOADS))
    add("--servers", type=_chosen(SERVERS), default=servers, help=", ".join(SERVERS))
    add("--rounds", type=int, default=5, help="measurements of each server (%(default)s)")
    add("--seconds", type=int, default=3, help="length of a measurement (%(default)s)")
    add("--quick", action="store_true", help="one round of one second")
    add("--output", type=Path, default=None, help="folder for figures and charts")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds = QUICK_ROUNDS, QUICK_SECONDS
    return options


def _chosen(table: Mapping[str, Row]) -> Callable[[str], list[Row]]:
    """An argument's type: names between commas, into the rows of ``table``."""

    def convert(text: str) -> list[Row]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := [name for name in names if name not in table]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
        return [table[name] for name in names]

    return convert


def _measure(
    workload: Workload, options: argparse.Namespace, cores: Cores, results: Results
) -> None:
    servers = [*options.servers, *_added(workload, options.servers)]
    for round_number in range(options.rounds):
        turn = round_number % len(servers)
        for spec in _installed(servers[turn:] + servers[:turn], workload, results):
            _say(f"{workload.name}, round {round_number + 1} of {options.rounds}: {spec.name}")
            sample = _sample(workload, spec, options.seconds, cores)
            results.add(workload.name, spec.name, sample)


def _added(workload: Workload, servers: list[ServerSpec]) -> list[ServerSpec]:
    """The variants that a workload adds to the servers of which they are variants."""
    names = {spec.name for spec in servers}
    return [SERVERS[name] for name in workload.also if name.partition("+")[0] in names - {name}]


def _installed(
    servers: list[ServerSpec], workload: Workload, results: Results
) -> Iterator[ServerSpec]:
    for spec in servers:
        if spec.installed:
            yield spec
        else:
            results.add(workload.name, spec.name, Sample({}, "not installed"))


def _sample(workload: Workload, spec: ServerSpec, seconds: int, cores: Cores) -> Sample:
    """Measure one server in one round. A failure is noted in the sample, and the run goes on."""
    try:
        with RunningServer(spec, workload.app, workload.threads, cores.server) as server:
            return workload.measure(server, seconds)
    except (LoadError, ServerError) as error:
        _say(f"{spec.name}: {error}")
        return Sample({}, str(error))


def _write(options: argparse.Namespace, cores: Cores, results: Results, tables: list[str]) -> None:
    started = datetime.now(UTC)
    folder: Path = options.output or RESULTS / started.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, object] = {
        "ended": started.isoformat(timespec="seconds"),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "cores": {"server": sorted(cores.server), "load": sorted(cores.load)},
        "python": sys.version,
        "platform": platform.platform(),
        "versions": _versions(),
    }
    (folder / "results.json").write_text(as_json(results, facts))
    (folder / "results.md").write_text("\n".join(tables))
    try:
        for workload in options.only:
            plots.draw(workload, results, folder)
    except ImportError:
        _say("No charts: matplotlib is not installed")
    _say(f"Written to {folder}")


def _versions() -> dict[str, str]:
    """The installed version of each package that is used."""
    packages = {spec.module for spec in SERVERS.values()} | {
        "uvicorn",
        "uvloop",
        "h11",
        "httptools",
    }
    found = {}
    for package in sorted(packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
