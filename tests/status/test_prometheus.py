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
    assert samples["aiowsgi_requests_total", "2xx", "200"] == 1
    assert samples["aiowsgi_requests_total", "5xx", "503"] == 1
    assert samples["aiowsgi_refusals_total", "overload"] == 1
    assert samples["aiowsgi_threads", "detached"] == 1
    assert samples["aiowsgi_connections", "idle"] == 4
    assert samples["aiowsgi_requests_in_flight", "application"] == 2
    assert samples["aiowsgi_workers", "ready"] == 1
    assert samples["aiowsgi_disconnects_total",] == 1
    assert samples["aiowsgi_dropped_total",] == 3
    assert samples["aiowsgi_response_body_bytes_total",] == 15
    assert samples["aiowsgi_worker_restarts_total",] == 4
    assert samples["aiowsgi_timeouts_total",] == samples["aiowsgi_cut_total",] == 0
    assert samples["aiowsgi_saturated_seconds",] == 0
    assert samples["aiowsgi_start_time_seconds",] == -1
    assert samples["process_cpu_seconds_total", "1"] == 2.5
    assert samples["process_resident_memory_bytes", "1"] == 1000
    assert samples["process_open_fds", "1"] == 20
    assert "aiowsgi_certificate_expiry_seconds" not in families
    assert all(len(family.documentation.split()) >= 3 for family in families.values())


def test_what_is_known_of_the_build_and_the_certificate(form):
    """With TLS, and with what the endpoint adds."""
    report = a_report() | {"certificate_expiry": 2e9}
    tree = overview(ServerFacts(1.0, 2.0), [WorkerReport(1, 1, "ready", report)])
    _, samples = parsed(tree | {"version": "1.2", "python": "3.14.1"}, form)
    assert samples["aiowsgi_build_info", "1.2", "3.14.1"] == 1
    assert samples["aiowsgi_certificate_expiry_seconds",] == 2e9


@pytest.mark.parametrize("phase", PHASES)
def test_histograms(form, phase):
    """Cumulative buckets that end with +Inf, a count and a sum."""
    tree = overview(ServerFacts(1.0, 2.0), [WorkerReport(1, 1, "ready", a_report())])
    families, samples = parsed(tree, form)
    name = f"aiowsgi_{phase}_seconds"
    assert families[name].type == "histogram"
    assert samples[f"{name}_count",] == samples[f"{name}_bucket", "+Inf"] == 2
    bounds = [key[1] for key in samples if key[0] == f"{name}_bucket"]
    assert [float(bound) for bound in bounds] == [*BOUNDS, float("inf")]
    if phase == "app":
        assert samples[f"{name}_sum",] == 0.2


def test_nobody_there(form):
    """Before the first worker serves there are names and zeros already."""
    families, samples = parsed(overview(ServerFacts(1.0, 2.0, "starting"), []), form)
    assert samples["aiowsgi_ready",] == 0
    assert samples["aiowsgi_requests_total", "2xx", "200"] == 0
    assert families["aiowsgi_workers"].samples == []
