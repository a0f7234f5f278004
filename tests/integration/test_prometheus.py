"""``examples/prometheus``: Prometheus accepts the files, and they name metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from status_samples import a_report
from tools import needs_tool, tool

from aiowsgi.status.aggregate import ServerFacts, WorkerReport, overview
from aiowsgi.status.prometheus import exposition

FOLDER = Path(__file__).parents[2] / "examples" / "prometheus"
DASHBOARD = FOLDER / "grafana-dashboard.json"
BUILT_IN = re.compile(r"\b(?:aiowsgi|process)_[a-z_]+\b")


@pytest.fixture
def text():
    """All metrics of a server with TLS."""
    report = a_report() | {"certificate_expiry": 2e9}
    tree = overview(ServerFacts(1.0, 2.0), [WorkerReport(1, 1, "ready", report)])
    return exposition(tree | {"version": "1", "python": "3"}, openmetrics=False)


def promtool(*arguments, given=None):
    """Run promtool in the folder; returns what it says."""
    done = subprocess.run(
        [tool("promtool"), *arguments],
        cwd=FOLDER,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_tool("promtool")
@pytest.mark.slow("processes")
def test_rules():
    """The rules are valid, and a quiet and a hung server fire what their tests say."""
    assert "SUCCESS" in promtool("check", "rules", "aiowsgi-rules.yml")
    assert "SUCCESS" in promtool("test", "rules", "aiowsgi-tests.yml")


@needs_tool("promtool")
@pytest.mark.slow("processes")
def test_metrics_are_as_prometheus_wants_them(text):
    """Names, types and helps pass the linter."""
    assert promtool("check", "metrics", given=text) == ""


def test_every_metric_that_is_used_exists(text):
    """In rules, tests and dashboard; a metric that was renamed would alert on nothing."""
    names = set(re.findall(r"^([a-z_]+?)(?:\{| )", text, re.MULTILINE))
    for path in (FOLDER / "aiowsgi-rules.yml", FOLDER / "aiowsgi-tests.yml", DASHBOARD):
        used = {
            name
            for name in BUILT_IN.findall(path.read_text())
            # Recorded by the rules themselves.
            if not re.search(rf"instance:{name}\b", path.read_text())
        }
        assert used
        assert used <= names, path


def test_the_dashboard():
    """Each panel has a place of its own, a data source that can be chosen, and a query."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) == len({panel["id"] for panel in panels})
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "job", "instance"}
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all('job="$job"' in target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("name", ["prometheus.yml", "podmonitor.yaml", "aiowsgi-rules.yml"])
def test_yaml(name):
    """The files can be read."""
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load((FOLDER / name).read_text())
