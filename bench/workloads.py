"""The table of workloads: which application, how it is loaded, and which figures are shown.

The README says what question each of them answers; ``measures.py`` gets the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.apps import BODY_SIZE
from bench.measures import (
    BUSY,
    BUSY_THREADS,
    IDLE,
    KEPT_CALLS,
    OPEN,
    STREAMS,
    WAIT_THREADS,
    downloads,
    flat,
    idle,
    keep_alive,
    neighbours,
    requests,
    start,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.measures import Measure


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a sample: its key, its column's title with the unit, and how to show it."""

    key: str
    title: str
    digits: int = 0
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Workload:
    """One question put to every server."""

    name: str
    title: str
    app: str
    measure: Measure
    metrics: tuple[Metric, ...]
    """In the order of the table's columns; the first is plotted and compared."""
    threads: int = 4
    also: tuple[str, ...] = ()
    """Servers that only this workload adds."""


RATE = Metric("rate", "requests/s")
P50 = Metric("p50", "p50 µs", higher_is_better=False)
P99 = Metric("p99", "p99 µs", higher_is_better=False)
CPU = Metric("cpu", "CPU µs/request", digits=1, higher_is_better=False)
MEGABYTES = Metric("megabytes", "MB/s")
BESIDE = Metric("beside", "large requests/s", digits=1)
SERVER_BUSY = Metric("server_busy", "server busy %", higher_is_better=False)
LOAD_BUSY = Metric("load_busy", "load busy %", higher_is_better=False)


def _flat_metrics() -> Iterator[Metric]:
    yield Metric("growth", f"cost at {OPEN[-1]:,} ÷ at 1", digits=2, higher_is_better=False)
    for count in OPEN:
        yield Metric(f"cpu_{count}", f"CPU µs at {count:,}", digits=1, higher_is_better=False)


SMALL_METRICS = (RATE, P50, P99, CPU, SERVER_BUSY)
TRANSFER_METRICS = (MEGABYTES, P50, P99, SERVER_BUSY, LOAD_BUSY)
KEEP_ALIVE_METRICS = (
    Metric("ratio", "kept ÷ new", digits=2),
    Metric("kept", "httperf kept, requests/s"),
    Metric("new", "httperf new, requests/s"),
    Metric("ab_kept", "ab -k, requests/s"),
    Metric("ab_new", "ab, requests/s"),
    Metric("ab_count", f"ab kept of {KEPT_CALLS:,}"),
)
IDLE_METRICS = (
    RATE,
    P99,
    Metric("alone", "requests/s without idle"),
    Metric("ratio", "with ÷ without", digits=2),
    Metric("kept", f"kept of {IDLE:,}"),
    Metric("kib", "KiB a connection", digits=1, higher_is_better=False),
)
START_METRICS = (
    Metric("start", "start to first answer, ms", higher_is_better=False),
    Metric("rss", "resident, MB", digits=1, higher_is_better=False),
    Metric("pss", "proportional, MB", digits=1, higher_is_better=False),
)

_SMALL = "bench.apps:small"
_LOG = ("aiowsgi-httptools+log",)
_UPLOAD = f"upload {BODY_SIZE}"
_CHUNKED = f"chunked {BODY_SIZE}"

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "small",
            f"Small response, {BUSY} kept connections",
            _SMALL,
            requests("unique", BUSY),
            SMALL_METRICS,
            also=_LOG,
        ),
        Workload(
            "varying",
            "The same, and a field's value differs each time",
            _SMALL,
            requests("varying", BUSY),
            SMALL_METRICS,
        ),
        Workload(
            "mixed",
            "The same, and each request has other fields than the one before",
            _SMALL,
            requests("mixed", BUSY),
            SMALL_METRICS,
        ),
        Workload(
            "one",
            "One kept connection: latency",
            _SMALL,
            requests("unique", 1),
            (P50, P99, RATE, CPU),
        ),
        Workload(
            "keepalive",
            "10,000 bytes on a kept connection and on new ones, one after the other",
            "bench.apps:ten_kilobytes",
            keep_alive,
            KEEP_ALIVE_METRICS,
        ),
        Workload(
            "new",
            f"Small response, a new connection for each request, {BUSY} at a time",
            _SMALL,
            requests("close", BUSY),
            SMALL_METRICS,
        ),
        Workload(
            "flask",
            f"Flask JSON, {BUSY} kept connections",
            "bench.flask_app:app",
            requests("unique", BUSY),
            SMALL_METRICS,
        ),
        Workload(
            "wait",
            f"Waiting 10 ms, {WAIT_THREADS} threads, {2 * WAIT_THREADS} connections",
            "bench.apps:wait",
            requests("unique", 2 * WAIT_THREADS),
            (Metric("share", "share of the ideal", digits=3), *SMALL_METRICS),
            threads=WAIT_THREADS,
        ),
        Workload(
            "busy",
            "A small request every 10 ms beside three clients whose requests compute for 50 ms",
            "bench.apps:busy",
            neighbours,
            (P50, P99, BESIDE, SERVER_BUSY),
            threads=BUSY_THREADS,
        ),
        Workload(
            "download",
            f"Download of 8 MiB in 64 KiB blocks, {STREAMS} connections",
            "bench.apps:download",
            downloads(STREAMS),
            TRANSFER_METRICS,
        ),
        Workload(
            "download-chunked",
            f"The same without a declared length, {STREAMS} connections",
            "bench.apps:download_chunked",
            downloads(STREAMS),
            TRANSFER_METRICS,
        ),
        Workload(
            "download-file",
            f"Download of a file of 8 MiB by wsgi.file_wrapper, {STREAMS} connections",
            "bench.apps:download_file",
            downloads(STREAMS),
            TRANSFER_METRICS,
        ),
        Workload(
            "upload",
            f"Upload of 8 MiB, {STREAMS} connections",
            "bench.apps:upload",
            requests(_UPLOAD, STREAMS),
            TRANSFER_METRICS,
        ),
        Workload(
            "upload-chunked",
            f"Upload of 8 MiB in the chunked coding, {STREAMS} connections",
            "bench.apps:upload",
            requests(_CHUNKED, STREAMS),
            TRANSFER_METRICS,
        ),
        Workload(
            "idle",
            f"{BUSY} busy connections beside {IDLE:,} idle ones",
            _SMALL,
            idle,
            IDLE_METRICS,
        ),
        Workload(
            "flat",
            "Cost of a request on one busy connection as open ones grow",
            _SMALL,
            flat,
            tuple(_flat_metrics()),
        ),
        Workload("start", "Start and rest", _SMALL, start, START_METRICS),
    )
}
"""Every workload by name, in the order of a full run."""
