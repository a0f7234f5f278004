"""Forms, JSON, uploads, streaming and downloads with Bottle.

Run it with ``aiowsgi --app-dir examples bottle_app``.
"""

import json
from pathlib import Path
from time import sleep
from urllib.parse import quote, unquote

from bottle import Bottle, HTTPResponse, request, response, static_file
from shared import checked, page

DOWNLOAD = Path(__file__)

app = Bottle()


@app.get("/")
def index():
    """Greet whoever has given a name before."""
    return page("Bottle", unquote(request.get_cookie("name", "")))


@app.post("/name")
def remember():
    """Take a form, set a cookie, redirect."""
    answer = HTTPResponse(status=303, Location="/")
    answer.set_cookie("name", quote(request.forms.name), httponly=True, samesite="lax")
    return answer


@app.post("/sum")
def add():
    """Take JSON and answer with JSON."""
    return {"sum": sum(request.json)}


@app.post("/upload")
def upload():
    """Take files of a form; Bottle keeps large ones in temporary files."""
    response.content_type = "application/json"
    files = [{"name": part.raw_filename, **checked(part.file)} for part in request.files.values()]
    return json.dumps(files)


@app.put("/digest")
def digest():
    """Read a body of any length as it comes, in constant memory.

    ``request.body`` would keep all of it, and would undo the chunked coding that the server has
    undone already; ``wsgi.input`` ends with the body.
    """
    return checked(request.environ["wsgi.input"])


@app.get("/ticks")
def ticks():
    """Send a line every second; each leaves as soon as it is made."""
    response.content_type = "text/plain; charset=utf-8"
    for number in range(5):
        yield f"tick {number}\n"
        sleep(1)


@app.get("/download")
def download():
    """Have the server send a file, by sendfile where it can."""
    return static_file(DOWNLOAD.name, root=DOWNLOAD.parent, mimetype="text/plain", download=True)


@app.get("/fail")
def fail():
    """Raise: the client sees Bottle's 500, the log a traceback."""
    raise RuntimeError("this page always fails")
