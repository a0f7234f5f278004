"""One client's connection on the event loop.

From the handshake to the last byte: reading requests, collecting bodies, handing requests to worker
threads in order, enforcing deadlines, and closing. What worker threads do is in ``exchange``; how
connections are accepted is in ``server``.
"""
