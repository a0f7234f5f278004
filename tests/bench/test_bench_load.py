"""Reading what wrk, httperf and ApacheBench said, from recorded outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.load import Load, LoadError, parse_ab, parse_figures, parse_httperf

RECORDED = Path(__file__).with_name("recorded")


def recorded(name: str) -> str:
    """One tool's output as it was written."""
    return (RECORDED / f"{name}.txt").read_text()


def test_wrk_clean() -> None:
    """The script's own line gives requests, duration and latencies, in seconds."""
    run = parse_figures(recorded("wrk_clean"))
    assert run == Load(requests=2591, seconds=1.001181, p50=0.001116, p99=0.015931)
    assert run.rate == pytest.approx(2587.94, abs=0.01)


def test_httperf_clean() -> None:
    """Replies are counted, and the rate is the one that httperf prints."""
    run = parse_httperf(recorded("httperf_clean"))
    assert (run.requests, run.problems) == (300, "")
    assert run.rate == pytest.approx(3389.3)


def test_ab_clean() -> None:
    """Kept answers are counted beside the rate that ApacheBench states."""
    run = parse_ab(recorded("ab_clean"))
    assert (run.requests, run.kept, run.problems) == (300, 300, "")
    assert run.rate == pytest.approx(4785.22)


@pytest.mark.parametrize(
    ("parse", "name", "problems"),
    [
        (parse_figures, "wrk_refused", "775 answers not 2xx or 3xx"),
        (parse_httperf, "httperf_refused", "100 answers not 2xx"),
        (parse_httperf, "httperf_lost", "3 errors"),
        (parse_ab, "ab_refused", "200 failed, 100 answers not 2xx"),
    ],
)
def test_problems(parse, name, problems) -> None:
    """Errors and refusals are reported in words, whatever the rate."""
    assert parse(recorded(name)).problems == problems


@pytest.mark.parametrize("counter", ["connect", "read", "write", "timeout"])
def test_wrk_socket_errors(counter) -> None:
    """Each of wrk's error counters becomes a problem."""
    output = recorded("wrk_clean").replace(f'"{counter}": 0', f'"{counter}": 7')
    assert parse_figures(output).problems.startswith("7 ")


def test_httperf_missing_replies() -> None:
    """Requests without a reply are a problem even if httperf counts no error."""
    output = recorded("httperf_clean").replace("replies 300 ", "replies 298 ")
    assert parse_httperf(output).problems == "2 missing replies"


def test_no_requests() -> None:
    """A run without a single answer has the rate nought."""
    assert parse_httperf(recorded("httperf_lost")).rate == 0


@pytest.mark.parametrize("parse", [parse_figures, parse_httperf, parse_ab])
def test_nonsense(parse) -> None:
    """Output that is not the tool's is an error that shows it."""
    with pytest.raises(LoadError, match="connection refused"):
        parse("connection\nrefused\n")
