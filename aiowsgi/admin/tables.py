"""What ``aiowsgi top``, ``requests`` and ``stacks`` show, as values: lines, and tables of cells.

They are made of the server's status (``status/aggregate.py``); ``cli/top.py`` writes them to the
terminal. A client chooses its path, so no cell contains a character that controls a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import sub
from typing import TYPE_CHECKING, Final, NamedTuple

from aiowsgi.status.metrics import quantile

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = [
    "Table",
    "fit",
    "plain",
    "request_grid",
    "seconds",
    "stack_lines",
    "summary",
    "worker_grid",
]

STUCK: Final = 10.0
SLOW: Final = 1.0
"""Ages, in seconds, from which a request is shown in red and in yellow. Guesses."""

GAP: Final = 2
"""Blanks between two columns."""

NARROWEST: Final = 12
"""Characters that are left of a column that gives way to the others."""

LONGEST_PLACE: Final = 36
"""Characters of a place in the code; of a longer one the end is shown."""


class Table(NamedTuple):
    """A table."""

    headings: Sequence[str]
    """Those that begin with ``>`` stand above numbers."""
    rows: Sequence[Sequence[str]]
    colours: Sequence[str]
    """The colour of each row: ``red``, ``yellow`` or none."""
    elastic: str = ""
    """The column whose cells are cut if the table is too wide."""
    optional: Sequence[str] = ()
    """Columns that are left out, the first one first, if cutting is not enough."""


def _widths(table: Table) -> list[int]:
    names = [heading.removeprefix(">") for heading in table.headings]
    return [max(map(len, column)) for column in zip(names, *table.rows, strict=True)]


def fit(table: Table, width: int) -> Table:
    """Make a table at most ``width`` characters wide, if its elastic column allows it."""
    widths = dict(zip(table.headings, _widths(table), strict=True))
    optional = list(table.optional)
    while True:
        total = sum(widths.values()) + GAP * (len(widths) - 1)
        elastic = widths.get(table.elastic, 0)
        room = elastic - (total - width)
        if room >= min(elastic, NARROWEST) or not optional:
            break
        del widths[optional.pop(0)]
    kept = [number for number, name in enumerate(table.headings) if name in widths]
    cut = list(table.headings).index(table.elastic) if table.elastic else -1
    rows = [
        [_cut(row[n], max(room, NARROWEST)) if n == cut else row[n] for n in kept]
        for row in table.rows
    ]
    return table._replace(headings=[table.headings[n] for n in kept], rows=rows)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def plain(table: Table) -> list[str]:
    """The lines of a table, without colours."""
    rows = [[heading.removeprefix(">") for heading in table.headings], *table.rows]
    widths = _widths(table)
    return [
        (" " * GAP)
        .join(
            cell.rjust(width) if heading.startswith(">") else cell.ljust(width)
            for heading, cell, width in zip(table.headings, row, widths, strict=True)
        )
        .rstrip()
        for row in rows
    ]


def summary(now: Tree, before: Tree) -> list[str]:
    """The state of the server in three lines; rates and latencies are since ``before``."""
    threads = now["threads"]
    return [
        f"up {seconds(now['uptime'])}, {_state(now)}",
        _rates(now, before),
        (
            f"threads {threads['busy']} of {threads['busy'] + threads['idle']} busy,"
            f" {threads['detached']} detached   queue {now['queued']}"
            f"   connections {sum(now['connections'].values())}   memory {_bytes(now['rss'])}"
        ),
    ]


def _state(now: Tree) -> str:
    if now["unready"]:
        return f"NOT READY: {_safe(now['unready'])}"
    if now["stalled"]:
        return (
            f"SATURATED: a worker has had no free thread for {seconds(now['stalled'])}"
            " while requests wait"
        )
    return "ready"


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
    workers = now["workers"]
    return Table(
        (">WORKER", "STATE", ">GEN", ">BUSY", ">DETACHED", ">QUEUED", ">MEMORY", ">UP"),
        [list(_worker(worker)) for worker in workers],
        ["red" if worker["unready"] else "yellow" * bool(worker["stalled"]) for worker in workers],
    )


def _worker(worker: Tree) -> Iterator[str]:
    state = "unready" if worker["unready"] else "saturated" if worker["stalled"] else ""
    ready = worker["state"] == "ready"
    yield from (str(worker["pid"]), state if ready and state else worker["state"])
    yield str(worker["generation"])
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
        (">AGE", "PHASE", ">WORKER", "WHERE", "CLIENT", "REQUEST"),
        [
            [
                seconds(request["age"]),
                request["phase"],
                str(request["worker"]),
                _place(request.get("where", "")),
                _safe(request["client"] or "unix socket"),
                _safe(f"{request['method']} {request['path']}"),
            ]
            for request in requests
        ],
        [_colour(request["age"]) for request in requests],
        elastic="REQUEST",
        optional=("CLIENT", "PHASE"),
    )


def _place(where: str) -> str:
    text = _safe(where) or "-"
    return text if len(text) <= LONGEST_PLACE else f"…{text[1 - LONGEST_PLACE :]}"


def _colour(age: float) -> str:
    return "red" if age >= STUCK else "yellow" if age >= SLOW else ""


def stack_lines(stacks: Sequence[Tree], *, whole: bool = False) -> list[str]:
    """The stacks of busy threads, innermost call last; equal ones once, the most frequent first.

    Only the calls of the application's own code are shown, unless ``whole`` or there are none.
    """
    groups: dict[str, list[Tree]] = {}
    for stack in stacks:
        text = stack["text"] if whole else stack["own"] or stack["text"]
        groups.setdefault(text, []).append(stack)
    lines = []
    for text, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        number = "1 request" if len(group) == 1 else f"{len(group)} requests"
        first = group[0]
        lines.append(f"{number} at {_safe(first['where'])} `{_safe(first['source'])}`")
        lines += [
            f"  {seconds(stack['age'])}  {_safe(stack['what'])}  id {_safe(stack['request'])},"
            f" {stack['thread']} of worker {stack['worker']}"
            for stack in sorted(group, key=lambda stack: -stack["age"])
        ]
        lines += [*map(_safe, text.splitlines()), ""]
    return lines or ["No thread is busy."]


# How figures are written


def seconds(value: float) -> str:
    """A span of time with two or three figures."""
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
