"""Compares kept with new connections: ``python -m bench.keepalive``.

A body of 10,000 bytes is fetched by httperf 2,000 times on one connection and then once on each of
1,000 connections, and by ApacheBench with and without ``-k``. A server that sends its head and body
in two small writes, or leaves Nagle's algorithm on, is slower on the kept connection than on new
ones: the second write waits for an acknowledgement that the client delays. Paste is such a server.
"""

from __future__ import annotations

import sys

from bench.__main__ import main

SERVERS = "aiowsgi-h11,aiowsgi-httptools,paste,waitress"

if __name__ == "__main__":
    sys.exit(main(["--only", "keepalive", "--servers", SERVERS, *sys.argv[1:]]))
