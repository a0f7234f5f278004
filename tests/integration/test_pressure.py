"""Slow clients, exhausted descriptors and disks, memory over time; the bench does it at scale."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest
from processes import LISTENING, ROOT, running
from sample_apps import ask, ask_admin, gate, workers, write_app
from support import PATIENCE, UNIT, Client, eventually, small_buffers

from aiowsgi.supervisor.single import EXIT_SPENT
from aiowsgi.system.memory import resident_bytes

pytestmark = pytest.mark.slow("processes", "soak")

BIG = b"0123456789" * 300_000
READERS = 12
HEADERS = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "
BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
UPLOAD = 900_000

MEMORY_BUFFER = 64 * 1024
"""--response-buffer of the slow readers' server."""

MEGABYTE = 1 << 20

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
"""Without the GIL each thread's allocator keeps what was freed for a while, and what is resident
tells of the tests before as much as of this one."""


def state_of(server):
    return server._server._state


def cpu_seconds(pid: int) -> float:
    """What a process has used, in the kernel and out of it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    """Memory of a process that is in RAM, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Slow clients


def as_list(environ, start_response):
    start_response("200 OK", [])
    return [BIG]


def as_generator(environ, start_response):
    start_response("200 OK", [])
    return (BIG[at : at + 65536] for at in range(0, len(BIG), 65536))


def as_file(environ, start_response):
    start_response("200 OK", [])
    file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the wrapper)
    file.write(BIG)
    file.seek(0)
    return environ["wsgi.file_wrapper"](file)


@pytest.mark.parametrize("big", [as_list, as_generator, as_file])
def test_slow_readers_cost_neither_threads_nor_memory(serve_on_loops, connect, big):
    """More of them than threads, with 3 MB each, while others are served; all get the whole."""

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/big":
            return big(environ, start_response)
        start_response("200 OK", [])
        return [b"small"]

    server = serve_on_loops(app, threads=2, response_buffer=MEMORY_BUFFER, **small_buffers())
    before = resident_bytes()
    readers = [connect(server, receive_buffer=4096) for _ in range(READERS)]
    for reader in readers:
        reader.get("/big")
    for reader in readers:
        assert reader.read_head()[0] == 200
    good = connect(server)
    for _ in range(20):
        good.get()
        assert good.read_response()[2] == b"small"
    eventually(lambda: all(c._output.pending for c in slow_ones(server)))
    backlogs = [connection._output._buffer for connection in slow_ones(server)]
    assert len(backlogs) == READERS
    assert sum(backlog.memory for backlog in backlogs) <= READERS * MEMORY_BUFFER
    assert FREE_THREADED or resident_bytes() - before < READERS * len(BIG) / 3
    for reader in readers:
        rest = reader.file.read(len(BIG)) if big is not as_generator else reader.read_chunked()
        assert rest == BIG


def slow_ones(server):
    """The connections whose response is not sent."""
    return [c for c in tuple(state_of(server).connections) if c.exchange is not None]


def test_dribbling_clients_cost_no_thread(serve_on_loops, connect):
    """Headers and bodies that come a byte at a time are the loop's; a good client sees nothing."""
    server = serve_on_loops(lambda e, s: (s("200 OK", []), [b"ok"])[1], threads=1)
    dribblers = [connect(server) for _ in range(60)]
    for number, client in enumerate(dribblers):
        client.send(HEADERS if number % 2 else BODY)
    good = connect(server)
    for _ in range(10):
        for client in dribblers:
            client.send(b"a")
        good.get()
        assert good.read_response()[2] == b"ok"
    assert state_of(server).scheduler.requests == 10
    for client in dribblers[::2]:
        client.send(bytes(990))
        assert client.read_response()[2] == b"ok"
    for client in dribblers[1::2]:
        client.send(b"\r\n\r\n")
        assert client.read_response()[2] == b"ok"


# Descriptors

EATING_APP = """
import os

eaten = []

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/eat":
        try:
            while True:
                eaten.append(os.dup(0))
        except OSError as error:
            body = error.strerror.encode()
    else:
        while path == "/free" and eaten:
            os.close(eaten.pop())
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
"""Takes all descriptors that there are, until it is told to give them back."""

LIMITED = ("sh", "-c", 'ulimit -n 150 && exec "$@"', "sh")
"""Runs a program with few descriptors."""


@contextmanager
def few_descriptors(directory: Path, *arguments: str) -> Iterator[tuple[str, int]]:
    """A server that has few, for a block."""
    write_app(directory, EATING_APP)
    with workers(directory, *arguments, wrapper=LIMITED) as (_, address):
        yield address


def assert_waits_without_spinning(client: Client, pid: int) -> None:
    """Nothing comes for a while, in which the server does next to nothing."""
    before, began = cpu_seconds(pid), monotonic()
    ready, _, _ = select.select([client.socket], [], [], UNIT)
    assert not ready
    assert cpu_seconds(pid) - before < (monotonic() - began) / 2


def test_accepting_pauses_before_descriptors_run_out(tmp_path: Path) -> None:
    """Who is here is served, who comes waits without cost, and is served when there is room."""
    with few_descriptors(tmp_path) as address, ExitStack() as stack:
        pid = int(ask(address)[1])

        def descriptors() -> int:
            return len(os.listdir(f"/proc/{pid}/fd"))

        clients = [stack.enter_context(Client(address[1])) for _ in range(60)]
        for client in clients:
            # Not idle, so that it is not closed to make room.
            client.send(b"GET / HTTP/1.1\r\n")
        settled = 0
        while settled != (settled := descriptors()):
            Event().wait(0.1 * UNIT)
        assert settled < 150 - 32
        late = clients[-1]
        assert_waits_without_spinning(late, pid)
        for client in clients:
            client.send(b"Host: x\r\nConnection: close\r\n\r\n")
            code, _, body = client.read_response()
            assert (code, int(body)) == (200, pid)
            client.close()


def test_idle_connections_make_room_for_new_ones(tmp_path: Path) -> None:
    """Far more clients than there is room for, each of which keeps its connection, are served."""
    with few_descriptors(tmp_path) as address, ExitStack() as stack:
        clients = []
        for _ in range(80):
            client = stack.enter_context(Client(address[1]))
            client.get()
            assert client.read_response()[0] == 200
            clients.append(client)
        closed = [client.socket.recv(1, socket.MSG_DONTWAIT) == b"" for client in clients[:5]]
        assert closed == [True] * 5
        clients[-1].get()
        assert clients[-1].read_response()[0] == 200


def test_an_application_that_eats_all_descriptors(tmp_path: Path) -> None:
    """Accepting pauses, tries again now and then, and recovers when some are given back."""
    with few_descriptors(tmp_path) as address, Client(address[1]) as eater:
        pid = int(ask(address)[1])
        eater.get("/eat")
        assert eater.read_response()[2] == b"Too many open files"
        # Else its connection would be closed to make room.
        eater.send(b"GET /free HTTP/1.1\r\n")
        with Client(address[1]) as late:
            late.get()
            assert_waits_without_spinning(late, pid)
            eater.send(b"Host: x\r\n\r\n")
            assert eater.read_response()[0] == 200
            assert late.read_response()[0] == 200


# A full disk


@pytest.fixture(params=["tmpfs", "device"])
def full_disk(request, tmp_path, monkeypatch):
    """Temporary files have no room, or almost none."""
    if request.param == "device":
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "r+b"))  # noqa: SIM115
        yield
        return
    command = ("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path))
    with suppress(OSError):
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
            try:
                yield
            finally:
                subprocess.run(("umount", str(tmp_path)), check=True)
            return
    pytest.skip("only root may mount a file system")


def test_a_full_disk_is_507(serve_on_loops, connect, full_disk):
    """For the upload that needs it; small ones, and responses, go on as ever."""

    def app(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [b"%d" % len(body)]

    server = serve_on_loops(app, request_buffering="on")
    small = connect(server)
    for _ in range(3):
        large = connect(server)
        large.send(BODY.replace(b"1000", b"%d" % UPLOAD) + bytes(UPLOAD))
        code, fields, _ = large.read_response()
        assert (code, fields["connection"]) == (507, "close")
        large.finish()
        assert large.read_to_end() == b""
        small.send(BODY + bytes(1000))
        assert small.read_response()[2] == b"1000"


# Memory over time


def requests_in_a_row(client: Client, count: int, batch: int = 50) -> None:
    """Send so many, some at a time, and read the answers."""
    request = b"GET /path HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\n\r\n"
    for _ in range(count // batch):
        client.send(request * batch)
        for _ in range(batch):
            assert client.read_response()[0] == 200


def slow_uploads(port: int, count: int) -> None:
    """So many at once, each in pieces that come in turn."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(port)) for _ in range(count)]
        for client in clients:
            client.send(BODY)
        for _ in range(4):
            for client in clients:
                client.send(bytes(250))
        for client in clients:
            assert client.read_response()[0] == 200


def test_memory_is_flat(tmp_path: Path) -> None:
    """Over many requests, many slow uploads and many connections."""
    write_app(tmp_path)
    with workers(tmp_path) as (_, address):
        pid = int(ask(address)[1])
        for number in range(6):
            with Client(address[1]) as client:
                requests_in_a_row(client, 2500)
            slow_uploads(address[1], 100)
            if number == 1:
                before = rss(pid)
        assert rss(pid) - before < 10 * MEGABYTE


def test_an_overload_leaves_nothing_behind(serve_once, connect):
    """Refusals and clients that give up are forgotten, though the only thread hangs meanwhile."""
    gate = Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/wait":
            gate.wait(PATIENCE)
        start_response("200 OK", [])
        return []

    server = serve_once(app, threads=1, queue_size=8)
    state = state_of(server)
    first = connect(server)
    first.get("/wait")
    eventually(lambda: state.scheduler.requests == 1)
    for _ in range(20):
        clients = [Client(server.port) for _ in range(20)]
        for client in clients:
            client.get()
        eventually(lambda: state.scheduler.waiting() - len(state.context.abandoned) == 8)
        for client in clients:
            client.reset()
        eventually(lambda: len(state.connections) == 1)
        assert state.scheduler.waiting() <= 16
    assert state.scheduler.dropped >= 100
    gate.set()
    assert first.read_response()[0] == 200
    eventually(lambda: not state.scheduler.waiting())
    assert not state.context.abandoned
    assert state.scheduler.requests - state.scheduler.dropped == 1


# When requests wait too long for a thread

WAITING_APP = """
import os

def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        # Opening one end of a FIFO waits for who opens the other.
        open(os.environ["GATE"]).close()
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

HELD_UP = ("--threads", "1", "--queue-timeout", f"{3 * UNIT}", "--admin")

LONG_WAIT = f"a request has waited more than {1.5 * UNIT:g} s for a thread\n".encode()


def test_a_long_wait_for_a_thread_is_unready(tmp_path: Path) -> None:
    """``/readyz`` says so, and the live view, until the request is served."""
    write_app(tmp_path, WAITING_APP)
    admin = tmp_path / "admin"
    options = (*HELD_UP, f"unix:{admin}")
    with (
        gate(tmp_path) as fifo,
        workers(tmp_path, *options, GATE=str(fifo)) as (_, (_, port)),
        Client(port) as busy,
        Client(port) as waiting,
    ):
        assert ask_admin(admin, "/readyz") == (200, b"ready\n")
        busy.get("/wait")
        eventually(lambda: shown(admin)["threads"]["busy"] == 1)
        waiting.get()
        eventually(lambda: ask_admin(admin, "/readyz") == (503, LONG_WAIT))
        status = shown(admin)
        assert status["unready"] == status["workers"][0]["unready"] == LONG_WAIT.decode().strip()
        assert ask_admin(admin, "/livez") == (200, b"alive\n")
        with fifo.open("w"):
            assert waiting.read_response()[0] == 200
        eventually(lambda: ask_admin(admin, "/readyz") == (200, b"ready\n"))


def shown(admin: Path) -> dict[str, Any]:
    """An overview."""
    overview: dict[str, Any] = json.loads(ask_admin(admin, "/status.json")[1])
    return overview


def test_one_worker_that_is_free_is_enough(tmp_path: Path) -> None:
    """All workers have to be held up for the whole to be unready; each is shown as what it is."""
    write_app(tmp_path, WAITING_APP)
    admin = tmp_path / "admin"
    options = (*HELD_UP, f"unix:{admin}", "--workers", "2")
    with (
        gate(tmp_path) as fifo,
        workers(tmp_path, *options, GATE=str(fifo)) as (_, (_, port)),
        ExitStack() as stack,
    ):
        clients: dict[bytes, list[Client]] = {}
        while len(clients) < 2 or min(map(len, clients.values())) < 3:
            client = stack.enter_context(Client(port))
            client.get()
            clients.setdefault(client.read_response()[2], []).append(client)
        one, other = clients.values()
        one[0].get("/wait")
        one[1].get()
        eventually(lambda: sum(bool(w["unready"]) for w in shown(admin)["workers"]) == 1)
        assert ask_admin(admin, "/readyz")[0] == 200
        other[0].get("/wait")
        for waiting in (one[2], other[1]):
            waiting.get()
        eventually(lambda: ask_admin(admin, "/readyz") == (503, LONG_WAIT))
        with fifo.open("w"):
            assert one[2].read_response()[0] == other[1].read_response()[0] == 200
        eventually(lambda: ask_admin(admin, "/readyz")[0] == 200)


# When more threads hang than may

HANGING_APP = """
import threading

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        threading.Event().wait()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

BUDGET = ("--threads", "2", "--max-detached-threads", "1", "--request-timeout")


def test_a_worker_whose_threads_hang_is_replaced(tmp_path: Path) -> None:
    """It is unready, says why, serves on until another stands in for it, and goes."""
    write_app(tmp_path, HANGING_APP)
    admin = tmp_path / "admin"
    options = (*BUDGET, f"{0.2 * UNIT}", "--admin", f"unix:{admin}")
    with gate(tmp_path) as fifo, workers(tmp_path, *options) as (program, address):
        # The next worker waits there while it imports the application.
        write_app(tmp_path, f"open({str(fifo)!r}).read()\n{HANGING_APP}")
        assert ask(address, "/hang")[0] == 504
        assert ask_admin(admin, "/readyz")[0] == 200
        assert ask(address, "/hang")[0] == 504
        why = "too many threads hang beyond the request timeout"
        program.expect(f"worker \\d+ will be replaced: {why}")
        code, body = ask_admin(admin, "/readyz")
        assert (code, why in body.decode()) == (503, True)
        assert ask_admin(admin, "/livez")[0] == 200
        assert ask(address)[0] == 200
        fifo.open("w").close()
        program.expect(r"worker \d+ is ready")
        program.expect(r"worker \d+ has ended$")
        assert ask_admin(admin, "/readyz")[0] == 200
        assert ask(address)[0] == 200
        assert program.stop() == 0


def test_a_single_process_whose_threads_hang_ends(tmp_path: Path) -> None:
    """Nobody replaces it but the service manager, to which a status of its own says so."""
    script = tmp_path / "embedding.py"
    options = f"threads=2, max_detached_threads=1, request_timeout={0.2 * UNIT}"
    call = f"aiowsgi.serve(app, bind='127.0.0.1:0', access_log=False, {options})"
    script.write_text(f"{HANGING_APP}\nimport sys, aiowsgi\nsys.exit({call})\n")
    with running(sys.executable, str(script), PYTHONPATH=str(ROOT)) as program:
        port = int(program.expect(LISTENING)[1].rpartition(":")[2])
        assert ask(("127.0.0.1", port), "/hang")[0] == 504
        assert ask(("127.0.0.1", port))[0] == 200
        assert ask(("127.0.0.1", port), "/hang")[0] == 504
        assert program.process.wait(PATIENCE) == EXIT_SPENT
