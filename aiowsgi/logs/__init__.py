"""The diagnostic log and the access log.

It sets up ``logging``, formats an access log line of each finished request, and writes these lines
from a thread of its own. Metrics are in ``status``.
"""
