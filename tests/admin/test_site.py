"""The admin endpoint as a whole: programs that run, and what is asked of them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from contextlib import closing, contextmanager
from time import monotonic

import pytest
import requests
from processes import running, serving
from status_samples import a_report
from support import PATIENCE, eventually

from aiowsgi.admin.site import serve_admin
from aiowsgi.http1 import head_parser
from aiowsgi.net.address import TcpAddress
from aiowsgi.net.listeners import ListenOptions, open_listeners
from aiowsgi.status.aggregate import Detail, ServerFacts, WorkerReport, overview

pytestmark = pytest.mark.slow("processes")

TOKEN = "correct-horse-battery"


class Admin:
    """The endpoint of a program that has said where it is."""

    def __init__(self, program):
        self.program = program
        said = "\n".join(program.lines)
        self.url = re.search(r"the admin endpoint is at (http\S+)", said)[1]

    def get(self, path, **fields):
        """The answer."""
        return requests.get(
            self.url + path,
            headers=fields,
            timeout=PATIENCE,
            proxies={"http": ""},
            allow_redirects=False,
        )

    def status(self):
        """An overview."""
        return self.get("/status.json").json()

    def states(self):
        """The states of all workers, in alphabetical order."""
        return sorted(worker["state"] for worker in self.status()["workers"])


@contextmanager
def served(*options, address="127.0.0.1:0"):
    """A server of the example, its URL, and its endpoint."""
    arguments = ("--app-dir", "examples", "hello:app", "--no-access-log", *options)
    with serving("--admin", address, *arguments) as (program, url):
        yield Admin(program), url


def ask(url):
    """One request to the application, on a connection of its own."""
    response = requests.get(url, timeout=PATIENCE, proxies={"http": ""})
    assert response.status_code == 200


def test_two_workers_are_one_server():
    """What they have counted is added up, and each of them is shown."""
    with served("--workers", "2", "--threads", "3") as (admin, url):
        for _ in range(10):
            ask(url)
        status = admin.status()
        assert status["counts"]["requests"]["2xx"] == 10
        assert status["threads"] == {"busy": 0, "idle": 6, "detached": 0}
        assert [worker["state"] for worker in status["workers"]] == ["ready", "ready"]
        assert len({worker["pid"] for worker in status["workers"]}) == 2
        assert 'aiowsgi_requests_total{status="2xx",code="200"} 10\n' in admin.get("/metrics").text
        assert admin.get("/readyz").text == "ready\n"


def test_a_worker_that_hangs_holds_nobody_up():
    """It is shown as unresponsive, and the endpoint answers all the same."""
    with served("--workers", "2") as (admin, _):
        victim = admin.status()["workers"][0]["pid"]
        os.kill(victim, signal.SIGSTOP)
        try:
            begun = monotonic()
            assert admin.states() == ["ready", "unresponsive"]
            assert monotonic() - begun < PATIENCE / 2
            assert 'aiowsgi_workers{state="unresponsive"} 1\n' in admin.get("/metrics").text
        finally:
            os.kill(victim, signal.SIGCONT)
        eventually(lambda: admin.states() == ["ready", "ready"])


def test_counts_outlive_a_reload():
    """The workers are others, and no count has shrunk, though nobody had looked before."""
    with served("--workers", "2") as (admin, url):
        for _ in range(5):
            ask(url)
        os.kill(admin.program.process.pid, signal.SIGHUP)
        eventually(lambda: [w["generation"] for w in admin.status()["workers"]] == [2, 2])
        status = admin.status()
        assert (status["counts"]["requests"]["2xx"], status["restarts"]) == (5, 0)


def test_the_only_worker_is_replaced():
    """The requests of the old worker are shown while it finishes them, and its counts stay."""
    with served() as (admin, url):
        ask(url)
        (before,) = admin.status()["workers"]
        assert before["pid"] != admin.program.process.pid
        assert before["generation"] == 1
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
            os.kill(admin.program.process.pid, signal.SIGHUP)
            eventually(lambda: admin.states() == ["ready", "retiring"])
            (request,) = admin.status()["requests"]
            assert (request["worker"], request["phase"]) == (before["pid"], "reading")
            sock.sendall(b"x")
            assert sock.recv(12) == b"HTTP/1.1 200"
        eventually(lambda: admin.states() == ["ready"])
        (after,) = admin.status()["workers"]
        assert after["pid"] != before["pid"]
        assert admin.status()["counts"]["requests"]["2xx"] == 2


def test_a_worker_that_dies_is_a_restart():
    """What was seen of its counts stays."""
    with served("--workers", "2") as (admin, url):
        ask(url)
        worker = admin.status()["workers"][0]
        os.kill(worker["pid"], signal.SIGKILL)
        eventually(lambda: admin.status()["restarts"] == 1)
        eventually(lambda: admin.states() == ["ready", "ready"])
        assert admin.status()["counts"]["requests"]["2xx"] == 1


class Shown:
    """Something to tell of, which counts how often it was asked."""

    def __init__(self, known, reported):
        self.known, self.reported = known, reported
        self.looks = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def unready(self):
        """What is known at once."""
        return self.known

    async def look(self, interest=Detail.FIGURES):
        """What its worker says."""
        self.looks += 1
        await self.may_answer.wait()
        return overview(
            ServerFacts(1.0, 1.0),
            [WorkerReport(7, 1, "ready", a_report() | {"unready": self.reported})],
        )


async def test_a_probe_is_answered_at_once_while_a_worker_is_asked():
    """From the sample before."""
    shown = Shown("", "")
    with closing(open_listeners([TcpAddress("127.0.0.1", 0)], ListenOptions())) as listeners:
        admin = await serve_admin(shown, head_parser("h11"), listeners, None)
        port = listeners.sockets[0].getsockname()[1]
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                assert (await reader.read()).endswith(b"\r\n\r\nready\n")
            writer.close()
            # From now on no worker answers.
            shown.may_answer.clear()
        admin.close()


@pytest.mark.parametrize(
    ("known", "reported", "answer"),
    [
        ("", "", b"ready\n"),
        ("", "held up", b"held up\n"),
        ("draining", "held up", b"draining\n"),
    ],
)
async def test_many_probes(known, reported, answer):
    """What the supervisor knows comes first; a probe does not ask the workers."""
    shown = Shown(known, reported)
    with closing(open_listeners([TcpAddress("127.0.0.1", 0)], ListenOptions())) as listeners:
        admin = await serve_admin(shown, head_parser("h11"), listeners, None)
        port = listeners.sockets[0].getsockname()[1]
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await reader.read()).endswith(b"\r\n\r\n" + answer)
            writer.close()
        admin.close()
    assert shown.looks <= 1 + PATIENCE


@pytest.fixture
def token(tmp_path):
    """A file with a token."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return str(path)


def test_a_public_address_is_announced_and_guarded(token):
    """It is said loudly; probes need no token, everything else does, also by a name."""
    with served("--admin-token-file", token, address="0.0.0.0:0") as (admin, _):
        assert any(
            "other machines can reach the admin endpoint" in line for line in admin.program.lines
        )
        admin.url = admin.url.replace("0.0.0.0", "127.0.0.1")
        assert admin.get("/livez").status_code == admin.get("/readyz").status_code == 200
        for path in ("/", "/metrics", "/status.json", "/requests", "/stacks", "/events"):
            assert admin.get(path).status_code == 401
        shown = {"Authorization": f"Bearer {TOKEN}", "Host": "admin.example"}
        assert admin.get("/metrics", **shown).status_code == 200


def test_a_private_address_is_not_announced():
    """Nor is a name believed there, which a page of another site might have chosen."""
    with served() as (admin, _):
        assert not any("other machines" in line for line in admin.program.lines)
        assert admin.get("/requests", Host="evil.example").status_code == 403
        assert admin.get("/livez", Host="evil.example").status_code == 200


def test_a_bad_token_file_ends_the_start(tmp_path):
    """Before anything listens, with the status of a wrong configuration."""
    (tmp_path / "token").write_text("short")
    options = ("--admin", "127.0.0.1:0", "--admin-token-file", str(tmp_path / "token"))
    command = (sys.executable, "-m", "aiowsgi", "--app-dir", "examples", "hello:app", *options)
    with running(*command) as program:
        program.expect("admin-token-file: .*: it must be one word of 16 characters")
        assert program.process.wait(PATIENCE) == 2


def test_a_unix_socket(tmp_path):
    """Its permissions say who may ask, by whatever name."""
    path = tmp_path / "admin"
    with (
        serving("--admin", f"unix:{path}", "--app-dir", "examples", "hello:app"),
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        sock.sendall(b"GET /requests HTTP/1.1\r\nHost: any.example\r\n\r\n")
        assert sock.makefile("rb").read().endswith(b"\r\n\r\n[]")


OBJECT = """
import aiowsgi

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]

aiowsgi.serve(app, bind="127.0.0.1:0", admin="127.0.0.1:0", access_log=False)
"""


def test_an_application_object():
    """A server without a supervisor tells of itself, until its end."""
    with running(sys.executable, "-c", OBJECT) as program:
        url = program.expect(r"listening on (\S+)")[1]
        admin = Admin(program)
        ask(url)
        status = admin.status()
        assert status["counts"]["requests"]["2xx"] == 1
        (worker,) = status["workers"]
        assert (worker["pid"], worker["state"]) == (program.process.pid, "ready")
        assert program.stop() == 0


def test_who_watches_does_not_keep_it_from_stopping():
    """A live view ends with the server."""
    with served() as (admin, _):
        host, port = admin.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
            sock.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert sock.recv(12) == b"HTTP/1.1 200"
            assert admin.program.stop() == 0
            with sock.makefile("rb") as file:
                file.read()
