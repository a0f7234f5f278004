"""The thread boundary: one request and its response, shared by the event loop and one worker
thread.

======================  ============================  ==========================  ==============
what                    written by                    read by                     by means of
======================  ============================  ==========================  ==============
``Exchange`` (request,  the loop, before the pool     the worker                  the pool's
peer, body)             has it                                                    queue
``Service.draining``    the loop, once, to True       workers, for each head      an attribute
response bytes          the worker                    the kernel; what it did     ``Outlet``,
                                                      not take: the loop          its lock
end of a response       who sends the last byte       the loop                    ``Outlet``, its
                                                                                  attribute set
                                                                                  last
``PeerEnviron``         the worker that has the       the worker that has the     the order of
                        connection's request          next one; between them      the exchanges
                                                      the loop
request body            the loop; the kernel, where   the worker                  ``StreamedBody``,
                        the worker receives                                       its lock
disconnect              the loop                      the worker, and threads of  ``Disconnected``
                                                      the application's
attention wanted        the worker                    the loop                    ``Wakeups``
access log records      workers and the loop          the writer's thread         ``LogWriter``
======================  ============================  ==========================  ==============

Nowhere else in the project do ``threading`` and ``call_soon_threadsafe`` appear, but in
``threads/pool.py``, which owns the worker threads; a test holds this. Locks are held for a few
instructions or one system call that cannot wait, and never while the application's code runs. No
other lock is taken meanwhile, but for an ``Outlet``'s by who holds a ``StreamedBody``'s: in that
order only.
"""
