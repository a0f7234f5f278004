"""``manage.py runserver`` of the Django app: pages, static files, reload and a port in use."""

from __future__ import annotations

import os
import socket
import sys
import textwrap
from itertools import count
from pathlib import Path

import pytest
import requests
from processes import running
from support import PATIENCE, eventually

from aiowsgi.frameworks import django as app

pytestmark = pytest.mark.slow("processes")

SITE = """
    import sys
    from pathlib import Path

    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import path

    settings.configure(
        DEBUG=True,
        SECRET_KEY="for tests",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        STATIC_URL="static/",
        STATICFILES_DIRS=[str(Path(__file__).parent / "files")],
        INSTALLED_APPS=@APPS@,
    )
    urlpatterns = [path("", lambda request: HttpResponse("first"))]
    if __name__ == "__main__":
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
"""
WITH_FILES = ["aiowsgi.frameworks.django", "django.contrib.staticfiles"]


def make_site(folder: Path, apps: list[str]) -> Path:
    """A project in one file, and a static file."""
    (folder / "files").mkdir()
    (folder / "files" / "style.css").write_text("body {}")
    file = folder / "manage.py"
    file.write_text(textwrap.dedent(SITE).replace("@APPS@", repr(apps)))
    return file


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=PATIENCE, proxies={"http": ""})


STARTED = r"server at (http://\S+:\d+)"


@pytest.mark.parametrize("apps", [WITH_FILES, WITH_FILES[:1]])
def test_runserver(tmp_path, apps):
    """Pages come from worker threads, static files if their app is installed."""
    file = make_site(tmp_path, apps)
    command = [sys.executable, str(file), "runserver", "--noreload", "127.0.0.1:0"]
    with running(*command) as program:
        url = program.expect(STARTED)[1]
        page = get(url)
        assert (page.text, page.headers["Server"]) == ("first", "aiowsgi")
        static = get(f"{url}/static/style.css")
        assert (static.status_code, static.text[:4]) == (
            (200, "body") if apps == WITH_FILES else (404, static.text[:4])
        )


def test_reload(tmp_path):
    """A changed file restarts the server, by Django's own reloader."""
    file = make_site(tmp_path, WITH_FILES)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(sys.executable, str(file), "runserver", f"127.0.0.1:{port}") as site:
        url = site.expect(STARTED)[1]
        assert get(url).text == "first"
        file.write_text(file.read_text().replace("first", "second"))
        stamps = count(int(file.stat().st_mtime) + 1)

        def reloaded():
            # Again and again: the reloader may look for the first time after a change.
            os.utime(file, (stamp := next(stamps), stamp))
            try:
                return get(url).text == "second"
            except requests.ConnectionError:
                return False

        eventually(reloaded)


def test_port_in_use(tmp_path):
    """Django prints why it cannot listen, and exits with 1."""
    file = make_site(tmp_path, WITH_FILES)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, str(file), "runserver", "--noreload", address]
        with running(*command) as program:
            assert f"cannot listen on {address}" in program.expect(r"Error: (.*)")[1]
            assert program.process.wait(PATIENCE) == 1


def test_the_app_is_what_its_name_says():
    """The package is the app; it has no models."""
    assert "runserver" in (app.__doc__ or "")
    assert not (Path(app.__file__).parent / "models.py").exists()
