"""Forms, JSON, uploads, streaming and downloads with Pyramid.

Run it with ``aiowsgi --app-dir examples pyramid_app``.
"""

from pathlib import Path
from time import sleep
from urllib.parse import quote, unquote

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.response import FileResponse, Response
from shared import checked, page

DOWNLOAD = Path(__file__)


def index(request):
    """Greet whoever has given a name before."""
    return Response(page("Pyramid", unquote(request.cookies.get("name", ""))))


def remember(request):
    """Take a form, set a cookie, redirect."""
    response = HTTPSeeOther("/")
    response.set_cookie("name", quote(request.POST["name"]), httponly=True, samesite="Lax")
    return response


def add(request):
    """Take JSON and answer with JSON."""
    return {"sum": sum(request.json_body)}


def upload(request):
    """Take files of a form; WebOb keeps large ones in temporary files."""
    return [{"name": part.filename, **checked(part.file)} for part in request.POST.values()]


def digest(request):
    """Read a body of any length as it comes, in constant memory."""
    return checked(request.body_file)


def ticks(request):
    """Send a line every second; each leaves as soon as it is made."""

    def lines():
        for number in range(5):
            yield f"tick {number}\n".encode()
            sleep(1)

    return Response(app_iter=lines(), content_type="text/plain", charset="utf-8")


def download(request):
    """Have the server send a file, by sendfile where it can."""
    response = FileResponse(DOWNLOAD, request, content_type="text/plain")
    response.content_disposition = f'attachment; filename="{DOWNLOAD.name}"'
    return response


def fail(request):
    """Raise: Pyramid leaves the 500 and the traceback in the log to the server."""
    raise RuntimeError("this page always fails")


def _application():
    with Configurator() as config:
        for view, path, method, renderer in ROUTES:
            config.add_route(view.__name__, path)
            config.add_view(
                view, route_name=view.__name__, request_method=method, renderer=renderer
            )
    return config.make_wsgi_app()


ROUTES = [
    (index, "/", "GET", None),
    (remember, "/name", "POST", None),
    (add, "/sum", "POST", "json"),
    (upload, "/upload", "POST", "json"),
    (digest, "/digest", "PUT", "json"),
    (ticks, "/ticks", "GET", None),
    (download, "/download", "GET", None),
    (fail, "/fail", "GET", None),
]

app = _application()
