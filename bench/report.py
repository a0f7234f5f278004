"""Turns samples into medians, Markdown tables and JSON.

A table shows every figure as its median with minimum and maximum over the rounds, and how many
times a peer's figure aiowsgi reached. What is compared with the criteria are medians of clean runs
only: a run with errors proves no speed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from bench.criteria import CRITERIA, H11, HTTPTOOLS, judge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.criteria import Verdict
    from bench.measures import Sample
    from bench.workloads import Metric, Workload

NOTHING = "-"
SHORT_NAMES = {H11: "h11", HTTPTOOLS: "httptools"}
WORDS = {True: "pass", False: "**fail**", None: "not measured"}


class Spread(NamedTuple):
    """One figure over the rounds."""

    median: float
    low: float
    high: float


class Results:
    """Every sample of a run, by workload and server, in the order in which they were taken."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)

    def add(self, workload: str, server: str, sample: Sample) -> None:
        """Keep one server's figures of one round."""
        self.samples[workload, server].append(sample)

    def servers(self, workload: str) -> list[str]:
        """The servers that were tried in a workload."""
        return [server for name, server in self.samples if name == workload]

    def spread(self, workload: str, server: str, key: str) -> Spread | None:
        """Median, minimum and maximum of one figure, or None if it was never measured."""
        samples = self.samples.get((workload, server), [])
        return _spread(sample.figures[key] for sample in samples if key in sample.figures)

    def problems(self, workload: str, server: str) -> str:
        """The problems of all rounds, each of them once."""
        samples = self.samples.get((workload, server), [])
        return "; ".join(dict.fromkeys(sample.problems for sample in samples if sample.problems))

    def clean_medians(self) -> dict[tuple[str, str, str], float]:
        """The medians over the runs without errors, by workload, server and the metric's key."""
        figures: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for (workload, server), samples in self.samples.items():
            for sample in samples:
                if not sample.problems:
                    for key, value in sample.figures.items():
                        figures[workload, server, key].append(value)
        return {key: median(values) for key, values in figures.items()}


def workload_table(workload: Workload, results: Results, notes: dict[str, str]) -> str:
    """One workload as a Markdown table under its title; ``notes`` are remarks by server."""
    ours = [
        server for server in SHORT_NAMES if results.spread(workload.name, server, _key(workload))
    ]
    head = ["server", *(metric.title for metric in workload.metrics)]
    head += [f"{SHORT_NAMES[server]} ÷ this" for server in ours] + ["remarks"]
    rows = []
    for server in results.servers(workload.name):
        cells = [_figure(results.spread(workload.name, server, m.key), m) for m in workload.metrics]
        ratios = [_ratio(workload, results, mine, server) for mine in ours]
        remarks = [notes.get(server, ""), results.problems(workload.name, server)]
        rows.append([server, *cells, *ratios, "; ".join(filter(None, remarks))])
    return f"### {workload.title} (`{workload.name}`)\n\n{markdown_table(head, rows)}"


def verdict_table(results: Results, workloads: dict[str, Workload]) -> str:
    """The criteria of the workloads that were run, with pass or fail."""
    medians = results.clean_medians()
    measured = {workload for workload, _ in results.samples}
    verdicts = [
        judge(criterion, medians) for criterion in CRITERIA if criterion.workload in measured
    ]
    head = ["workload", "figure", "server", "value", "bound", "verdict"]
    return markdown_table(head, [_verdict_row(verdict, workloads) for verdict in verdicts])


def as_json(results: Results, facts: dict[str, object]) -> str:
    """The raw figures of every round, with the facts of the run."""
    raw = [
        {
            "workload": workload,
            "server": server,
            "figures": sample.figures,
            "problems": sample.problems,
        }
        for (workload, server), samples in results.samples.items()
        for sample in samples
    ]
    return json.dumps({"facts": facts, "samples": raw}, indent=1)


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    ruler = ["---", *["---:"] * (len(head) - 1)]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ruler, *escaped]) + "\n"


def number(value: float, digits: int) -> str:
    """Format a figure with separators of thousands and so many decimal places."""
    return f"{value:,.{digits}f}"


def _spread(values: Iterable[float]) -> Spread | None:
    figures = list(values)
    return Spread(median(figures), min(figures), max(figures)) if figures else None


def _figure(spread: Spread | None, metric: Metric) -> str:
    if spread is None:
        return NOTHING
    middle, low, high = (number(value, metric.digits) for value in spread)
    return middle if low == high else f"{middle} ({low} - {high})"


def _key(workload: Workload) -> str:
    return workload.metrics[0].key


def _ratio(workload: Workload, results: Results, mine: str, server: str) -> str:
    """The ratio of our median to theirs, of the workload's first figure."""
    ours = results.spread(workload.name, mine, _key(workload))
    theirs = results.spread(workload.name, server, _key(workload))
    if ours is None or theirs is None or not theirs.median:
        return NOTHING
    return number(ours.median / theirs.median, 2)


def _verdict_row(verdict: Verdict, workloads: dict[str, Workload]) -> list[str]:
    criterion = verdict.criterion
    metrics = workloads[criterion.workload].metrics
    metric = next(metric for metric in metrics if metric.key == criterion.metric)
    value, bound = (
        NOTHING if figure is None else number(figure, metric.digits)
        for figure in (verdict.value, verdict.bound)
    )
    best_of = f"{criterion.factor:g} times " + ("best of " if len(criterion.peers) > 1 else "")
    source = f" ({best_of}{', '.join(criterion.peers)})" if criterion.peers else ""
    required = f"{criterion.relation.value} {bound}{source}"
    words = [WORDS[verdict.passed]]
    return [criterion.workload, metric.title, criterion.server, value, required, *words]
