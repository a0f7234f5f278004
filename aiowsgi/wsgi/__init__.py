"""PEP 3333, the server's side: the environ, ``start_response``, and the application's iterable.

Also ``wsgi.file_wrapper``, ``wsgi.errors`` and importing the application. Sockets, threads and the
event loop do not belong here: a response is written to a sink that the caller passes.
"""
