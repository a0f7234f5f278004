"""Starting and stopping a server, and the clients that hold or drain connections."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench import load, neighbours, sink, system
from bench.apps import BODY_SIZE
from bench.idle import IdleConnections
from bench.running import RunningServer, ServerError
from bench.servers import SERVERS, ServerSpec

WSGIREF = """
import sys
from bench.apps import small
from wsgiref.simple_server import make_server
make_server("127.0.0.1", int(sys.argv[1]), small).serve_forever()
"""
CORES = os.sched_getaffinity(0)


def spec(code: str) -> ServerSpec:
    """A server that is a few lines of Python."""
    return ServerSpec("fake", "wsgiref", lambda _app, port, _threads: ["-c", code, str(port)])


@pytest.mark.slow("processes")
def test_running_server() -> None:
    """A server has answered when the block begins, and has gone when it ends."""
    with RunningServer(spec(WSGIREF), "app", 1, CORES) as server:
        assert 0 < server.seconds_to_first_answer < 20
        assert system.process_tree(server.pid) == [server.pid]
        assert system.resident_kib(server.pid) >= system.proportional_kib(server.pid) > 1024
        assert system.cpu_seconds(server.pid) > 0
        assert os.sched_getaffinity(server.pid) == CORES
    assert server.process.returncode is not None
    assert system.process_tree(server.pid) == []


@pytest.mark.slow("processes")
def test_server_that_ends() -> None:
    """A server that ends by itself is an error with its last words."""
    code = "import sys; print('no luck'); sys.exit(3)"
    with pytest.raises(ServerError, match="status 3: no luck"):
        RunningServer(spec(code), "app", 1, CORES).__enter__()


class Kept(BaseHTTPRequestHandler):
    """Keeps connections; answers GET by the path set on the class."""

    protocol_version = "HTTP/1.1"
    respond = staticmethod(lambda handler: None)

    def do_GET(self) -> None:
        self.respond(self)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Takes it calmly that a client leaves within a response."""

    def handle_error(self, *args: object) -> None:
        """Say nothing."""


def hello(handler) -> None:
    """What ``bench.apps:small`` answers."""
    handler.send_response(200)
    handler.send_header("Content-Length", "13")
    handler.end_headers()
    handler.wfile.write(b"Hello, world!")


def hello_once(handler) -> None:
    """The same on a connection that is not kept."""
    hello(handler)
    handler.close_connection = True


def sized(handler) -> None:
    """A download with its length declared."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(BODY_SIZE))
    handler.end_headers()
    handler.wfile.write(b"x" * BODY_SIZE)


def chunked(handler, *, close: bool = False) -> None:
    """A download in two chunks."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    if close:
        handler.send_header("Connection", "close")
    handler.end_headers()
    half = BODY_SIZE // 2
    handler.wfile.write((b"%x\r\n%b\r\n" % (half, b"x" * half)) * 2 + b"0\r\n\r\n")


def chunked_once(handler) -> None:
    """The same on a connection that is not kept."""
    chunked(handler, close=True)


def refusal(handler) -> None:
    """A status that is no success."""
    handler.send_error(503)


@pytest.fixture
def serve():
    """Serve GET by one of the functions above; gives the port."""
    servers = []

    def start(respond) -> int:
        handler = type("Handler", (Kept,), {"respond": staticmethod(respond)})
        server = Server(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server.server_address[1]

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("respond", "kept"), [(hello, 3), (hello_once, 0)])
def test_idle_connections(serve, respond, kept) -> None:
    """What counts as kept is a connection that answers a second time."""
    with IdleConnections(serve(respond), 3) as idle:
        assert idle.count_kept() == kept


def test_idle_connections_refused() -> None:
    """Without a server, no connection is kept."""
    with IdleConnections(system.free_port(), 3) as idle:
        assert idle.count_kept() == 0


@pytest.mark.parametrize("respond", [sized, chunked, chunked_once])
@pytest.mark.slow("soak")
def test_sink(serve, capsys, respond) -> None:
    """Responses are counted to their end, by length or by chunks, on kept connections or new."""
    sink.main(str(serve(respond)), "2", "1")
    run = load.parse_figures(capsys.readouterr().out)
    assert run.requests > 0
    assert run.seconds >= 1
    assert 0 < run.p50 <= run.p99


def test_sink_refused(serve) -> None:
    """Anything but a success ends the measurement."""
    with pytest.raises(sink.SinkError, match="503"):
        sink.main(str(serve(refusal)), "1", "0.2")


def test_neighbours(serve, capsys) -> None:
    """Small requests are counted and timed, and those of the neighbours beside them."""
    assert neighbours.main(str(serve(hello)), "0.5") == 0
    run = load.parse_figures(capsys.readouterr().out)
    assert 0 < run.requests <= 50
    assert run.beside > 0
    assert 0 < run.p50 <= run.p99
    assert run.problems == ""


def test_neighbours_refused(serve, capsys) -> None:
    """Every answer that is no success is a problem."""
    assert neighbours.main(str(serve(refusal)), "0.2") == 0
    assert "answers not 2xx" in load.parse_figures(capsys.readouterr().out).problems


@pytest.mark.parametrize("name", SERVERS)
def test_commands(name) -> None:
    """Every row of the table tells its server the application and the port."""
    words = " ".join(SERVERS[name].arguments("bench.apps:small", 8123, 7))
    assert "bench.apps:small" in words
    assert "8123" in words


@pytest.mark.slow("processes")
def test_imports_are_light() -> None:
    """Neither matplotlib nor Flask nor a peer is imported before it is needed."""
    code = "import json, sys, bench.__main__; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not {"matplotlib", "flask", "gunicorn", "waitress"} & set(json.loads(done.stdout))
