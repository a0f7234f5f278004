"""Applications of the frameworks, with the clients that people use: requests, httpx and curl.

The applications are those of ``examples/``; all answer the same requests.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import warnings
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Semaphore

import httpx
import pytest
import requests
from support import PATIENCE
from tools import needs_tool, tool

from aiowsgi.wsgi.importer import load_application

EXAMPLES = Path(__file__).parents[2] / "examples"

# Bottle and WebOb leave the closing of their temporary files to the garbage collector, of which
# Python 3.14 warns.
leaves_files = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NAMES = [
    "plain",
    "flask_app",
    "django_app",
    pytest.param("bottle_app", marks=leaves_files),
    pytest.param("pyramid_app", marks=leaves_files),
]
KNOW_RANGES = {"flask_app", "bottle_app", "pyramid_app"}

SMALL, LARGE = 10_000, 3_000_000
"""Bytes of bodies that are complete when the application starts, and that are streamed."""


class Site:
    """One of the applications, being served."""

    def __init__(self, name, serve, options):
        self.name = name
        with warnings.catch_warnings():
            # Pyramid and WebOb import what is deprecated. Warnings while serving still count.
            warnings.simplefilter("ignore")
            app = load_application(name, factory=False, app_dir=str(EXAMPLES))
        self.module = sys.modules[name]
        self.server = serve(app, **options)
        self.url = self.server.url


PARSER_BESIDE = {"uvloop": "h11", "asyncio": "httptools"}
"""Each of the loops and of the parsers once: neither knows of the other."""


@pytest.fixture
def serve(serve_on, loop_name):
    """Serve applications on each loop."""
    return partial(serve_on, loop_name, PARSER_BESIDE[loop_name])


@pytest.fixture
def options():
    """Options of the server, which a test may parametrize."""
    return {}


@pytest.fixture(params=NAMES)
def site(request, serve, options, monkeypatch):
    """Each application in turn."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return Site(request.param, serve, options)


@pytest.fixture
def session():
    """A client with cookies and kept connections."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def client():
    """The same of the other library."""
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        yield client


def content(size):
    """Bytes of every value, the same in each run."""
    return random.Random(size).randbytes(size)


def described(data):
    """What an application says of bytes that it has read."""
    return {"size": len(data), "sha256": sha256(data).hexdigest()}


# Small requests


def test_form(site, session):
    """A form is read, a cookie set and sent back, a redirect followed."""
    response = session.post(f"{site.url}/name", {"name": "Zoë <Œ>"})
    assert [earlier.status_code for earlier in response.history] == [303]
    assert response.url == f"{site.url}/"
    assert "<h1>Hello, Zoë &lt;Œ&gt;!</h1>" in response.text


def test_json(site, client):
    """JSON is taken and given."""
    assert client.post(f"{site.url}/sum", json=[1, 2, 39]).json() == {"sum": 42}


def test_head(site, session):
    """HEAD has the fields of GET and no body, and the connection is good for another request."""
    get = session.get(f"{site.url}/")
    head = session.head(f"{site.url}/")
    for response in (get, head):
        del response.headers["Date"]
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == get.headers
    assert session.get(f"{site.url}/").content == get.content


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("GET", "/nowhere", {404}),
        # To Pyramid a view for another method is none.
        ("DELETE", "/", {404, 405}),
        ("GET", "/fail", {500}),
    ],
)
def test_errors(site, session, method, path, statuses):
    """An error of client or application is a page, after which the connection goes on."""
    response = session.request(method, f"{site.url}{path}")
    assert response.status_code in statuses
    assert session.get(f"{site.url}/").status_code == 200
    assert connections(session) == 1


def connections(session):
    """How many connections a session of requests has opened to its one server."""
    (pool,) = session.get_adapter("http://").poolmanager.pools._container.values()
    return pool.num_connections


def test_kept_connection(site, client):
    """Requests of every kind are answered on one connection."""
    ends = set()
    for method, path, body in [
        ("GET", "/", {}),
        ("POST", "/name", {"data": {"name": "x"}}),
        ("POST", "/sum", {"json": [1]}),
        ("PUT", "/digest", {"content": content(LARGE)}),
        ("POST", "/upload", {"files": {"file": ("a", content(SMALL))}}),
        ("GET", "/download", {}),
        ("HEAD", "/download", {}),
        ("GET", "/fail", {}),
        ("GET", "/", {}),
    ]:
        with client.stream(method, f"{site.url}{path}", **body) as response:
            ends.add(response.extensions["network_stream"].get_extra_info("client_addr"))
            response.read()
    assert len(ends) == 1


# Request bodies


@pytest.mark.parametrize("size", [0, 1, SMALL, LARGE])
def test_upload(site, session, size):
    """A file of a form arrives whole, whether the server or the application waits for it."""
    data = content(size)
    response = session.post(f"{site.url}/upload", files={"file": ("ä b.bin", data)})
    assert response.json() == [{"name": "ä b.bin", **described(data)}]


def test_several_uploads(site, client):
    """So do several of different sizes."""
    files = [(f"file{size}", (f"{size}.bin", content(size))) for size in (SMALL, LARGE, 1)]
    response = client.post(f"{site.url}/upload", files=files)
    assert response.json() == [{"name": name, **described(data)} for _, (name, data) in files]


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
def test_plain_body(site, client, size):
    """A body that is no form can be read block by block."""
    data = content(size)
    assert client.put(f"{site.url}/digest", content=data).json() == described(data)


def blocks(size):
    """A body whose length the client does not know, in blocks that fit nothing."""
    data = content(size)
    return (data[start : start + 9973] for start in range(0, size, 9973))


def test_small_chunked_body(site, session):
    """A chunked body that is complete at the start has a length, which Django asks for."""
    response = session.put(f"{site.url}/digest", data=blocks(SMALL))
    assert response.json() == described(content(SMALL))


@pytest.mark.parametrize("options", [{}, {"request_buffering": "on"}])
def test_large_chunked_body(site, client, options):
    """A longer one is collected in a file, and has a length too."""
    response = client.put(f"{site.url}/digest", content=blocks(LARGE))
    assert response.json() == described(content(LARGE))


# Responses


def test_streaming(site, client, monkeypatch):
    """A block reaches the client before the application has made the next one."""
    turns = Semaphore(0)
    monkeypatch.setattr(site.module, "sleep", lambda _: turns.acquire(timeout=PATIENCE))
    with client.stream("GET", f"{site.url}/ticks") as response:
        lines = response.iter_lines()
        for number in range(5):
            assert next(lines) == f"tick {number}"
            turns.release()
        assert list(lines) == []


@pytest.fixture
def download(site, monkeypatch, tmp_path):
    """The bytes of a large file that the application has for download."""
    data = content(LARGE)
    path = tmp_path / "report.txt"
    path.write_bytes(data)
    monkeypatch.setattr(site.module, "DOWNLOAD", path)
    return data


def test_download(site, client, download):
    """A file arrives whole, under its name and with its length."""
    response = client.get(f"{site.url}/download")
    assert response.content == download
    assert response.headers["Content-Length"] == str(LARGE)
    assert "report.txt" in response.headers["Content-Disposition"]


def test_download_head(site, client, download):
    """HEAD tells the length of a file that it does not send."""
    response = client.head(f"{site.url}/download")
    assert (response.headers["Content-Length"], response.content) == (str(LARGE), b"")


def test_download_range(site, client, download):
    """A part of a file is that part; frameworks that know no ranges send all of it."""
    response = client.get(f"{site.url}/download", headers={"Range": "bytes=100000-2000000"})
    partial = site.name in KNOW_RANGES
    assert response.status_code == (206 if partial else 200)
    assert response.content == (download[100_000:2_000_001] if partial else download)


def test_download_not_modified(site, client, download):
    """A file that the client has already is not sent again, by frameworks that know of it."""
    first = client.get(f"{site.url}/download")
    fields = {"If-Modified-Since": first.headers.get("Last-Modified", "")}
    again = client.get(f"{site.url}/download", headers=fields)
    known = site.name in KNOW_RANGES
    assert (again.status_code, again.content) == ((304, b"") if known else (200, download))


# curl


def curl(*arguments):
    """What curl writes to its output; fails as curl fails."""
    command = [tool("curl"), "--silent", "--show-error", "--noproxy", "*", *arguments]
    limit = ("--max-time", str(PATIENCE))
    return subprocess.run([*command, *limit], check=True, capture_output=True).stdout


@pytest.fixture
def large_file(tmp_path):
    """A file that curl sends with Expect: 100-continue, being above one megabyte."""
    path = tmp_path / "large.bin"
    path.write_bytes(content(LARGE))
    return path


@needs_tool("curl")
@pytest.mark.slow("processes")
def test_curl_form(site, tmp_path):
    """curl posts a form, keeps the cookie and follows the redirect."""
    jar = str(tmp_path / "cookies")
    page = curl("-L", "-b", jar, "-c", jar, "--data-urlencode", "name=Zoë", f"{site.url}/name")
    assert "<h1>Hello, Zoë!</h1>" in page.decode()


@needs_tool("curl")
@pytest.mark.slow("processes")
def test_curl_upload(site, large_file):
    """curl uploads a file by a form, having waited for 100 (Continue)."""
    answer = curl("-F", f"file=@{large_file}", f"{site.url}/upload")
    assert json.loads(answer) == [{"name": "large.bin", **described(content(LARGE))}]


@needs_tool("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
@pytest.mark.slow("processes")
def test_curl_put(site, large_file, version):
    """curl puts a file, with either version of HTTP."""
    answer = curl(version, "-T", str(large_file), f"{site.url}/digest")
    assert json.loads(answer) == described(content(LARGE))


@needs_tool("curl")
@pytest.mark.slow("processes")
def test_curl_download(site, download, tmp_path):
    """curl goes on with a download that was interrupted, where the framework knows ranges."""
    target = tmp_path / "target"
    target.write_bytes(download[:1_000_000] if site.name in KNOW_RANGES else b"")
    curl("-C", "-", "-o", str(target), f"{site.url}/download")
    assert target.read_bytes() == download


@needs_tool("curl")
@pytest.mark.slow("processes")
def test_curl_keeps_its_connection(site):
    """curl makes one connection for several URLs."""
    urls = [f"{site.url}/", f"{site.url}/nowhere", f"{site.url}/download"]
    written = curl("-w", "%{stderr}%{num_connects}", "--stderr", "-", *urls)
    assert written.count(b"0") >= 2
