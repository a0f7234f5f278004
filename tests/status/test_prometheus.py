"""The metrics as text, read by the parsers of Prometheus' own client library."""

from __future__ import annotations

import pytest
from status_samples import a_report

from aiowsgi.status.aggregate import ServerFacts, WorkerReport, overview
from aiowsgi.status.metrics import BOUNDS, PHASES
from aiowsgi.status.prometheus import exposition

openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")
text = pytest.importorskip("prometheus_client.parser")

PARSERS = {
    True: openmetrics.text_string_to_metric_families,
    False: text.text_string_to_metric_families,
}


def parsed(tree, form):
    """Families by name, and samples by name and labels."""
    families = {family.name: family for family in PARSERS[form](exposition(tree, openmetrics=form))}
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    return families, samples


@pytest.fixture(params=[True, False], ids=["openmetrics", "text"])
def form(request):
    """Both formats."""
    return request.param


def test_values(form):
    """Every figure arrives under its conventional name."""
    tree = overview(ServerFacts(1.0, 2.0, "", 4), [WorkerReport(1, 1, "ready", a_report())])
    families, samples = parsed(tree, form)
    assert {
        key: samples[key]
        for key in samples
        if key[0] in {"aiowsgi_ready", "aiowsgi_queue_depth", "aiowsgi_resident_memory_bytes"}
    } == {
        ("aiowsgi_ready",): 1,
        ("aiowsgi_queue_depth",): 6,
        ("aiowsgi_resident_memory_bytes",): 1000,
    }
    assert samples["aiowsgi_queue_oldest_seconds",] == 1.5
    assert samples["aiowsgi_requests_total", "2xx"] == 1
    assert samples["aiowsgi_requests_total", "5xx"] == 1
    assert samples["aiowsgi_refusals_total", "overload"] == 1
    assert samples["aiowsgi_threads", "detached"] == 1
    assert samples["aiowsgi_connections", "idle"] == 4
    assert samples["aiowsgi_requests_in_flight", "application"] == 2
    assert samples["aiowsgi_workers", "ready"] == 1
    assert samples["aiowsgi_disconnects_total",] == 1
    assert samples["aiowsgi_dropped_total",] == 3
    assert samples["aiowsgi_response_body_bytes_total",] == 15
    assert samples["aiowsgi_worker_restarts_total",] == 4
    assert all(family.documentation for family in families.values())


@pytest.mark.parametrize("phase", PHASES)
def test_histograms(form, phase):
    """Cumulative buckets that end with +Inf, a count and a sum."""
    tree = overview(ServerFacts(1.0, 2.0), [WorkerReport(1, 1, "ready", a_report())])
    families, samples = parsed(tree, form)
    name = f"aiowsgi_{phase}_seconds"
    assert families[name].type == "histogram"
    assert samples[f"{name}_count",] == samples[f"{name}_bucket", "+Inf"] == 1
    bounds = [key[1] for key in samples if key[0] == f"{name}_bucket"]
    assert [float(bound) for bound in bounds] == [*BOUNDS, float("inf")]
    if phase == "app":
        assert samples[f"{name}_sum",] == 0.2


def test_nobody_there(form):
    """Before the first worker serves there are names and zeros already."""
    families, samples = parsed(overview(ServerFacts(1.0, 2.0, "starting"), []), form)
    assert samples["aiowsgi_ready",] == 0
    assert samples["aiowsgi_requests_total", "2xx"] == 0
    assert families["aiowsgi_workers"].samples == []
