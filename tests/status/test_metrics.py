"""Counting exchanges, adding counts up, and what may be concluded from them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiowsgi.status.metrics import BOUNDS, PHASES, Counts, Sample, merge, quantile


def counted(*samples):
    """The counts of these samples."""
    counts = Counts()
    counts.add([value for sample in samples for value in sample])
    return counts


def sample(status=200, **times):
    """A sample of one byte, in which nothing takes time but what is named."""
    return Sample(status, 1, **{**dict.fromkeys(PHASES, 0.0), **times})


def test_samples_are_counted_by_class_and_size():
    """Statuses by their first digit; bytes added up."""
    snapshot = counted(*(sample(status) for status in (200, 204, 304, 404, 500, 503))).snapshot()
    assert snapshot["requests"] == {"2xx": 2, "3xx": 1, "4xx": 1, "5xx": 2}
    assert snapshot["bytes"] == 6


def test_nothing_is_counted_as_nothing():
    """A batch may be empty, and every class is there before it comes."""
    snapshot = counted().snapshot()
    assert snapshot["requests"] == dict.fromkeys(("2xx", "3xx", "4xx", "5xx"), 0)
    assert snapshot["seconds"]["app"] == {"buckets": [0] * (len(BOUNDS) + 1), "sum": 0.0}


def test_a_torn_response_has_a_class_of_its_own():
    """Status 0 is no answer at all."""
    assert counted(sample(0)).snapshot()["requests"]["0xx"] == 1


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("time", "below"), [(0.0, 0), (BOUNDS[0], 0), (0.0011, 4), (BOUNDS[-1], 17), (61.0, 18)]
)
def test_a_time_is_in_the_first_bucket_that_holds_it_and_all_above(phase, time, below):
    """As the exposition formats want it: cumulative, bounds inclusive."""
    timed = counted(sample(**{phase: time})).snapshot()["seconds"][phase]
    assert timed["buckets"] == [0] * below + [1] * (len(BOUNDS) + 1 - below)
    assert timed["sum"] == time


def test_refusals_are_responses_too():
    """They have a sample as all have, and a reason besides."""
    counts = counted(sample(503), sample(418))
    counts.refused(503)
    counts.refused(418)
    counts.disconnected()
    snapshot = counts.snapshot()
    assert (snapshot["requests"]["4xx"], snapshot["requests"]["5xx"]) == (1, 1)
    assert (snapshot["refusals"]["overload"], snapshot["refusals"]["418"]) == (1, 1)
    assert (snapshot["codes"]["503"], snapshot["codes"]["418"]) == (1, 1)
    assert snapshot["disconnects"] == 1


def test_a_timeout_is_no_refusal():
    """The application was called, and was too slow."""
    counts = counted(sample(504))
    counts.refused(504)
    snapshot = counts.snapshot()
    assert (snapshot["timeouts"], sum(snapshot["refusals"].values())) == (1, 0)
    assert snapshot["codes"]["504"] == 1


def test_a_snapshot_is_json_and_stays_as_it_is():
    """What is counted later does not change it."""
    counts = counted(sample(app=0.1))
    snapshot = counts.snapshot()
    before = json.loads(json.dumps(snapshot))
    counts.add(list(sample(app=0.2)))
    counts.refused(503)
    assert snapshot == before


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.lists(st.floats(0, 100), max_size=60), st.integers(0, 60))
def test_counting_at_once_and_in_parts_is_the_same(times, cut):
    """`merge` adds up what several have counted, and changes none of it."""
    samples = [sample(queue=time) for time in times]
    one, other = counted(*samples[:cut]).snapshot(), counted(*samples[cut:]).snapshot()
    whole = counted(*samples).snapshot()
    merged = merge([one, other])
    assert merged["seconds"]["queue"].pop("sum") == pytest.approx(
        whole["seconds"]["queue"].pop("sum")
    )
    assert merged == whole
    assert one == {**counted(*samples[:cut]).snapshot()}


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 2e-5, 1e-4, 1.1e-4, 0.02, 70.0]), min_size=5, max_size=5)
    )
)
def test_a_batch_is_counted_like_each_by_itself(rows):
    """Whatever is short, long, or just within the first bound."""
    samples = [Sample(200, 1, *row) for row in rows]
    timed = counted(*samples).snapshot()["seconds"]
    for number, phase in enumerate(PHASES):
        times = [row[number] for row in rows]
        assert timed[phase]["sum"] == pytest.approx(sum(times))
        below = [sum(time <= bound for time in times) for bound in BOUNDS]
        assert timed[phase]["buckets"] == [*below, len(times)]


def test_merging_nothing():
    """The sum of none is empty, and a key that only one has is kept."""
    assert merge([]) == {}
    assert merge([{"a": 1}, {"a": 2, "b": {"c": [1, 2]}}, {"b": {"c": [1, 1]}}]) == {
        "a": 3,
        "b": {"c": [2, 3]},
    }


@pytest.mark.parametrize(
    ("times", "share", "expected"),
    [
        ([], 0.5, 0.0),
        ([0.002] * 10, 0.5, 0.00175),
        ([0.002] * 10, 1.0, 0.0025),
        ([0.00005] * 9 + [0.3], 0.5, 0.0001 * 5 / 9),
        ([0.00005] * 9 + [0.3], 0.99, 0.25 + 0.25 * 0.9),
        ([100.0], 0.5, 60.0),
    ],
)
def test_quantile(times, share, expected):
    """Spread evenly within the bucket; beyond the last bound, no more than the bound."""
    buckets = counted(*(sample(app=t) for t in times)).snapshot()["seconds"]["app"]["buckets"]
    assert quantile(share, buckets) == pytest.approx(expected)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.lists(st.floats(0, 50), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_in_the_bucket_of_the_true_one(times, share):
    """It may be off by the width of a bucket and no more."""
    buckets = counted(*(sample(app=t) for t in times)).snapshot()["seconds"]["app"]["buckets"]
    rank = -(-share * len(times) // 1)
    true = sorted(times)[int(rank) - 1]
    upper = next(bound for bound in BOUNDS if true <= bound)
    lower = max([0.0, *(bound for bound in BOUNDS if bound < true)])
    assert lower <= quantile(share, buckets) <= upper + 1e-9
