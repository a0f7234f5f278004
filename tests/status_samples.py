"""A worker's report, for the tests of status, admin and ``aiowsgi top``."""

from __future__ import annotations

from aiowsgi.status.metrics import Counts, Sample

REQUEST = {
    "id": "r1",
    "worker": 7,
    "thread": "aiowsgi-thread-1",
    "where": "shop.py:3 yearly",
    "client": "192.0.2.1:5",
    "method": "GET",
    "path": "/reports/yearly",
    "age": 12.0,
    "phase": "application",
}

STACK = {
    "request": "r1",
    "worker": 7,
    "thread": "aiowsgi-thread-1",
    "what": "GET /reports/yearly HTTP/1.1",
    "age": 12.0,
    "text": '  File "threading.py", line 9, in run\n  File "shop.py", line 3, in yearly\n',
    "own": '  File "shop.py", line 3, in yearly\n',
    "where": "shop.py:3 yearly",
    "source": "with lock:",
}


def a_report():
    """Return a report with a value in every field."""
    counts = Counts()
    counts.add(list(Sample(200, 10, 0.0, 0.001, 0.2, 0.0, 0.201)))
    counts.add(list(Sample(503, 5, 0.0, 0.0, 0.0, 0.0, 0.0)))
    counts.refused(503)
    counts.disconnected()
    return {
        "counts": {**counts.snapshot(), "dropped": 3},
        "threads": {"busy": 2, "idle": 5, "detached": 1},
        "connections": {"idle": 4},
        "phases": {"application": 2},
        "queued": 6,
        "waited": 1.5,
        "unready": "",
        "stalled": 0.0,
        "certificate_expiry": 0.0,
        "cpu": 2.5,
        "descriptors": 20,
        "in_flight": 2,
        "rss": 1000,
        "uptime": 1.0,
        "requests": [],
    }
