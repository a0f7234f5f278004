"""What is left of requests that a stop cuts off."""

from __future__ import annotations

import asyncio
import socket
import struct
from threading import Event

import pytest
from support import PATIENCE

from aiowsgi import Config, Server


class Application:
    """Hangs until the test ends."""

    def __init__(self):
        self.entered, self.leave = Event(), Event()

    def __call__(self, environ, start_response):
        self.hang_here()
        start_response("200 OK", [])
        return [b"late"]

    def hang_here(self):
        """Its name is looked for in the log."""
        self.entered.set()
        self.leave.wait(PATIENCE)


@pytest.fixture
def app():
    """An application that its threads have left when the test ends."""
    application = Application()
    yield application
    application.leave.set()


async def cut(app, tmp_path, number, threads):
    """Stop a server without patience while ``number`` requests are in flight; gives the access
    log's lines and the counts."""
    log = tmp_path / "access.log"
    config = Config(
        bind=("127.0.0.1:0",),
        threads=threads,
        admin="127.0.0.1:9",
        access_logfile=str(log),
        access_logformat="%(s)s %(target)s %(request_id)s",
    )
    server = Server(app, config)
    await server.start()
    writers = []
    async with asyncio.timeout(PATIENCE):
        for path in range(number):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            writers.append(writer)
            while server.report()["in_flight"] <= path:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0)
        while server.report()["threads"]["busy"] < min(threads, number):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not await server.stop(0.01)
    for writer in writers:
        writer.transport.abort()
    app.leave.set()
    return log.read_text().splitlines(), server.report()["counts"]


async def test_a_request_that_is_cut_off_leaves_a_trace(app, tmp_path, caplog):
    """One line in the log for each, with where it was; one in the access log, and a count."""
    lines, counts = await cut(app, tmp_path, 2, 1)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    running, queued = warnings
    assert "cut off after " in running.getMessage()
    assert "since the server stops: GET /0 HTTP/1.1, at " in running.getMessage()
    assert running.getMessage().endswith(" hang_here")
    assert "GET /1 HTTP/1.1, which waited for a thread" in queued.getMessage()
    assert sorted(lines) == [
        f"504 /0 {running.request_id}",
        f"504 /1 {queued.request_id}",
    ]
    assert (counts["cut"], counts["timeouts"]) == (2, 0)
    assert sum(counts["refusals"].values()) == 0


async def test_many_requests_that_are_cut_off(app, tmp_path, caplog):
    """Ten have a line in the log, and the others are counted; the access log has all."""
    lines, counts = await cut(app, tmp_path, 13, 1)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 11
    assert warnings[-1] == "cut off 3 more requests, since the server stops"
    assert len(lines) == counts["cut"] == 13


@pytest.mark.parametrize("whole", [True, False])
async def test_a_client_that_leaves(app, tmp_path, whole):
    """The access log says that the client did not wait for its response."""

    def hang(environ, start_response):
        app.hang_here()
        start_response("200 OK", [])
        return [b"late"] if whole else iter([b"la", b"te"])

    log = tmp_path / "access.log"
    config = Config(
        bind=("127.0.0.1:0",), access_logfile=str(log), access_logformat="%(s)s %(target)s"
    )
    server = Server(hang, config)
    await server.start()
    async with asyncio.timeout(PATIENCE):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        while not app.entered.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        while server.report()["connections"]:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0)
        app.leave.set()
        while server.report()["in_flight"]:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0)
        await server.stop()
    assert log.read_text() == "499 /a\n"
