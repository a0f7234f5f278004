"""The worker threads: the pool, admission to it, and what becomes of threads that hang.

The queue before the pool, batched submission from the event loop, coalesced wake-ups of the loop,
and the stacks of running threads. What a worker thread does with a request is in ``exchange``.
"""
