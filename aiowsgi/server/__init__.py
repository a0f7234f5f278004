"""The server of one process: ``aiowsgi.Server``.

It owns the listening sockets, the connections and the worker threads, starts them and ends them.
Signals, worker processes and blocking calls do not belong here: see ``supervisor``.
"""
