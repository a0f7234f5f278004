"""Metrics and status: counts requests, adds up several processes, writes the text for Prometheus.

It consists of pure functions and of a collector that any thread may call. The admin endpoint in
``admin`` serves the result over HTTP.
"""
