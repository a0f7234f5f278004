"""What a server says of itself while it serves, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from support import PATIENCE, UNIT

from aiowsgi import Config, Server
from aiowsgi.config.values import parse_route_limit
from aiowsgi.server import status as insight
from aiowsgi.status.aggregate import Detail


class Application:
    """Waits where it is told to; everything else it answers at once."""

    def __init__(self):
        self.entered, self.leave = Event(), Event()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/upgrade":
            sock = environ["aiowsgi.socket"]
            sock.sendall(b"HTTP/1.1 101 x|".replace(b"|", b"\r\n\r\n"))
            sock.recv(1)
            raise StopIteration
        if environ["PATH_INFO"].startswith("/wait"):
            self.entered.set()
            self.wait_for_it()
        size = int(environ["QUERY_STRING"] or 0)
        start_response("200 OK", [("Content-Length", str(size))])
        return [b"x" * size]

    def wait_for_it(self):
        """A function to be found in a stack."""
        assert self.leave.wait(PATIENCE)


@pytest.fixture
def app():
    """An application that everybody has left when the test ends."""
    application = Application()
    yield application
    application.leave.set()


@pytest.fixture
async def start(app):
    """Start servers of it, stopped when the test ends: ``server = await start(**options)``."""
    servers = []

    async def start(executor=None, **options):
        defaults = {"bind": ("127.0.0.1:0",), "access_log": False, "admin": "127.0.0.1:9000"}
        server = Server(app, Config(**{**defaults, **options}), executor=executor)
        servers.append(server)
        await server.start()
        return server

    yield start
    app.leave.set()
    for server in servers:
        await server.stop(0)


class Asking:
    """A connection on which something was sent."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def answer(self):
        """Read a whole response without a body; returns its status line."""
        return (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]

    def leave(self):
        """Be gone, with a reset: a close could be one of the sending side alone."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@pytest.fixture
async def send():
    """Connect and send a text, whose lines are separated by ``|``: ``await send(server, text)``."""
    everybody = []

    async def send(server, text):
        asking = Asking(*await asyncio.open_connection("127.0.0.1", server.port))
        everybody.append(asking)
        asking.writer.write(text.replace("|", "\r\n").encode())
        return asking

    yield send
    for asking in everybody:
        asking.writer.close()


@pytest.fixture
def get(send):
    """Send a GET request: ``await get(server, path)``."""
    return lambda server, path: send(server, f"GET {path} HTTP/1.1|Host: x||")


async def until(server, condition, **options):
    """Look until something is as it should be; returns that report."""
    async with asyncio.timeout(PATIENCE):
        while not condition(report := server.report(**options)):  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0)
    return report


def phase(name, number=1):
    """So many requests are in that phase."""
    return lambda report: report["phases"].get(name, 0) == number


async def test_idle(start):
    """Nothing goes on, and all threads are free."""
    server = await start(threads=3)
    report = server.report()
    assert report["pid"] == os.getpid()
    assert report["threads"] == {"busy": 0, "idle": 3, "detached": 0}
    assert (report["queued"], report["in_flight"], report["requests"]) == (0, 0, [])
    assert report["rss"] > 1_000_000
    assert 0 <= report["uptime"] < PATIENCE
    json.dumps(report)


async def test_counts(start, send, get):
    """Responses and refusals are counted, and the times of the former."""
    server = await start()
    assert b"200" in await (await get(server, "/")).answer()
    answered = lambda report: report["counts"]["requests"]["2xx"]  # noqa: E731
    for path in ("/a", "/b"):
        assert b"200" in await (await get(server, path)).answer()
    assert b"400" in await (await send(server, "nonsense||")).answer()
    report = await until(server, lambda report: answered(report) == 3)
    assert report["counts"]["requests"]["4xx"] == 1
    assert report["counts"]["refusals"]["malformed"] == 1
    assert report["counts"]["seconds"]["request"]["buckets"][-1] == 3
    assert report["counts"]["seconds"]["request"]["sum"] > 0


async def test_the_access_log_and_the_metrics_both_hear(start, tmp_path, send, get):
    """An exchange is a line and a count."""
    log = tmp_path / "log"
    server = await start(access_log=True, access_logfile=str(log), access_logformat="%(s)s")
    await (await get(server, "/")).answer()
    await (await send(server, "nonsense||")).answer()
    report = await until(server, lambda report: report["counts"]["requests"]["2xx"] == 1)
    await server.stop(0)
    # A worker writes when its client may have sent the next request.
    assert sorted(log.read_text().split()) == ["200", "400"]
    assert report["counts"]["requests"]["4xx"] == 1


async def test_without_an_endpoint_nothing_is_counted(start, get):
    """Who cannot be asked need not know."""
    server = await start(admin=None)
    await (await get(server, "/")).answer()
    assert server.report()["counts"]["requests"]["2xx"] == 0


async def test_before_the_start(app):
    """A server that was not started has nothing to say."""
    with pytest.raises(RuntimeError, match="not started"):
        Server(app).report()


async def test_application_and_queue(start, app, get):
    """One request has the only thread, the next one waits for it; the older comes first."""
    server = await start(threads=1)
    await get(server, "/wait?0")
    await until(server, phase("application"))
    await get(server, "/next")
    report = await until(server, phase("queued"), detail=Detail.STACKS)
    busy, queued = report["requests"]
    assert (busy["phase"], busy["method"], busy["path"]) == ("application", "GET", "/wait?0")
    assert busy["thread"].startswith("aiowsgi-thread-")
    assert busy["client"].startswith("127.0.0.1:")
    assert busy["worker"] == os.getpid()
    assert busy["age"] >= queued["age"] > 0
    assert (queued["phase"], queued["path"], queued["thread"]) == ("queued", "/next", "")
    assert busy["id"] != queued["id"]
    assert report["threads"] == {"busy": 1, "idle": 0, "detached": 0}
    assert (report["queued"], report["in_flight"]) == (1, 2)
    (stack,) = report["stacks"]
    assert (stack["request"], stack["thread"]) == (busy["id"], busy["thread"])
    assert stack["what"] == "GET /wait?0 HTTP/1.1"
    assert "in wait_for_it" in stack["text"]
    app.leave.set()
    await until(server, phase("application", 0))


async def test_the_longest_wait(start, app, get):
    """It is that of the oldest request which no thread has taken, and there is none else."""
    server = await start(threads=1)
    assert server.report()["waited"] == 0
    await get(server, "/wait")
    report = await until(server, phase("application"))
    assert report["waited"] == 0
    await get(server, "/next")
    await get(server, "/next")
    report = await until(server, phase("queued", 2))
    times = [request["age"] for request in report["requests"]]
    assert times[0] > report["waited"] > 0
    assert report["waited"] <= times[1]
    app.leave.set()
    await until(server, lambda report: report["waited"] == 0)


async def test_too_long_a_wait(start, app, get):
    """From half of the queue's timeout on, a process is unready, until nobody waits that long."""
    server = await start(threads=1, queue_timeout=UNIT)
    await get(server, "/wait")
    await get(server, "/next")
    report = await until(server, phase("queued"))
    assert report["unready"] == ""
    report = await until(server, lambda report: report["unready"])
    assert report["unready"] == f"a request has waited more than {UNIT / 2:g} s for a thread"
    assert report["waited"] > UNIT / 2
    app.leave.set()
    await until(server, lambda report: not report["unready"])


async def test_no_queue_timeout_is_no_bound(start, monkeypatch, get):
    """Who lets requests wait for ever is not told that they do."""
    server = await start(threads=1, queue_timeout=0)
    await get(server, "/wait")
    await get(server, "/next")
    await until(server, phase("queued"))
    monkeypatch.setattr(insight, "PATIENCE", 1e-9)
    assert (await until(server, phase("queued")))["unready"] == ""


@pytest.mark.parametrize(
    ("options", "paths", "busy", "waits"),
    [
        ({"limit_per_client": 1}, ("/wait", "/next"), 1, False),
        ({"route_limit": (parse_route_limit("/wait=1"),)}, ("/wait", "/wait"), 1, False),
        (
            {"route_limit": (parse_route_limit("/wait=1"),)},
            ("/wait", "/wait", "/wait2", "/next"),
            2,
            True,
        ),
        ({"reserve_threads": (parse_route_limit("/health=1"),)}, ("/wait", "/next"), 1, True),
        ({"limit_per_client": 3}, ("/wait", "/wait", "/next", "/next"), 2, True),
    ],
)
async def test_who_waits_for_a_limit_of_its_own(start, get, options, paths, busy, waits):
    """It would wait though threads were free; who is kept off a reserved one waits for a thread."""
    server = await start(threads=2, **options)
    for number, path in enumerate(paths):
        await get(server, path)
        await until(server, lambda report, number=number: report["in_flight"] == number + 1)
    report = await until(server, phase("application", busy))
    assert report["queued"] == len(paths) - busy
    assert (report["waited"] > 0) is waits


async def test_reading(start, send):
    """A body that is collected belongs to a request that has no id yet."""
    server = await start()
    await send(server, "POST /up HTTP/1.1|Host: x|Content-Length: 9||12345")
    (request,) = (await until(server, phase("reading")))["requests"]
    assert (request["phase"], request["path"], request["id"]) == ("reading", "/up", "")
    assert request["client"] == "127.0.0.1"


async def test_writing(start, get):
    """A response that its client does not read needs no thread."""
    server = await start(threads=1)
    await get(server, f"/big?{20_000_000}")
    report = await until(server, phase("writing"))
    assert report["threads"] == {"busy": 0, "idle": 1, "detached": 0}
    assert report["requests"][0]["thread"] == ""


async def test_a_connection_that_the_application_has_taken(start, send, tmp_path):
    """It is in a phase of its own, however long that lasts, and is logged with its status."""
    log = tmp_path / "log"
    server = await start(access_log=True, access_logfile=str(log), access_logformat="%(s)s")
    asking = await send(server, "GET /upgrade HTTP/1.1|Host: x|Upgrade: x||")
    assert b"101" in await asking.answer()
    report = await until(server, phase("upgraded"))
    assert report["threads"]["busy"] == 1
    assert report["requests"][0]["phase"] == "upgraded"
    asking.leave()
    await until(server, phase("upgraded", 0))
    await server.stop(0)
    assert log.read_text() == "101\n"


async def test_a_client_that_has_gone(start, app, get):
    """Its thread can still be seen, and that it has gone is counted."""
    server = await start(threads=1)
    asking = await get(server, "/wait")
    await until(server, phase("application"))
    asking.leave()
    report = await until(
        server, lambda report: report["counts"]["disconnects"] == 1, detail=Detail.STACKS
    )
    assert report["connections"] == {}
    assert report["phases"] == {"application": 1}
    assert "in wait_for_it" in report["stacks"][0]["text"]
    app.leave.set()
    await until(server, phase("application", 0))


async def test_a_client_that_sends_no_more(start, app, get):
    """It has probably gone, and is counted once; its connection waits for the response."""
    server = await start(threads=1)
    asking = await get(server, "/wait")
    await until(server, phase("application"))
    asking.writer.write_eof()
    await until(server, lambda report: report["counts"]["disconnects"] == 1)
    assert server.report()["connections"] == {"serving": 1}
    app.leave.set()
    assert b"200" in await asking.answer()
    # Its thread may still be on its way back from sending.
    report = await until(server, lambda report: not (report["connections"] or report["in_flight"]))
    assert report["counts"]["disconnects"] == 1


async def test_a_queued_client_that_has_gone(start, get):
    """Its request will not be begun with, which is counted too."""
    server = await start(threads=1)
    await get(server, "/wait")
    await until(server, phase("application"))
    asking = await get(server, "/next")
    await until(server, phase("queued"))
    asking.leave()
    report = await until(server, phase("queued", 0))
    assert (report["counts"]["disconnects"], report["counts"]["dropped"]) == (1, 1)


async def test_detached(start, get):
    """A thread that hangs beyond the request timeout is shown as what it is."""
    server = await start(threads=2, request_timeout=0.05)
    asking = await get(server, "/wait")
    assert b"504" in await asking.answer()
    report = await until(server, phase("detached"), detail=Detail.STACKS)
    assert report["threads"] == {"busy": 0, "idle": 2, "detached": 1}
    assert report["requests"][0]["thread"].startswith("aiowsgi-thread-")
    assert "in wait_for_it" in report["stacks"][0]["text"]


async def test_connections_by_state(start, send):
    """Also of those on which nothing was asked."""
    server = await start()
    await send(server, "")
    await send(server, "GET / HT")
    report = await until(server, lambda report: report["connections"] == {"idle": 1, "head": 1})
    assert (report["in_flight"], report["requests"]) == (0, [])


async def test_a_kept_connection_is_idle_after_its_response(start, get):
    """It is shown so at once, although nothing has happened on it since."""
    server = await start()
    await (await get(server, "/")).answer()
    # The thread that sent the response ends the exchange just after that.
    report = await until(server, lambda report: report["connections"] != {"serving": 1})
    assert report["connections"] == {"idle": 1}
    await until(server, lambda report: report["in_flight"] == 0)


async def test_a_long_target_is_cut(start, get):
    """A client cannot fill the table."""
    server = await start()
    await get(server, "/wait" + "x" * 5000)
    report = await until(server, phase("application"), detail=Detail.STACKS)
    assert len(report["requests"][0]["path"]) == 200
    assert report["requests"][0]["path"].endswith("x…")
    assert len(report["stacks"][0]["what"]) == 200


async def test_an_executor_of_the_embedder(start, get):
    """Of its threads no more is known than what they are busy with."""
    with ThreadPoolExecutor(2, "mine") as executor:
        server = await start(executor)
        await get(server, "/wait")
        report = await until(server, phase("application"))
        assert report["threads"] == {"busy": 1, "idle": 0, "detached": 0}
        assert report["requests"][0]["thread"].startswith("mine")
        await server.stop(0)
        server._app.leave.set()


async def test_a_unix_socket(start, tmp_path):
    """Its clients have no address."""
    path = tmp_path / "socket"
    server = await start(bind=(f"unix:{path}",))
    _, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    report = await until(server, phase("application"))
    assert report["requests"][0]["client"] == ""
    writer.transport.abort()
