"""The server's side of PEP 3333: the environ, ``start_response``, and the application's iterable.

Also ``wsgi.file_wrapper``, ``wsgi.errors`` and importing the application. Sockets, threads and the
event loop do not belong here: responses are written to a `ResponseSink`.
"""
