"""A worker's report, for the tests of status, admin and ``aiowsgi top``."""

from __future__ import annotations

from aiowsgi.status.metrics import Counts, Sample

REQUEST = {
    "id": "r1",
    "worker": 7,
    "thread": "aiowsgi-worker-1",
    "client": "192.0.2.1:5",
    "method": "GET",
    "path": "/reports/yearly",
    "age": 12.0,
    "phase": "application",
}

STACK = {
    "request": "r1",
    "worker": 7,
    "thread": "aiowsgi-worker-1",
    "what": "GET /reports/yearly HTTP/1.1",
    "age": 12.0,
    "text": '  File "shop.py", line 3, in yearly\n',
}


def a_report():
    """Return a report with a value in every field."""
    counts = Counts()
    counts.add(list(Sample(200, 10, 0.0, 0.001, 0.2, 0.0, 0.201)))
    counts.refused(503, 5)
    counts.disconnected()
    return {
        "counts": {**counts.snapshot(), "dropped": 3},
        "threads": {"busy": 2, "idle": 5, "detached": 1},
        "connections": {"idle": 4},
        "phases": {"application": 2},
        "queued": 6,
        "waited": 1.5,
        "unready": "",
        "in_flight": 2,
        "rss": 1000,
        "uptime": 1.0,
        "requests": [],
    }
