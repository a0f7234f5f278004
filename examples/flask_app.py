"""Forms, JSON, uploads, streaming and downloads with Flask.

Run it with ``aiowsgi --app-dir examples flask_app``.
"""

from pathlib import Path
from time import sleep

from flask import Flask, redirect, request, send_file
from shared import checked, page

DOWNLOAD = Path(__file__)

app = Flask(__name__)


@app.get("/")
def index():
    """Greet whoever has given a name before."""
    return page("Flask", request.cookies.get("name"))


@app.post("/name")
def remember():
    """Take a form, set a cookie, redirect."""
    response = redirect("/", 303)
    response.set_cookie("name", request.form["name"], httponly=True, samesite="Lax")
    return response


@app.post("/sum")
def add():
    """Take JSON and answer with JSON."""
    return {"sum": sum(request.json)}


@app.post("/upload")
def upload():
    """Take files of a form; Werkzeug keeps large ones in temporary files."""
    return [{"name": file.filename, **checked(file)} for file in request.files.values()]


@app.put("/digest")
def digest():
    """Read a body of any length as it comes, in constant memory.

    Flask believes ``wsgi.input_terminated``, so that a chunked body needs no length.
    """
    return checked(request.stream)


@app.get("/ticks")
def ticks():
    """Send a line every second; each leaves as soon as it is made."""

    def lines():
        for number in range(5):
            yield f"tick {number}\n"
            sleep(1)

    return app.response_class(lines(), mimetype="text/plain")


@app.get("/download")
def download():
    """Have the server send a file, by sendfile where it can."""
    return send_file(DOWNLOAD, mimetype="text/plain", as_attachment=True)


@app.get("/fail")
def fail():
    """Raise: the client sees Flask's 500, the log a traceback."""
    raise RuntimeError("this page always fails")
