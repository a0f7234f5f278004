"""The admin endpoint: health, metrics and the status page, and a client for them.

It serves HTTP on a socket of its own, on the event loop, and never runs the application. What it
shows comes from ``status``; collecting it from worker processes is in ``supervisor``.
"""
