"""The worker threads: the pool, which requests it is given, and the threads that hang.

`RequestScheduler` is what connections use. It stands in front of the queue for limited clients and
routes, batched submission, and the watchdog. Wake-ups of the event loop and the stacks of running
threads are here, too. What a worker thread does with a request is in ``exchange``.
"""
