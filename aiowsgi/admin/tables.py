"""What ``aiowsgi top`` and its sisters show, as values: lines, and tables of cells.

Made of overviews (``status/aggregate.py``) and of nothing else; how it comes to a terminal is the
business of ``cli/top.py``. A client chooses its path, so no cell holds a character that a terminal
obeys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import sub
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.status.metrics import quantile

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = ["Table", "plain", "request_grid", "seconds", "stack_lines", "summary", "worker_grid"]

STUCK: Final = 10.0
SLOW: Final = 1.0
"""Ages, in seconds, from which a request is shown in red, and in yellow. Guesses."""


class Table(NamedTuple):
    """A table."""

    headings: Sequence[str]
    """Those that begin with ``>`` stand above numbers."""
    rows: Sequence[Sequence[str]]
    colours: Sequence[str]
    """Of each row: ``red``, ``yellow`` or none."""


def plain(grid: Table) -> list[str]:
    """The lines of a table, without colours."""
    names = [heading.removeprefix(">") for heading in grid.headings]
    rows = [names, *grid.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if heading.startswith(">") else cell.ljust(width)
            for heading, cell, width in zip(grid.headings, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def summary(now: Tree, before: Tree) -> list[str]:
    """The state of the whole in three lines; rates and latencies are since ``before``."""
    state = f"NOT READY: {_safe(now['unready'])}" if now["unready"] else "ready"
    threads = now["threads"]
    return [
        f"up {seconds(now['uptime'])}, {state}",
        _rates(now, before),
        (
            f"threads {threads['busy']} of {threads['busy'] + threads['idle']} busy,"
            f" {threads['detached']} detached   queue {now['queued']}"
            f"   connections {sum(now['connections'].values())}   memory {_bytes(now['rss'])}"
        ),
    ]


def _rates(now: Tree, before: Tree) -> str:
    took = max(now["time"] - before["time"], 1e-3)

    def rate(name: str, *keys: str) -> str:
        new, old = now["counts"][name], before["counts"][name]
        more = sum(new[key] - old.get(key, 0) for key in keys or new)
        return f"{max(0, more) / took:.1f}/s"

    new, old = (tree["counts"]["seconds"]["request"]["buckets"] for tree in (now, before))
    more = list(map(sub, new, old))
    times = "   ".join(
        f"p{share:.0%}".rstrip("%") + f" {seconds(quantile(share, more)) if more[-1] > 0 else '-'}"
        for share in (0.5, 0.9, 0.99)
    )
    return (
        f"requests {rate('requests')}   5xx {rate('requests', '5xx')}"
        f"   refused {rate('refusals')}   {times}"
    )


def worker_grid(now: Tree) -> Table:
    """The workers."""
    return Table(
        (">WORKER", "STATE", ">GEN", ">BUSY", ">DETACHED", ">QUEUED", ">MEMORY", ">UP"),
        [list(_worker(worker)) for worker in now["workers"]],
        [
            "red" if worker["state"] == "unresponsive" or worker["unready"] else ""
            for worker in now["workers"]
        ],
    )


def _worker(worker: Tree) -> Iterator[str]:
    yield from (str(worker["pid"]), worker["state"], str(worker["generation"]))
    threads = worker["threads"]
    if threads is None:
        yield from "-----"
        return
    yield f"{threads['busy']}/{threads['busy'] + threads['idle']}"
    yield from (str(threads["detached"]), str(worker["queued"]), _bytes(worker["rss"]))
    yield seconds(worker["uptime"])


def request_grid(requests: Sequence[Tree]) -> Table:
    """Requests in flight."""
    return Table(
        (">AGE", "PHASE", ">WORKER", "THREAD", "CLIENT", "REQUEST"),
        [
            [
                seconds(request["age"]),
                request["phase"],
                str(request["worker"]),
                request["thread"] or "-",
                _safe(request["client"] or "unix socket"),
                _safe(f"{request['method']} {request['path']}"),
            ]
            for request in requests
        ],
        [_colour(request["age"]) for request in requests],
    )


def _colour(age: float) -> str:
    return "red" if age >= STUCK else "yellow" if age >= SLOW else ""


def stack_lines(stacks: Sequence[Tree]) -> list[str]:
    """The stacks of busy threads, innermost call last."""
    lines = []
    for stack in stacks:
        lines.append(f"{seconds(stack['age'])}  {_safe(stack['what'])}")
        lines.append(f"{stack['thread']} of worker {stack['worker']}, request {stack['request']}")
        lines += [*map(_safe, stack["text"].splitlines()), ""]
    return lines or ["No thread is busy."]


# How figures are written


def seconds(value: float) -> str:
    """A span of time, with two or three figures."""
    if value < 1:
        return f"{value * 1e6:.0f} µs" if value < 0.001 else f"{value * 1e3:.3g} ms"
    if value < 60:
        return f"{value:.3g} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    if value < 86400:
        return f"{value // 3600:.0f} h {value % 3600 // 60:.0f} min"
    return f"{value // 86400:.0f} d {value % 86400 // 3600:.0f} h"


def _bytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def _safe(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
