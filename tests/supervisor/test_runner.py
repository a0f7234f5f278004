"""The process that serves: what it is to the system, the service manager and its files."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import LISTENING, ROOT, Program, running
from sample_apps import PID_APP, ask, pid_of, starting, workers, write_app
from support import PATIENCE, Client

from aiowsgi.config.options import Config
from aiowsgi.exceptions import ConfigError
from aiowsgi.supervisor import runner
from aiowsgi.supervisor.runner import run_server, serve

NOBODY = pwd.getpwnam("nobody")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do it")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with an application."""
    write_app(tmp_path)
    return tmp_path


# What is refused


@pytest.mark.parametrize(
    "options",
    [{"workers": 2}, {"reload": True}, {"max_requests": 1}, {"max_rss": 1}, {"max_lifetime": 1}],
)
def test_an_object_cannot_be_shared(options: dict[str, int]) -> None:
    """What takes several processes takes the application's name."""
    (name,) = options
    with pytest.raises(ConfigError, match=rf"{name}: .*aiowsgi.run\('module:attribute'\)"):
        serve(lambda environ, start_response: [], **options)


@pytest.mark.slow("processes")
def test_address_in_use(home: Path) -> None:
    """An address that cannot be had ends the start with status 3."""
    with (
        workers(home) as (_, address),
        starting(home, "--bind", f"127.0.0.1:{address[1]}") as second,
    ):
        second.expect(r"aiowsgi: cannot listen on 127.0.0.1:\d+: the address is in use")
        assert second.process.wait(PATIENCE) == 3


@pytest.mark.slow("processes")
def test_bad_admin_address_leaves_nothing(home: Path) -> None:
    """Where one address cannot be had, the file of the other goes again."""
    path = home / "socket"
    with starting(home, "--bind", f"unix:{path}", "--admin", f"unix:{home}/none/x") as program:
        program.expect("the directory does not exist")
        assert program.process.wait(PATIENCE) == 3
    assert not path.exists()


@pytest.mark.slow("processes")
def test_descriptors(home: Path) -> None:
    """The limit on open files is raised, and logged."""
    with workers(home, wrapper=("prlimit", "--nofile=100:500")) as (program, _):
        assert any("open files: up to 500" in line for line in program.lines)


# Files


@pytest.mark.slow("processes")
def test_pid_file(home: Path) -> None:
    """The supervisor's number is in the file, no second server gets it, and it goes at the end."""
    path = home / "server.pid"
    path.write_text("1\n")
    with workers(home, "--pid", str(path)) as (program, _):
        assert path.read_text() == f"{program.process.pid}\n"
        with starting(home, "--pid", str(path)) as second:
            second.expect(f"aiowsgi: pid: {path}: process {program.process.pid} is running")
            assert second.process.wait(PATIENCE) == 2
        assert program.stop() == 0
    assert not path.exists()


def test_names_are_meant_from_here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative names of files are not changed by ``--chdir``."""
    monkeypatch.chdir(home)
    config = Config(certfile="a.pem", access_logfile="-", pid="/run/x", log_config="l.toml")
    anchored = runner._anchored(config)
    assert anchored.certfile == f"{home}/a.pem"
    assert anchored.log_config == f"{home}/l.toml"
    assert (anchored.access_logfile, anchored.pid, anchored.keyfile) == ("-", "/run/x", None)


# Users


def _nobody_can_run_python() -> bool:
    """Whether interpreter and checkout lie where another user can read them."""
    command = [sys.executable, "-c", "import aiowsgi.server.server, h11"]
    try:
        subprocess.run(
            command, cwd=ROOT, user="nobody", group=NOBODY.pw_gid, extra_groups=[], check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@pytest.mark.skipif(
    os.geteuid() != 0 or not _nobody_can_run_python(), reason="root cannot run it as nobody"
)
def test_user(home: Path) -> None:
    """All processes are the user's, and so are the files of sockets, with the mode asked for."""
    # Pytest's directories are closed to others.
    home = Path(shutil.copytree(home, f"/tmp/aiowsgi-{os.getpid()}"))
    home.chmod(0o755)
    path = home / "socket"
    try:
        arguments = ("--user", "nobody", "--umask", "027", "--bind", f"unix:{path}")
        with starting(home, *arguments) as program:
            address = ("", int(program.expect(r"listening on http://\S+:(\d+)")[1]))
            worker = pid_of(address)
            for pid in (program.process.pid, worker):
                status = Path(f"/proc/{pid}/status").read_text()
                assert f"Uid:\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}" in status
                assert f"Gid:\t{NOBODY.pw_gid}\t{NOBODY.pw_gid}\t{NOBODY.pw_gid}" in status
                assert "Umask:\t0027" in status
            found = path.stat()
            assert (found.st_uid, found.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
            assert stat.S_IMODE(found.st_mode) == 0o750
            assert program.stop() == 0
    finally:
        shutil.rmtree(home)


# Service managers


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket; its path is ``notify`` in the test's directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE)
        yield sock


def heard(manager: socket.socket, *, but: bytes = b"WATCHDOG=1") -> bytes:
    """The next message, without its time; ``but`` those that are not asked for."""
    while (message := manager.recv(1000)) == but:
        pass
    return message.partition(b"\nMONOTONIC_USEC=")[0]


@pytest.mark.slow("processes")
def test_notify(home: Path, manager: socket.socket) -> None:
    """The manager hears when the service is up, reloads, is up again, lives, and stops."""
    variables = {"NOTIFY_SOCKET": str(home / "notify"), "WATCHDOG_USEC": "200000"}
    with workers(home, **variables) as (program, _):
        assert heard(manager) == b"READY=1"
        assert heard(manager, but=b"") == b"WATCHDOG=1"
        program.process.send_signal(signal.SIGHUP)
        assert heard(manager) == b"RELOADING=1"
        assert heard(manager) == b"READY=1"
        write_app(home, "import no_such_thing")
        program.process.send_signal(signal.SIGHUP)
        assert heard(manager) == b"RELOADING=1"
        assert heard(manager) == b"READY=1"
        assert program.stop() == 0
        assert heard(manager) == b"STOPPING=1"


ACTIVATED = 'exec 3<&0; export LISTEN_PID=$$; exec "$@" 0</dev/null'
"""Standard input becomes descriptor 3, which is the first that systemd gives."""


@pytest.mark.slow("processes")
def test_socket_activation(home: Path) -> None:
    """The manager's socket is used, and is left with those who wait when the server stops."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = (sys.executable, "-m", "aiowsgi", "served_app:app", "--app-dir", str(home))
        shell = ("sh", "-c", ACTIVATED, "sh", *command)
        with Client(port) as early:
            early.get("/", "Connection: close")
            environment = {**os.environ, "LISTEN_FDS": "1"}
            with subprocess.Popen(
                shell,
                cwd=ROOT,
                env=environment,
                stdin=listener,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as process:
                program = Program(process)
                assert program.expect(LISTENING)[1] == f"http://127.0.0.1:{port}"
                assert early.read_response()[0] == 200
                assert ask(("", port))[0] == 200
                assert program.stop() == 0
        with Client(port) as late:
            late.get()
            listener.accept()[0].close()


# As process 1

ORPHANS = (
    PID_APP
    + """
import subprocess
subprocess.run("(sleep 0.01; exit 3) & exit 0", shell=True)
"""
)


@AS_ROOT
@pytest.mark.slow("processes")
def test_process_1_reaps(tmp_path: Path) -> None:
    """Processes that the application leaves behind are reaped, whoever's children they were."""
    write_app(tmp_path, ORPHANS)
    container = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    with workers(tmp_path, wrapper=container) as (program, address):
        (server,) = _children(program.process.pid)
        assert _status(server, "NSpid").split()[-1] == "1"
        # The orphan becomes the server's child, and nobody's; its worker stays.
        while len(left := _children(server)) > 1:
            assert ask(address)[0] == 200
        assert _status(left[0], "NSpid").split()[-1] == ask(address)[1]
        os.kill(server, signal.SIGTERM)
        assert program.process.wait(PATIENCE) == 0


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}:")).partition(":")[2]


def test_run_takes_a_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``run`` serves an application by its name, whatever the configuration names."""
    served: list[Config] = []
    monkeypatch.setattr(runner, "_run_workers", lambda config, _: served.append(config))
    run_server("m:app", Config(workers=1))
    runner.run("m:app", Config(app="other:app", max_requests=1000))
    runner.run("m:app", workers=None)
    assert [config.app for config in served] == ["m:app"] * 3


EMBEDDING = """
import sys
import served_app
import aiowsgi
sys.exit(aiowsgi.run("served_app:app", bind="127.0.0.1:0", access_log=False))
"""


@pytest.mark.slow("processes")
def test_run_from_a_program_that_has_imported_the_application(home: Path) -> None:
    """A reload says that it cannot bring new code of such a module."""
    (home / "program.py").write_text(EMBEDDING)
    command = (sys.executable, str(home / "program.py"))
    with running(*command, PYTHONPATH=str(ROOT), ANSWER="v") as program:
        address = ("127.0.0.1", int(program.expect(LISTENING)[1].rpartition(":")[2]))
        write_app(home, version="new")
        program.process.send_signal(signal.SIGHUP)
        program.expect("served_app was imported by this program")
        program.expect("reloaded$")
        assert ask(address) == (200, "v")
        assert program.stop() == 0
