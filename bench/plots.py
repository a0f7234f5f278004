"""Draws one chart for each workload, as PNG and SVG. Only `draw` imports matplotlib."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from bench.report import Results, Spread
    from bench.workloads import Metric, Workload

OURS = "#1f6f8b"
THEIRS = "#b8bfc6"
SIZE_INCHES = (8.0, 4.0)


def draw(workload: Workload, results: Results, folder: Path) -> list[Path]:
    """Draw the workload's first figure for each server that has one; returns the files written.

    Bars are medians, their whiskers minimum and maximum. Raises ImportError without matplotlib.
    """
    metric = workload.metrics[0]
    spreads = {
        server: spread
        for server in results.servers(workload.name)
        if (spread := results.spread(workload.name, server, metric.key))
    }
    if not spreads:
        return []
    figure = import_module("matplotlib.figure").Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(workload.title)
    if workload.name == "flat":
        _curves(axes, workload, results)
    else:
        _bars(axes, metric, spreads)
    return _save(figure, folder, workload.name)


def _bars(axes: Any, metric: Metric, spreads: dict[str, Spread]) -> None:
    names = list(spreads)[::-1]
    middles = [spreads[name].median for name in names]
    below = [spreads[name].median - spreads[name].low for name in names]
    above = [spreads[name].high - spreads[name].median for name in names]
    colours = [OURS if name.startswith("aiowsgi") else THEIRS for name in names]
    bars = axes.barh(names, middles, xerr=[below, above], color=colours, capsize=3)
    axes.bar_label(bars, fmt=f"{{:,.{metric.digits}f}}", padding=4)
    better = "more" if metric.higher_is_better else "less"
    axes.set_xlabel(f"{metric.title} (median, minimum and maximum; {better} is better)")
    axes.margins(x=0.15)


def _curves(axes: Any, workload: Workload, results: Results) -> None:
    """The cost of a request against the number of open connections."""
    metrics = {int(m.key.removeprefix("cpu_")): m for m in workload.metrics if m.key != "growth"}
    for server in results.servers(workload.name):
        points = [
            (count, spread.median)
            for count, metric in metrics.items()
            if (spread := results.spread(workload.name, server, metric.key))
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=server)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("open connections, one of them busy")
    axes.set_ylabel("processor time a request, µs")
    axes.legend(fontsize="small")


def _save(figure: Any, folder: Path, name: str) -> list[Path]:
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    for file in files:
        figure.savefig(file, dpi=150)
    return files
