"""Counting requests, adding up the counts of several processes, and the text that Prometheus reads.

Pure functions and a collector that any thread may call. Serving the result over HTTP is the admin
endpoint's part, in ``admin``.
"""
