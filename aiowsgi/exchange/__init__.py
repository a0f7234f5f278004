"""One request and its response, shared by the event loop and one worker thread.

Here are the objects that both threads use, and each module says which thread may call what, under
which lock. Sockets are read and connections are made in ``connection``, threads are started in
``threads``, and the WSGI protocol is in ``wsgi``.

======================  ======================  ====================  ============================
what                    written by              read by               by means of
======================  ======================  ====================  ============================
``Exchange`` (request,  the event loop, before  the worker thread     the queue of the pool
body)                   it is submitted
``AppContext``          the event loop, once    worker threads, for   an attribute
``.draining``           (to True)               each response head
response bytes          the worker thread       the kernel; what it   ``ResponseOutput``, its lock
                                                did not take: the
                                                event loop
end of a response       the thread that sends   the event loop        ``ResponseOutput``, its state
                        the last byte
``EnvironBuilder``      the worker thread of    the worker thread of  the order of the exchanges,
                        a request               the next request      which the event loop sees to
request body            the event loop, and     the worker thread     ``StreamedBody``, its lock
                        the reading thread
disconnect              the event loop          the worker thread,    ``DisconnectEvent``
                                                and the application's
interrupt               the event loop          the worker thread     ``InterruptibleSection``
wake-up                 worker threads          the event loop        ``threads.wakeups.Wakeups``
access log records      worker threads and the  the writer's thread   ``logs.writer.LogWriter``
                        event loop
======================  ======================  ====================  ============================

A lock is held for a few instructions, or for one system call that does not wait, and never while
the application's code runs. Locks are taken in this order only: that of a ``StreamedBody``, of a
``ResponseOutput``, of the ``MemoryBudget``.
"""
