"""A server inside a program's event loop: its beginning, its end, and what it owns."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from support import PATIENCE, UNIT, Client, Gate, eventually, no_descriptor_leaks

from aiowsgi import Config, ConfigError, Server
from aiowsgi.exceptions import BindError
from aiowsgi.net.address import TcpAddress
from aiowsgi.net.listeners import Listener, Listeners
from aiowsgi.system.event_loop import loop_factory


def hello(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]


def config(**options):
    """A free port, and nothing on standard output."""
    return Config(**{"bind": ("127.0.0.1:0",), "access_log": False, **options})


@pytest.fixture
def run(loop_name):
    """Run a coroutine on each loop."""
    # What a loop opens once for the process must not look like a leak.
    loop_factory(loop_name)().close()

    def run(coroutine):
        with asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner:
            return runner.run(asyncio.wait_for(coroutine, PATIENCE))

    return run


def ask(port, *fields):
    """One request on a connection of its own; what is answered."""
    with Client(port) as client:
        client.get("/", *fields)
        return client.read_response()


async def asked(port, *fields):
    """The same, in a thread."""
    return await asyncio.to_thread(ask, port, *fields)


def no_threads():
    """No worker or log writer is left."""
    return not [thread for thread in threading.enumerate() if thread.name.startswith("aiowsgi")]


def test_a_server_serves_for_the_length_of_a_block(run):
    """It says where, and leaves nothing behind."""

    async def main():
        async with Server(hello, config()) as server:
            assert server.url == f"http://127.0.0.1:{server.port}"
            assert server.urls == [server.url]
            assert server.port == server.sockets[0].getsockname()[1]
            assert server.ready
            assert (await asked(server.port))[2] == b"hello"
            assert server.requests_served == 1
        assert not server.ready
        with pytest.raises(ConnectionRefusedError):
            await asked(server.port)
        assert server.url

    with no_descriptor_leaks():
        run(main())
    assert no_threads()


def test_two_servers_in_one_loop(run):
    """They share the loop, and nothing else."""

    def other(environ, start_response):
        start_response("200 OK", [])
        return [b"other"]

    async def main():
        async with Server(hello, config()) as first, Server(other, config()) as second:
            for _ in range(3):
                assert (await asked(first.port))[2] == b"hello"
                assert (await asked(second.port))[2] == b"other"
            await first.stop()
            assert (await asked(second.port))[2] == b"other"

    run(main())
    assert no_threads()


def test_a_server_starts_once(run):
    """Another can take its port at once."""

    async def main():
        server = Server(hello, config())
        await server.start()
        port = server.port
        with pytest.raises(RuntimeError, match="starts once"):
            await server.start()
        await asked(port)
        assert await server.stop()
        with pytest.raises(RuntimeError, match="starts once"):
            await server.start()
        async with Server(hello, config(bind=(f"127.0.0.1:{port}",))):
            assert (await asked(port))[2] == b"hello"

    run(main())


def test_the_end_can_be_asked_for_again_and_before_the_beginning(run):
    """close, stop and wait_closed are idempotent, and nothing to a server that never started."""

    async def main():
        server = Server(hello, config())
        server.close()
        await server.wait_closed()
        assert await server.stop()
        server.reopen_logs()
        server.reload_certificates()
        server.stop_accepting()
        server.start_accepting()
        assert (server.urls, list(server.sockets), server.requests_served) == ([], [], 0)
        await server.start()
        server.close()
        server.close()
        server.start_accepting()
        assert not server.ready
        await server.wait_closed()
        assert await server.stop()
        assert await server.stop()

    run(main())


def test_accepting_can_be_paused(run):
    """Who connects waits in the kernel and is served afterwards."""

    async def main():
        async with Server(hello, config()) as server:
            server.stop_accepting()
            assert not server.ready
            waiting = asyncio.ensure_future(asked(server.port))
            with Client(server.port) as client:
                client.get()
                server.start_accepting()
                assert (await waiting)[0] == 200
                assert (await asyncio.to_thread(client.read_response))[0] == 200

    run(main())


def test_an_idle_connection_does_not_hold_up_the_end(run):
    """It is closed once it has been idle for a moment; the last response says close."""

    async def main():
        server = Server(hello, config())
        await server.start()
        with Client(server.port) as kept, Client(server.port) as fresh:
            kept.get()
            await asyncio.to_thread(kept.read_response)
            server.close()
            kept.get()
            code, fields, _ = await asyncio.to_thread(kept.read_response)
            assert (code, fields["connection"]) == (200, "close")
            assert await asyncio.to_thread(fresh.read_to_end) == b""
        assert await server.stop()

    run(main())


def test_the_end_waits_for_requests_in_progress(run):
    """They are answered with Connection: close, and the stop was clean."""
    gate = Gate()

    async def main():
        server = Server(gate.before(hello), config())
        await server.start()
        answer = asyncio.ensure_future(asked(server.port))
        await asyncio.to_thread(gate.wait)
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        gate.open()
        code, fields, _ = await answer
        assert (code, fields["connection"]) == (200, "close")
        assert await stopping

    run(main())


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_keep_alive_0_closes(run, parser):
    """``--keep-alive 0``: every response says that its connection ends, and it does."""

    async def main():
        async with Server(hello, config(keep_alive=0, http=parser)) as server:
            _, fields, body = await asked(server.port)
            assert (fields["connection"], body) == ("close", b"hello")

    run(main())


def test_for_ever(run):
    """``inf``: connections are kept and a stop waits, without a limit."""

    async def main():
        timeless = {"keep_alive": "inf", "graceful_timeout": "inf", "request_timeout": "inf"}
        async with Server(hello, config(**timeless)) as server:
            _, fields, _ = await asked(server.port)
            assert "connection" not in fields
            assert await server.stop()

    run(main())


@pytest.mark.parametrize("how", ["grace", "configured", "at once", "exception"])
def test_the_end_does_not_wait_for_ever(run, how, monkeypatch):
    """What takes longer is cut, and the stop was not clean."""
    monkeypatch.setattr("aiowsgi.server.server.ABORT_GRACE", 0.05 * UNIT)
    gate = Gate()

    async def main():
        grace = 0 if how == "at once" else 0.05
        server = Server(gate.before(hello), config(graceful_timeout=grace))
        try:
            async with server:
                with Client(server.port) as client:
                    client.get()
                    await asyncio.to_thread(gate.wait)
                    if how == "exception":
                        raise KeyError
                    assert not await server.stop(0.01 if how == "grace" else None)
                    with pytest.raises((EOFError, ConnectionResetError)):
                        client.read_head()
        except KeyError:
            assert how == "exception"
        finally:
            gate.open()

    with no_descriptor_leaks():
        run(main())


def test_a_connection_on_its_way_in_is_not_forgotten(run):
    """Closing right after accepting: the connection ends before the server does."""

    async def main():
        server = Server(hello, config())
        await server.start()
        with Client(server.port) as client:
            # The loop accepts, and the transport is made in a later step.
            while not server._acceptor.entering:  # noqa: ASYNC110 - step by step
                await asyncio.sleep(0)
            server.close()
            assert not server._closed.done()
            client.get()
            code, fields, _ = await asyncio.to_thread(client.read_response)
            assert (code, fields["connection"]) == (200, "close")
        assert await server.stop()

    with no_descriptor_leaks():
        run(main())


def test_an_executor_of_the_programs_stays_the_programs(run):
    """It runs the application, and is not shut down; one that is shut down is a 503."""
    names = []

    def app(environ, start_response):
        names.append(threading.current_thread().name)
        return hello(environ, start_response)

    async def main():
        with ThreadPoolExecutor(2, "mine") as executor:
            async with Server(app, config(), executor=executor) as server:
                await asked(server.port)
            assert executor.submit(int).result() == 0
            async with Server(app, config(), executor=executor) as server:
                executor.shutdown()
                assert (await asked(server.port))[0] == 503

    run(main())
    assert names[0].startswith("mine")


def test_listeners_of_the_programs_stay_the_programs(run):
    """They are accepted from, and left open."""

    async def main():
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        listeners = Listeners([Listener(sock, TcpAddress(*sock.getsockname()))])
        for _ in range(2):
            async with Server(hello, config(), listeners=listeners) as server:
                assert server.port == sock.getsockname()[1]
                assert (await asked(server.port))[2] == b"hello"
        assert sock.fileno() >= 0
        listeners.close()

    run(main())


def test_several_addresses(run, tmp_path):
    """Each has its URL; a unix socket has no port."""
    path = tmp_path / "socket"

    async def main():
        async with Server(hello, config(bind=("127.0.0.1:0", f"unix:{path}"))) as server:
            assert len(server.urls) == len(server.sockets) == 2
            assert str(path) in server.urls[1]
        assert not path.exists()
        async with Server(hello, config(bind=(f"unix:{path}",))) as server:
            assert server.port == 0

    run(main())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"bind": ("127.0.0.1:0", "127.0.0.1:1")}, BindError),
        ({"access_log": True, "access_logfile": "/nowhere/log"}, ConfigError),
        ({"access_log": True, "access_logformat": "%(nonsense)s"}, ConfigError),
        ({"certfile": "/nowhere/cert"}, ConfigError),
    ],
)
def test_a_start_that_fails_leaves_nothing_open(run, options, error, monkeypatch):
    """No listener, no thread, no file."""
    if error is BindError:
        taken = socket.create_server(("127.0.0.1", 0))
        options = {"bind": ("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}")}

    async def main():
        with pytest.raises(error):
            await Server(hello, config(**options)).start()

    try:
        with no_descriptor_leaks():
            run(main())
    finally:
        if error is BindError:
            taken.close()
    assert no_threads()


def test_without_a_configuration_the_defaults_hold():
    """Nothing is opened before the start."""
    with no_descriptor_leaks():
        assert Server(hello)._config == Config()


def test_every_request_is_in_the_access_log_before_the_end(run, tmp_path):
    """The last response is sent before it is logged; the log is closed after that."""
    path = tmp_path / "log"

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/clear":
            environ.clear()
        return hello(environ, start_response)

    async def main(number):
        async with Server(app, config(access_log=True, access_logfile=str(path))) as server:
            assert (await asked(server.port, "Connection: close"))[0] == 200
            server.reopen_logs()

    for number in range(5):
        run(main(number))
    lines = path.read_text().splitlines()
    assert len(lines) == 5
    assert all('"GET / HTTP/1.1" 200 5' in line for line in lines)


def test_refusals_are_in_the_access_log(run, tmp_path):
    """Also those of which no application knows."""
    path = tmp_path / "log"

    async def main():
        async with Server(hello, config(access_log=True, access_logfile=str(path))) as server:
            with Client(server.port) as client:
                client.send(b"nonsense\r\n\r\n")
                await asyncio.to_thread(client.read_to_end)

    run(main())
    (line,) = path.read_text().splitlines()
    assert " 400 " in line


def test_the_access_log_can_be_a_logger(run, caplog):
    """Where the program gave ``aiowsgi.access`` handlers of its own."""
    logger = logging.getLogger("aiowsgi.access")
    logger.addHandler(caplog.handler)

    async def main():
        async with Server(hello, config(access_log=True)) as server:
            await asked(server.port, "Connection: close")

    try:
        with caplog.at_level(logging.INFO, "aiowsgi.access"):
            run(main())
    finally:
        logger.removeHandler(caplog.handler)
    assert any('"GET / HTTP/1.1" 200 5' in message for message in caplog.messages)


@pytest.mark.parametrize("header", [True, False])
def test_date_and_server_can_be_left_out(run, header):
    """--no-server-header and --no-date-header."""

    async def main():
        async with Server(hello, config(server_header=header, date_header=header)) as server:
            _, fields, _ = await asked(server.port)
            assert ("server" in fields) is header
            assert ("date" in fields) is header

    run(main())


def test_many_clients_at_once(run):
    """A burst is served by a few threads."""

    async def main():
        async with Server(hello, config(threads=2)) as server:
            with ThreadPoolExecutor(20) as clients:
                loop = asyncio.get_running_loop()
                answers = await asyncio.gather(
                    *[loop.run_in_executor(clients, partial(ask, server.port)) for _ in range(100)]
                )
            assert {answer[2] for answer in answers} == {b"hello"}
            assert server.requests_served == 100

    run(main())


def test_a_server_that_is_dropped_gives_its_threads_back(run):
    """An embedding program may lose it without `stop`; sockets are closed, too."""

    async def main():
        server = Server(hello, config(access_log=True, access_logfile="/dev/null"))
        await server.start()
        assert not no_threads()
        return server.port

    with no_descriptor_leaks():
        port = run(main())
        gc.collect()
        eventually(no_threads)
        with pytest.raises(ConnectionRefusedError):
            Client(port)
