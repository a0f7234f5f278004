"""Forms, JSON, uploads, streaming and downloads with Django, in a single file.

Run it with ``aiowsgi --app-dir examples django_app``. A project made by ``django-admin`` is served
in the same way: ``aiowsgi project.wsgi``.
"""

import json
from pathlib import Path
from time import sleep
from urllib.parse import quote, unquote

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path
from django.views.decorators.http import require_POST, require_safe
from shared import checked, page

DOWNLOAD = Path(__file__)

settings.configure(
    ALLOWED_HOSTS=["*"],
    # Forms here change nothing but a cookie; yours want django.middleware.csrf.CsrfViewMiddleware.
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="an example has no secrets",
    # By default Django logs errors to nobody unless DEBUG is set.
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "loggers": {"django": {"handlers": ["console"], "level": "ERROR"}},
    },
)


@require_safe
def index(request):
    """Greet whoever has given a name before."""
    return HttpResponse(page("Django", unquote(request.COOKIES.get("name", ""))))


@require_POST
def remember(request):
    """Take a form, set a cookie, redirect."""
    response = HttpResponseRedirect("/")
    response.status_code = 303
    response.set_cookie("name", quote(request.POST["name"]), httponly=True, samesite="Lax")
    return response


@require_POST
def add(request):
    """Take JSON and answer with JSON."""
    return JsonResponse({"sum": sum(json.loads(request.body))})


@require_POST
def upload(request):
    """Take files of a form; Django keeps large ones in temporary files."""
    files = [{"name": file.name, **checked(file)} for file in request.FILES.values()]
    return JsonResponse(files, safe=False)


def digest(request):
    """Read a body of any length as it comes, in constant memory.

    Django reads as much as CONTENT_LENGTH says: of a chunked body it sees nothing, unless the
    server has all of it at the start. See ``--request-buffering``.
    """
    return JsonResponse(checked(request))


@require_safe
def ticks(request):
    """Send a line every second; each leaves as soon as it is made."""

    def lines():
        for number in range(5):
            yield f"tick {number}\n"
            sleep(1)

    return StreamingHttpResponse(lines(), content_type="text/plain")


@require_safe
def download(request):
    """Have the server send a file, by sendfile where it can."""
    return FileResponse(DOWNLOAD.open("rb"), as_attachment=True, content_type="text/plain")


@require_safe
def fail(request):
    """Raise: the client sees Django's 500, the log a traceback."""
    raise RuntimeError("this page always fails")


urlpatterns = [
    path("", index),
    path("name", remember),
    path("sum", add),
    path("upload", upload),
    path("digest", digest),
    path("ticks", ticks),
    path("download", download),
    path("fail", fail),
]

application = get_wsgi_application()
