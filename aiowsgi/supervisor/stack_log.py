"""What USR2 writes to the log: the stacks of all busy threads of all workers, equal ones once.

The stacks come from the workers' reports (``server/status.py``), so no admin endpoint is needed. A
worker that does not answer, as C code holds the interpreter's lock, is sent USR2 itself: there,
``faulthandler`` writes the stacks to standard error, which needs no lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiowsgi.status.metrics import Tree

__all__ = ["silent_workers", "stack_text"]


def stack_text(overview: Tree) -> str:
    """The stacks in an overview (``status/aggregate.py``), the commonest first."""
    groups: dict[str, list[str]] = {}
    for stack in overview["stacks"]:
        line = f"worker {stack['worker']}: {stack['what']} for {stack['age']:.1f} s"
        groups.setdefault(stack["text"].rstrip(), []).append(line)
    if not groups:
        return "no thread is busy"
    largest_first = sorted(groups.items(), key=lambda group: -len(group[1]))
    return "\n".join(_group(text, lines) for text, lines in largest_first)


def _group(text: str, lines: list[str]) -> str:
    count = "1 thread" if len(lines) == 1 else f"{len(lines)} threads"
    return "\n".join([f"{count} at:", text, *lines])


def silent_workers(overview: Tree) -> list[int]:
    """Process ids of the workers that serve, and have not answered."""
    rows = overview["workers"]
    return [row["pid"] for row in rows if row["rss"] is None and row["state"] != "starting"]
