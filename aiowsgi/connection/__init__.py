"""One client's connection on the event loop.

It reads requests, collects bodies, hands requests to worker threads in order, enforces time limits
and closes. What worker threads do is in ``exchange``; how connections are accepted is in
``server``; TLS is in ``net``.
"""
