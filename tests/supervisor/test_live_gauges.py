"""Prometheus metrics of several processes, with the library that writes them."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from sample_apps import READY, ask, workers, write_app
from support import eventually

from aiowsgi.supervisor.live_gauges import metrics_directory, remove_live_gauges


def test_names(tmp_path: Path) -> None:
    """Files of live gauges of that process are removed, and no others."""
    for name in ("gauge_livesum_7", "gauge_liveall_7", "gauge_all_7", "counter_7"):
        (tmp_path / f"{name}.db").touch()
    (tmp_path / "gauge_livesum_77.db").touch()
    remove_live_gauges(str(tmp_path), 7)
    remove_live_gauges(str(tmp_path / "none"), 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "counter_7.db",
        "gauge_all_7.db",
        "gauge_livesum_77.db",
    ]


def test_a_file_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """A directory that is not ours to write is said, and is no reason to stop."""
    (tmp_path / "gauge_livesum_7.db").touch()

    def refuse(_: str) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(os, "remove", refuse)
    remove_live_gauges(str(tmp_path), 7)
    assert "gauges of worker 7 stay: not yours" in caplog.text


def test_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable names it, in both of its spellings."""
    monkeypatch.chdir(tmp_path)
    assert metrics_directory({}) == ""
    assert metrics_directory({"PROMETHEUS_MULTIPROC_DIR": "m"}) == f"{tmp_path}/m"
    assert metrics_directory({"prometheus_multiproc_dir": "/m"}) == "/m"


APP = """
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

Gauge("live_workers", "Workers.", multiprocess_mode="livesum").set(1)
requests = Counter("hits", "Requests.")

def app(environ, start_response):
    requests.inc()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    body = generate_latest(registry)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.slow("processes")
@pytest.mark.parametrize("by_env_file", [False, True])
def test_workers(tmp_path: Path, by_env_file: bool) -> None:
    """A live gauge counts the workers that live, whatever became of others; a counter all."""
    pytest.importorskip("prometheus_client")
    directory = tmp_path / "metrics"
    directory.mkdir()
    write_app(tmp_path, APP)
    variables = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    arguments = ["-w", "2"]
    if by_env_file:
        ((name, value),) = variables.items()
        (tmp_path / "env").write_text(f"{name}={value}")
        variables.clear()
        arguments += ["--env-file", str(tmp_path / "env")]

    def shown(name: str) -> float:
        match = re.search(rf"^{name} (\S+)$", ask(address)[1], re.MULTILINE)
        assert match is not None
        return float(match[1])

    with workers(tmp_path, *arguments, **variables) as (program, address):
        assert shown("live_workers") == 2
        before = shown("hits_total")
        program.process.send_signal(signal.SIGHUP)
        program.expect("reloaded")
        victim = int(re.findall(READY, "\n".join(program.lines))[-1])
        os.kill(victim, signal.SIGKILL)
        program.expect(f"worker {victim} has ended: signal SIGKILL")
        program.expect(READY)
        eventually(lambda: shown("live_workers") == 2)
        assert shown("hits_total") > before
