"""The lines of ``docs/frameworks.md`` that need packages of others: WhiteNoise, pytest plugins."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import requests
from support import PATIENCE

PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text()
BLOCKS = re.findall(r"^```py\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

pytest_plugins = ["pytester"]


def block(mark: str) -> str:
    """The only program of the page that has this in it."""
    (found,) = (text for text in BLOCKS if mark in text)
    return found


@pytest.mark.parametrize("mark", ["from flask", "WhiteNoise(Bottle()"])
def test_whitenoise(mark, serve_once, tmp_path, monkeypatch):
    """A file of the folder is served beside the application."""
    pytest.importorskip("whitenoise")
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "style.css").write_text("body {}")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "documented"}
    exec(block(mark), names)
    server = serve_once(names["app"])
    url = f"{server.url}/static/style.css"
    answer = requests.get(url, timeout=PATIENCE, proxies={"http": ""})
    assert (answer.status_code, answer.text) == (200, "body {}")
    missing = requests.get(f"{server.url}/other", timeout=PATIENCE, proxies={"http": ""})
    assert missing.status_code == 404


def test_whitenoise_in_django():
    """The middleware of the page exists."""
    pytest.importorskip("whitenoise")
    from django.utils.module_loading import import_string

    names: dict[str, list[str]] = {}
    exec(block("MIDDLEWARE"), names)
    assert all(map(import_string, names["MIDDLEWARE"]))


PAGE_FIXTURE = """
import urllib.request
import pytest

class Page:
    def goto(self, url):
        with urllib.request.urlopen(url) as response:
            self.text = response.read().decode()

    def title(self):
        return self.text

@pytest.fixture
def page():
    return Page()
"""
"""Stands for pytest-playwright's fixture, as far as the page uses it."""

INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


@pytest.mark.slow("processes")
def test_live_fixture(pytester):
    """The test of the page passes, with a page that reads instead of drawing."""
    pytester.makeconftest(PAGE_FIXTURE)
    pytester.makepyfile(
        app="def app(environ, start_response):\n    start_response('200 OK', [])\n"
        "    return [b'Shop']\n",
        test_title=block("test_title"),
    )
    pytester.makeini(INI)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:django")
    result.assert_outcomes(passed=1)


SETTINGS = """
    from pathlib import Path

    SECRET_KEY = "for tests"
    ROOT_URLCONF = "site_urls"
    ALLOWED_HOSTS = ["*"]
    INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(__file__).parent / "site.db"),
            "TEST": {"NAME": str(Path(__file__).parent / "test.db")},
        }
    }
"""
URLS = """
    from django.contrib.auth.models import Group
    from django.http import HttpResponse
    from django.urls import path

    def index(request):
        return HttpResponse(", ".join(Group.objects.values_list("name", flat=True)))

    urlpatterns = [path("", index)]
"""
BODY = """
    from django.contrib.auth.models import Group

    Group.objects.create(name="Shop")
    page.goto(site.url)
    assert page.title() == "Shop"
"""


@pytest.mark.slow("processes")
def test_pytest_django(pytester):
    """A test makes data, and the server's threads see it."""
    pytest.importorskip("pytest_django")
    program = block("test_list").replace("    ...\n", BODY)
    pytester.makeconftest(PAGE_FIXTURE)
    pytester.makepyfile(
        site_settings=textwrap.dedent(SETTINGS),
        site_urls=textwrap.dedent(URLS),
        test_list=program,
    )
    pytester.makeini(f"{INI}DJANGO_SETTINGS_MODULE = site_settings\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
