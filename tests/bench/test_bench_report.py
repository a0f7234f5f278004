"""Samples become medians, tables and verdicts."""

from __future__ import annotations

import json

import pytest

from bench.criteria import AT_LEAST, AT_MOST, CRITERIA, Criterion, judge
from bench.measures import Sample
from bench.report import Results, Spread, as_json, verdict_table, workload_table
from bench.servers import DEFAULT_SERVERS, SERVERS
from bench.workloads import WORKLOADS

SMALL = WORKLOADS["small"]
START = WORKLOADS["start"]


def results(**rates: list[float]) -> Results:
    """The small workload with these rates in its rounds, by server; an underscore is a hyphen."""
    made = Results()
    for server, figures in rates.items():
        for rate in figures:
            made.add("small", server.replace("_", "-"), Sample({"rate": rate}))
    return made


def cells(table: str, server: str) -> list[str]:
    """The cells of one server's row."""
    row = next(line for line in table.splitlines() if line.startswith(f"| {server} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_spread() -> None:
    """A figure is shown as its median with the least and the greatest of the rounds."""
    made = results(waitress=[300, 100, 150])
    assert made.spread("small", "waitress", "rate") == Spread(150, 100, 300)


@pytest.mark.parametrize("key", ["p50", "nothing"])
def test_spread_of_nothing(key) -> None:
    """A figure that no round gave has no spread."""
    assert results(waitress=[1]).spread("small", "waitress", key) is None


def test_workload_table_ratios() -> None:
    """Each row says how many times its figure each of our parsers reached."""
    table = workload_table(SMALL, results(aiowsgi_h11=[12_000], waitress=[6_000, 8_000, 7_000]), {})
    row = cells(table, "waitress")
    assert row[1] == "7,000 (6,000 - 8,000)"
    assert row[-2] == "1.71"
    assert cells(table, "aiowsgi-h11")[-2] == "1.00"
    assert "httptools ÷ this" not in table


def test_workload_table_remarks() -> None:
    """Notes and problems stand beside the figures, each problem once, and break no row."""
    made = results(waitress=[1])
    for _ in range(2):
        made.add("small", "waitress", Sample({}, "3 timeouts | lost"))
    row = workload_table(SMALL, made, {"waitress": "pure Python"}).splitlines()[-1]
    assert row.endswith("| pure Python; 3 timeouts \\| lost |")


def test_workload_table_without_figures() -> None:
    """A server that could not be measured is a row that says why."""
    made = Results()
    made.add("start", "bjoern", Sample({}, "not installed"))
    assert cells(workload_table(START, made, {}), "bjoern") == [
        "bjoern", "-", "-", "-", "not installed"
    ]  # fmt: skip


def test_clean_medians() -> None:
    """What is judged are the runs without errors only."""
    made = results(waitress=[10])
    made.add("small", "waitress", Sample({"rate": 9_999}, "7 read errors"))
    made.add("small", "granian", Sample({"rate": 9_999}, "7 read errors"))
    assert made.clean_medians() == {("small", "waitress", "rate"): 10}


@pytest.mark.parametrize(
    ("relation", "value", "passed"),
    [
        (AT_LEAST, 12, True),
        (AT_LEAST, 11.9, False),
        (AT_MOST, 6, True),
        (AT_MOST, 6.1, False),
        (AT_LEAST, None, None),
    ],
)
def test_judge(relation, value, passed) -> None:
    """The bound is the factor times the best peer: the greatest or the least; equal passes."""
    criterion = Criterion("small", "rate", "ours", relation, 2.0, ("a", "b", "absent"))
    medians = {("small", "a", "rate"): 6.0, ("small", "b", "rate"): 3.0}
    if value is not None:
        medians["small", "ours", "rate"] = value
    verdict = judge(criterion, medians)
    assert verdict.passed is passed
    assert verdict.bound == (12 if relation is AT_LEAST else 6)


def test_judge_without_peers() -> None:
    """A criterion without peers is a plain bound; with peers that were not measured it is open."""
    medians = {("start", "ours", "rss"): 29.0}
    assert judge(Criterion("start", "rss", "ours", AT_MOST, 30), medians).passed is True
    assert judge(Criterion("start", "rss", "ours", AT_MOST, 1, ("a",)), medians).passed is None


def test_verdict_table() -> None:
    """The criteria of the workloads that were run are listed, the others not."""
    table = verdict_table(results(aiowsgi_httptools=[48_000], granian=[47_000]), WORKLOADS)
    verdicts = [line.split("|")[-2].strip() for line in table.splitlines()[2:]]
    assert verdicts == ["not measured", "pass", "not measured"]
    assert "| 48,000 | ≥ 47,000 (1 times granian) |" in table


def test_criteria_name_what_exists() -> None:
    """Every criterion names a workload, one of its figures, and servers of the table."""
    for criterion in CRITERIA:
        keys = {metric.key for metric in WORKLOADS[criterion.workload].metrics}
        assert criterion.metric in keys
        assert {criterion.server, *criterion.peers} <= set(SERVERS)


def test_default_servers() -> None:
    """Every peer of a criterion is measured unless one asks for less."""
    peers = {peer for criterion in CRITERIA for peer in criterion.peers}
    assert peers <= set(DEFAULT_SERVERS)


def test_json() -> None:
    """The raw figures of every round are kept, with the facts of the run."""
    read = json.loads(as_json(results(waitress=[1, 2]), {"rounds": 2}))
    assert read["facts"] == {"rounds": 2}
    assert [sample["figures"]["rate"] for sample in read["samples"]] == [1, 2]
