"""An outage as an operator sees it: all threads hang behind one lock, and then go on."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
from contextlib import ExitStack

import pytest
import requests
from processes import ROOT, serving
from support import PATIENCE, eventually

pytestmark = pytest.mark.slow("processes")

APPLICATION = """\
import threading

lock = threading.Lock()
repaired = threading.Event()

def report():
    with lock:
        query()

def query():
    repaired.wait(60)

def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/report"):
        report()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

PLACES = {"shop.py:7 report": "with lock:", "shop.py:11 query": "repaired.wait(60)"}
"""Where requests hang, and what the line says."""

THREADS = 3


class Shop:
    """The server, and what an operator asks it."""

    def __init__(self, stack, folder):
        (folder / "shop.py").write_text(APPLICATION)
        self.program, self.url = stack.enter_context(
            serving(
                *("--app-dir", str(folder), "shop:app", "--threads", str(THREADS)),
                *("--admin", "127.0.0.1:0", "--saturation-log", "1s", "--queue-timeout", "60s"),
                *("--access-logfile", str(folder / "access.log"), "--graceful-timeout", "1s"),
            )
        )
        said = "\n".join(self.program.lines)
        self.admin = re.search(r"endpoint is at http://(\S+)", said)[1]
        self._stack = stack
        self.asked = 0

    def leave_waiting(self, path):
        """Send a request, and do not wait for the response."""
        host, port = self.url.removeprefix("http://").split(":")
        sock = self._stack.enter_context(socket.create_connection((host, int(port))))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.asked += 1
        eventually(lambda: self.status()["in_flight"] == self.asked)

    def get(self, path):
        """Ask the admin endpoint."""
        return requests.get(f"http://{self.admin}{path}", timeout=PATIENCE, proxies={"http": ""})

    def status(self):
        return self.get("/status.json").json()

    def command(self, name, columns, *options):
        """What a command shows on a terminal of so many columns."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        command = [sys.executable, "-m", "aiowsgi", name, "--admin", self.admin, *options]
        environ = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environ, cwd=ROOT
        ) as program:
            os.close(slave)
            shown = b""
            while select.select([master], [], [], PATIENCE)[0]:
                try:
                    shown += os.read(master, 65536)
                except OSError:  # the program has ended
                    break
            assert program.wait(PATIENCE) == 0, shown
        os.close(master)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")


@pytest.fixture
def shop(tmp_path):
    """A shop whose threads all hang, while two more requests wait."""
    with ExitStack() as stack:
        shop = Shop(stack, tmp_path)
        assert shop.get("/readyz").status_code == 200
        for number in range(THREADS + 2):
            shop.leave_waiting(f"/report/{number}?customer={'x' * 100}")
        yield shop


def test_the_log_tells_the_outage(shop):
    """Which requests hang, where, and what follows, without any configuration but the defaults."""
    shop.program.expect(
        rf"WARNING .* no thread has been free for .* {THREADS} threads busy, 2 requests waiting"
    )
    shop.program.expect(r"  1 request at shop.py:11 query: repaired.wait\(60\)")
    shop.program.expect(r"    GET /report/0\?customer=x+ HTTP/1.1, .* s, id \S+-\d+")
    shop.program.expect(rf"  {THREADS - 1} requests at shop.py:7 report: with lock:")
    shop.program.process.terminate()
    for _ in range(THREADS):
        shop.program.expect(r"WARNING .* cut off after .* since the server stops: GET /report/")
    shop.program.expect(r"which waited for a thread")


def test_readiness_tells_the_outage(shop):
    """Ready, then saturated, then unready, with the reason; each answer comes at once."""
    states = [shop.status()["state"]]

    def until_unready():
        answer = shop.get("/readyz")
        assert answer.elapsed.total_seconds() < PATIENCE / 4
        states.append(shop.status()["state"])
        return answer.status_code == 503

    eventually(until_unready)
    assert sorted(set(states), key=["ready", "saturated", "unready"].index) == list(
        dict.fromkeys(states)
    )
    assert states[-1] == "unready"
    reason = shop.get("/readyz").text
    assert reason == f"all {THREADS} threads have been busy for more than 1 s and requests wait\n"
    metrics = shop.get("/metrics").text
    assert "\naiowsgi_ready 0\n" in metrics
    assert "\naiowsgi_queue_depth 2\n" in metrics
    assert float(re.search(r"\naiowsgi_saturated_seconds (\S+)\n", metrics)[1]) >= 1
    assert '\naiowsgi_threads{state="idle"} 0\n' in metrics


@pytest.mark.parametrize("columns", [80, 120])
def test_the_terminal_tells_the_outage(shop, columns):
    """Where each request is, at any width, and the lines of code at which they hang."""
    eventually(lambda: shop.get("/readyz").status_code == 503)
    top = shop.command("top", columns, "-n", "1", "--interval", "10ms")
    assert "NOT READY" in top
    for place in PLACES:
        assert f"  {place} " in top
    assert max(map(len, top.splitlines())) <= columns
    stacks = shop.command("stacks", columns)
    for place, line in PLACES.items():
        assert re.search(rf"\d requests? at {place} `{re.escape(line)}`", stacks.replace("\n", " "))
    assert stacks.count("in report") >= 1
    assert "threading.py" not in stacks
    assert f"{THREADS - 1} requests at shop.py:7 report" in shop.command("requests", columns)
