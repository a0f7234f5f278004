"""``aiowsgi top`` and its sisters, before an endpoint of the test's own."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from threading import Thread

import pytest
from processes import ROOT
from status_samples import REQUEST, STACK, a_report
from support import PATIENCE, free_port

from aiowsgi.admin.tables import request_grid
from aiowsgi.cli import top as module
from aiowsgi.cli.main import main
from aiowsgi.status.aggregate import ServerFacts, WorkerReport, overview

TOKEN = "0123456789abcdef"


class Endpoint(ThreadingMixIn, HTTPServer):
    """Answers as the admin endpoint does."""

    daemon_threads = True

    def __init__(self, address, family=socket.AF_INET):
        self.address_family = family
        super().__init__(address, Handler)
        report = {**a_report(), "requests": [REQUEST]}
        self.pages = {
            "/status.json": overview(ServerFacts(1.0, 65.0), [WorkerReport(7, 1, "ready", report)]),
            "/requests": [REQUEST],
            "/stacks.json": [STACK],
        }
        self.token = None
        self.status = 200
        self.text = None

    def server_bind(self):
        """Without asking for the host's name; connections before may be in TIME-WAIT still."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "test", 0

    @property
    def address(self):
        """What is given to ``--admin``."""
        if isinstance(self.server_address, tuple):
            return "{}:{}".format(*self.server_address)
        name = self.server_address
        return f"unix:{name}" if isinstance(name, str) else f"unix:@{name[1:].decode()}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):
        """Answer with a page, or as the test has it."""
        server = self.server
        wanted = server.token and f"Bearer {server.token}"
        allowed = not wanted or self.headers["Authorization"] == wanted
        self.send_response(server.status if allowed else 401)
        self.end_headers()
        text = json.dumps(server.pages[self.path]) if server.text is None else server.text
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        """Nothing."""

    def address_string(self):
        """Of a unix socket there is none."""
        return ""


@pytest.fixture(params=["tcp", "unix", "abstract"])
def endpoint(request, tmp_path):
    """An endpoint of each kind."""
    if request.param == "tcp":
        server = Endpoint(("127.0.0.1", 0))
    else:
        path = str(tmp_path / "s") if request.param == "unix" else f"\0aiowsgi-{os.getpid()}"
        server = Endpoint(path, socket.AF_UNIX)
    yield from served(server)


@pytest.fixture
def tcp():
    """An endpoint on TCP."""
    yield from served(Endpoint(("127.0.0.1", 0)))


def served(server):
    """Have it served in the background."""
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join(PATIENCE)
    server.server_close()


@pytest.fixture(autouse=True)
def nothing_else_says_where(monkeypatch, tmp_path):
    """No variable and no file of the developer's."""
    monkeypatch.delenv("AIOWSGI_ADMIN", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(tmp_path)


def test_requests(endpoint, capsys):
    """A line for each request in flight, wherever the endpoint listens."""
    assert main(["requests", "--admin", endpoint.address]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split() == ["AGE", "PHASE", "WORKER", "WHERE", "CLIENT", "REQUEST"]
    assert "12 s  application" in line
    assert line.endswith("GET /reports/yearly")


def test_no_requests(tcp, capsys):
    """That there are none is said."""
    tcp.pages["/requests"] = []
    assert main(["requests", "--admin", tcp.address]) == 0
    assert capsys.readouterr().out == "No request is in flight.\n"


def test_stacks(tcp, capsys):
    """Where each busy thread stands."""
    assert main(["stacks", "--admin", tcp.address]) == 0
    assert "in yearly" in capsys.readouterr().out


def test_top_into_a_pipe(tcp, capsys):
    """So many overviews as were asked for, one after the other, without any control character."""
    assert main(["top", "--admin", tcp.address, "--interval", "1ms", "-n", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count(f"aiowsgi at {tcp.address}, up 1 min 5 s, ready") == 2
    assert out.count("GET /reports/yearly") == 2
    assert "\x1b" not in out


def test_where_to_ask_is_found_as_the_server_finds_it(tcp, monkeypatch, tmp_path, capsys):
    """The variable, and a configuration file."""
    monkeypatch.setenv("AIOWSGI_ADMIN", tcp.address)
    assert main(["requests"]) == 0
    monkeypatch.delenv("AIOWSGI_ADMIN")
    (tmp_path / "server.toml").write_text(f'admin = "{tcp.address}"\n')
    assert main(["requests", "-c", "server.toml"]) == 0
    assert capsys.readouterr().out.count("/reports/yearly") == 2


def test_token(tcp, tmp_path, capsys):
    """It is taken from its file; without it, the message says what to do."""
    tcp.token = TOKEN
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert main(["requests", "--admin", tcp.address, "--admin-token-file", "token"]) == 0
    assert main(["requests", "--admin", tcp.address]) == 1
    assert "requires a token: give --admin-token-file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["top", "requests", "stacks"])
def test_nobody_there(command, capsys):
    """A message and a status, no traceback."""
    address = f"127.0.0.1:{free_port()}"
    assert main([command, "--admin", address]) == 1
    said = capsys.readouterr().err
    assert said == (
        f"aiowsgi: cannot ask {address}: connection refused; is the server running with --admin?\n"
    )


def test_closed_without_an_answer(capsys):
    """Somebody listens, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up():
            connection, _ = listener.accept()
            connection.recv(10_000)
            connection.close()

        thread = Thread(target=hang_up)
        thread.start()
        port = listener.getsockname()[1]
        assert main(["requests", "--admin", f"127.0.0.1:{port}"]) == 1
        thread.join(PATIENCE)
    assert "cannot ask" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [(404, "", "answers 404: is it"), (200, "<html>", "is not aiowsgi's admin endpoint")],
)
def test_somebody_else_there(tcp, capsys, status, text, said):
    """What is no admin endpoint is called so."""
    tcp.status, tcp.text = status, text
    assert main(["requests", "--admin", tcp.address]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["top"], "admin: give the address that the server has as --admin"),
        (["top", "--admin", "fd://3"], "cannot connect to fd://3"),
        (["top", "--admin", "127.0.0.1:0"], "cannot connect to 127.0.0.1:0"),
        (["top", "--admin", "nonsense"], "--admin: "),
        (["top", "--admin", "127.0.0.1:1", "--interval", "soon"], "--interval: 'soon' is not"),
        (["top", "--admin", "127.0.0.1:1", "-n", "few"], "--count: "),
        (["requests", "--admin"], "expected one argument"),
        (["stacks", "--app", "x"], "--app"),
    ],
)
def test_wrong_usage(arguments, said, capsys):
    """As it is for the server: a message, and status 2."""
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]", ""])
def test_an_endpoint_that_listens_everywhere_is_found_here(address, tmp_path):
    """One cannot connect to such an address; this machine is meant."""
    from aiowsgi.admin.client import AdminClient
    from aiowsgi.net.address import parse_bind

    connection = AdminClient(parse_bind(f"{address}:9"))._connection()
    assert connection.host in {"127.0.0.1", "::1"}


# On a terminal


class Screen:
    """A terminal of 100 columns and 30 lines on which a program runs."""

    def __init__(self, *arguments, columns=100, **variables):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        command = (sys.executable, "-m", "aiowsgi", *arguments)
        environ = {**os.environ, "TERM": "xterm", **variables}
        self.program = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environ, cwd=ROOT
        )
        os.close(slave)
        self.shown = ""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.program.kill()
        self.program.wait(PATIENCE)
        os.close(self.master)

    def expect(self, text):
        """Read until ``text`` was shown."""
        while text not in self.shown:
            assert select.select([self.master], [], [], PATIENCE)[0], self.shown
            self.shown += os.read(self.master, 65536).decode()


@pytest.fixture
def no_rich(tmp_path):
    """A folder that hides rich from a program that finds it first."""
    (tmp_path / "rich.py").write_text("raise ImportError\n")
    return str(tmp_path)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.slow("processes")
def test_until_interrupted(tcp, no_rich, plain):
    """It is drawn again and again, with rich and without, and Ctrl-C is its proper end."""
    if not plain:
        pytest.importorskip("rich")
    variables = {"PYTHONPATH": no_rich} if plain else {}
    with Screen("top", "--admin", tcp.address, "--interval", "10ms", **variables) as screen:
        screen.expect("/reports/yearly")
        tcp.pages["/status.json"]["unready"] = "draining"
        screen.expect("NOT READY: draining")
        # Only rich takes a screen of its own (xterm's private mode 1049).
        assert ("\x1b[?1049h" in screen.shown) is not plain
        screen.program.send_signal(signal.SIGINT)
        assert screen.program.wait(PATIENCE) == 0
    assert "Traceback" not in screen.shown


def press(screen, key):
    """Press a key on the terminal's keyboard."""
    os.write(screen.master, key.encode())


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.slow("processes")
def test_keys(tcp, no_rich, plain):
    """s shows the stacks and the requests again, q ends it, and the terminal is as it was."""
    if not plain:
        pytest.importorskip("rich")
    variables = {"PYTHONPATH": no_rich} if plain else {}
    with Screen("top", "--admin", tcp.address, "--interval", "50ms", **variables) as screen:
        before = termios.tcgetattr(screen.master)
        screen.expect("q quits, s shows stacks")
        press(screen, "s")
        screen.expect("in yearly")
        screen.expect("q quits, s shows requests")
        screen.shown = ""
        press(screen, "s")
        screen.expect("q quits, s shows stacks")
        press(screen, "q")
        assert screen.program.wait(PATIENCE) == 0
        assert termios.tcgetattr(screen.master) == before


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.slow("processes")
def test_a_restart_of_the_server(no_rich, plain):
    """That it does not answer is shown, with what was known, until it does again."""
    if not plain:
        pytest.importorskip("rich")
    variables = {"PYTHONPATH": no_rich} if plain else {}
    server = Endpoint(("127.0.0.1", 0))
    address = server.server_address
    serving = served(server)
    next(serving)
    with Screen("top", "--admin", server.address, "--interval", "50ms", **variables) as screen:
        screen.expect("/reports/yearly")
        next(serving, None)
        screen.expect("trying again")
        screen.shown = ""
        again = Endpoint(address)
        again.pages["/status.json"]["requests"] = [{**REQUEST, "path": "/after/the/restart"}]
        serving = served(again)
        next(serving)
        screen.expect("/after/the/restart")
        press(screen, "q")
        assert screen.program.wait(PATIENCE) == 0
    next(serving, None)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.slow("processes")
def test_80_columns(tcp, no_rich, plain):
    """However long the path is, age, worker and place of a request are there."""
    if not plain:
        pytest.importorskip("rich")
    row = {**REQUEST, "path": "/" + "x" * 200, "worker": 29939, "client": "127.0.0.1:41126"}
    tcp.pages["/status.json"]["requests"] = [row]
    variables = {"PYTHONPATH": no_rich} if plain else {}
    arguments = ("top", "--admin", tcp.address, "--interval", "50ms")
    with Screen(*arguments, columns=80, **variables) as screen:
        for text in ("12 s", "29939", "shop.py:3 yearly", "GET /xxx"):
            screen.expect(text)
        press(screen, "q")
        assert screen.program.wait(PATIENCE) == 0


def test_requests_at_one_place_are_counted(tcp, capsys):
    """Before the table; a place with one request is in the table only."""
    other = {**REQUEST, "where": "shop.py:9 other"}
    tcp.pages["/requests"] = [REQUEST, other, REQUEST]
    assert main(["requests", "--admin", tcp.address]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 requests at shop.py:3 yearly\n\n")
    assert "requests at shop.py:9" not in out


def test_all_calls(tcp, capsys):
    """Those of Python and the server only if they are asked for."""
    assert main(["stacks", "--admin", tcp.address]) == 0
    assert "threading.py" not in capsys.readouterr().out
    assert main(["stacks", "--all", "--admin", tcp.address]) == 0
    assert "threading.py" in capsys.readouterr().out


def test_rich_shows_figures_whole():
    """On a narrow terminal paths are cut, and a request is a line."""
    console = pytest.importorskip("rich.console")
    parts = ["aiowsgi, NOT READY: draining", request_grid([REQUEST, {**REQUEST, "age": 0.0}])]
    out = io.StringIO()
    console.Console(file=out, width=50, force_terminal=False).print(module._rich(parts))
    head, _, *lines = out.getvalue().splitlines()
    assert head.rstrip() == parts[0]
    for line, age in zip(lines, ("12 s", "0 µs"), strict=True):
        assert age in line
        assert "shop.py:3 yearly" in line
        assert "/reports/yearly" not in line
        assert "…" in line


@pytest.mark.parametrize("rich", [True, False])
def test_on_a_terminal(tcp, monkeypatch, capsys, rich):
    """It takes the screen, gives it back, and an interrupt at any time is its proper end."""
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.live", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    naps = iter([None, None])

    def sleep(_):
        if next(naps, "over") == "over":
            raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", sleep)
    assert main(["top", "--admin", tcp.address]) == 0
    assert "aiowsgi at" in capsys.readouterr().out


def test_without_rich_what_does_not_fit(tcp, capsys, monkeypatch):
    """A line goes on in the next one, a table is cut, and the top of the page stays in sight."""
    monkeypatch.setattr(module.shutil, "get_terminal_size", lambda **_: os.terminal_size((20, 4)))
    table = module.Table(("PATH",), [["y" * 30]], [""], "PATH")
    module._redraw(["x" * 30, table, "z"])
    assert capsys.readouterr().out == f"\x1b[H\x1b[J{'x' * 20}\n{'x' * 10}\nPATH\n"
