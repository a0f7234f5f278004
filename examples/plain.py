"""Forms, JSON, uploads, streaming and downloads without a framework, by PEP 3333 alone.

Run it with ``aiowsgi --app-dir examples plain``. The other applications here do the same with a
framework, and answer the same requests.
"""

import json
from email.parser import BytesFeedParser
from email.policy import HTTP
from http.cookies import SimpleCookie
from io import BytesIO
from pathlib import Path
from time import sleep
from urllib.parse import parse_qs, quote, unquote

from shared import checked, page

DOWNLOAD = Path(__file__)
BLOCK = 64 * 1024
TEXT = ("Content-Type", "text/plain; charset=utf-8")


def app(environ, start_response):
    """Choose what answers the request, and let it."""
    allowed, view = ROUTES.get(environ["PATH_INFO"], ("GET HEAD", None))
    if view is None:
        start_response("404 Not Found", [TEXT])
        return [b"There is no such page.\n"]
    if environ["REQUEST_METHOD"] not in allowed.split():
        start_response("405 Method Not Allowed", [TEXT, ("Allow", allowed.replace(" ", ", "))])
        return [f"Only {allowed} can be used here.\n".encode()]
    return view(environ, start_response)


def index(environ, start_response):
    """Greet whoever has given a name before."""
    cookies = SimpleCookie(environ.get("HTTP_COOKIE", ""))
    name = unquote(cookies["name"].value) if "name" in cookies else ""
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [page("Plain WSGI", name).encode()]


def remember(environ, start_response):
    """Take a form, set a cookie, redirect."""
    form = parse_qs(environ["wsgi.input"].read().decode())
    cookie = f"name={quote(form.get('name', [''])[0])}; HttpOnly; SameSite=Lax"
    start_response("303 See Other", [("Location", "/"), ("Set-Cookie", cookie)])
    return []


def add(environ, start_response):
    """Take JSON and answer with JSON."""
    numbers = json.load(environ["wsgi.input"])
    return _json(start_response, {"sum": sum(numbers)})


def upload(environ, start_response):
    """Take files of a form."""
    parser = BytesFeedParser(policy=HTTP)
    parser.feed(f"Content-Type: {environ['CONTENT_TYPE']}\r\n\r\n".encode())
    while block := environ["wsgi.input"].read(BLOCK):
        parser.feed(block)
    files = []
    for part in parser.close().iter_parts():
        content = BytesIO(part.get_payload(decode=True))
        files.append({"name": part.get_filename(), **checked(content)})
    return _json(start_response, files)


def digest(environ, start_response):
    """Read a body of any length as it comes, in constant memory."""
    return _json(start_response, checked(environ["wsgi.input"]))


def ticks(environ, start_response):
    """Send a line every second; each leaves as soon as it is made."""
    start_response("200 OK", [TEXT])
    for number in range(5):
        yield f"tick {number}\n".encode()
        sleep(1)


def download(environ, start_response):
    """Have the server send a file, by sendfile where it can."""
    length = str(DOWNLOAD.stat().st_size)
    disposition = ("Content-Disposition", f'attachment; filename="{DOWNLOAD.name}"')
    start_response("200 OK", [TEXT, ("Content-Length", length), disposition])
    return environ["wsgi.file_wrapper"](DOWNLOAD.open("rb"), BLOCK)


def fail(environ, start_response):
    """Raise: the client sees a plain 500, the log a traceback."""
    raise RuntimeError("this page always fails")


def _json(start_response, value):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(value).encode()]


ROUTES = {
    "/": ("GET HEAD", index),
    "/name": ("POST", remember),
    "/sum": ("POST", add),
    "/upload": ("POST", upload),
    "/digest": ("PUT", digest),
    "/ticks": ("GET HEAD", ticks),
    "/download": ("GET HEAD", download),
    "/fail": ("GET HEAD", fail),
}
