"""The smallest WSGI application: ``aiowsgi --app-dir examples hello:app``."""


def app(environ, start_response):
    """Answer every request with the same text (PEP 3333)."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello, world!\n"]
