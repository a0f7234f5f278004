"""Workers and their supervisor, as real processes under real signals.

How they end is in ``test_stopping.py``.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from load_client import load
from processes import LISTENING, Program
from sample_apps import (
    GATED_APP,
    READY,
    ask,
    ask_admin,
    gate,
    pid_of,
    rest_of,
    starting,
    wait_for_end,
    workers,
    write_app,
)
from support import PATIENCE, Client, eventually

pytestmark = pytest.mark.slow("processes")

ENDED = r"worker \d+ has ended$"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with an application."""
    write_app(tmp_path)
    return tmp_path


# Starting


def test_several_workers_serve(home: Path) -> None:
    """Each of the workers gets a share of the connections."""
    with workers(home, "-w", "2") as (program, address), load(address, kept=0, new=4) as running:
        running.wait_for(300)
        running.stop()
        assert len(running.bodies) == 2, str(running)
        assert min(running.bodies.values()) >= 15, str(running.bodies)
        assert program.stop() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("application = 1", "served_app:app: there is no attribute app"),
        ("import os; os._exit(7)", r"has ended before it served: exit status 7"),
        ("import os; os.abort()", r"has ended before it served: signal SIGABRT"),
    ],
)
def test_failed_start(tmp_path: Path, text: str, message: str) -> None:
    """Workers that cannot start end the start with status 3, and say why once."""
    write_app(tmp_path, text)
    with starting(tmp_path, "-w", "2") as program:
        assert program.process.wait(PATIENCE) == 3
        output = rest_of(program)
    assert output.count(message) == 1, output
    assert output.count("aiowsgi: ") == 1


def test_workers_that_fail_together(tmp_path: Path) -> None:
    """Of workers that cannot start, whose ends are seen at one moment, only one says why."""
    write_app(
        tmp_path,
        """
import os
os.write(1, f"begun {os.getpid()}\\n".encode())
os.read(os.open(os.environ["GATE"], os.O_RDONLY), 1)
1 / 0
""",
    )
    with gate(tmp_path) as fifo, starting(tmp_path, "-w", "2", GATE=str(fifo)) as program:
        pids = [int(program.expect(r"begun (\d+)")[1]) for _ in range(2)]
        program.process.send_signal(signal.SIGSTOP)
        with fifo.open("r+b", buffering=0) as opened:
            opened.write(b"oo")
            for pid in pids:
                wait_for_end(pid)
        program.process.send_signal(signal.SIGCONT)
        assert program.process.wait(PATIENCE) == 3
        assert rest_of(program).count("ZeroDivisionError") == 1


def test_bad_option_of_a_worker(home: Path) -> None:
    """What a worker finds wrong with the configuration ends the start with status 2."""
    with starting(home, "--certfile", "/no/such.pem") as program:
        program.expect(r"aiowsgi: .*no/such.pem")
        assert program.process.wait(PATIENCE) == 2


def test_workers_auto(home: Path) -> None:
    """``auto`` is the number of processors that the affinity mask leaves."""
    one = str(min(os.sched_getaffinity(0)))
    with workers(home, "-w", "auto", wrapper=("taskset", "-c", one)) as (program, _):
        assert sum("is ready" in line for line in program.lines) == 1


# Deaths


def test_killed_worker(home: Path) -> None:
    """A worker that dies is replaced, and the other serves meanwhile."""
    with workers(home, "-w", "2") as (program, address):
        victim = pid_of(address)
        os.kill(victim, signal.SIGKILL)
        program.expect(f"worker {victim} has ended: signal SIGKILL")
        assert pid_of(address) != victim
        assert int(program.expect(READY)[1]) != victim
        assert program.stop() == 0


NOTING_APP = """
import os, time

notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def app(environ, start_response):
    os.write(notes, environ["QUERY_STRING"].encode() + b"\\n")
    time.sleep(0.05)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
"""Notes each request, in a file that outlives the process, before it does anything else."""

KILLS = 10


def test_kills_under_load(tmp_path: Path) -> None:
    """Killed workers lose what the application had begun, and refuse nobody.

    What had been accepted and was on its way to the application is lost too: there is no telling
    the kernel to take it back. That takes a fiftieth of the time that a request runs for here, so
    a kill seldom meets one. A kept connection may have been idle: who uses it next can try again.
    """
    write_app(tmp_path, NOTING_APP)
    notes = tmp_path / "notes"
    arguments = ("-w", "2", "--threads", "8")
    with (
        workers(tmp_path, *arguments, NOTES=str(notes)) as (program, address),
        load(address) as running,
    ):
        pids = _lines(program, READY)
        for _ in range(KILLS):
            running.wait_for(20)
            # The oldest, for what dies young is replaced after a pause.
            os.kill(int(pids.pop(0)), signal.SIGKILL)
            program.expect("has ended: signal SIGKILL")
            pids.append(program.expect(READY)[1])
        running.stop()
        assert running.counts.keys() == {"answered", "failed", "reset"}, str(running)
        lost = running.lost(set(notes.read_text().split()))
        assert len(lost) < running.counts["failed"]
        assert sum(not failure.kept for failure in lost) < KILLS / 2, str(lost)
        assert program.stop() == 0


def test_what_no_worker_has_accepted(home: Path) -> None:
    """Who waits to be accepted is served by the other worker when one is killed."""
    with workers(home, "-w", "2") as (program, address), ExitStack() as clients:
        victim, other = map(int, _lines(program, READY))
        for pid in (victim, other):
            os.kill(pid, signal.SIGSTOP)
            stat = Path(f"/proc/{pid}/stat")
            eventually(lambda stat=stat: stat.read_text().rpartition(")")[2].split()[0] == "T")
        waiting = [clients.enter_context(Client(address[1])) for _ in range(20)]
        for client in waiting:
            client.get()
        os.kill(victim, signal.SIGKILL)
        program.expect(f"worker {victim} has ended: signal SIGKILL")
        os.kill(other, signal.SIGCONT)
        assert {client.read_response()[0] for client in waiting} == {200}
        assert program.stop() == 0


def test_dying_workers(tmp_path: Path) -> None:
    """Workers that die again and again are replaced after pauses, and can be stopped meanwhile."""
    write_app(
        tmp_path,
        """
import os, threading
threading.Timer(0.4, os._exit, (4,)).start()
app = print
""",
    )
    with workers(tmp_path) as (program, _):
        for _ in range(3):
            program.expect("has ended: exit status 4|has ended before it served: exit status 4")
        assert program.stop() in {0, 1}


def test_killed_supervisor(tmp_path: Path) -> None:
    """Workers whose supervisor has gone finish what has begun, and end."""
    write_app(tmp_path, GATED_APP)
    with gate(tmp_path) as fifo, workers(tmp_path, GATE=str(fifo)) as (program, address):
        worker = int(_line(program, READY))
        with Client(address[1]) as client:
            client.get()
            with fifo.open("w") as gate_file:
                program.process.kill()
                program.expect("the supervisor has ended")
                gate_file.write("finished")
            assert client.read_response()[2] == b"finished"
        wait_for_end(worker)


# Stopping


def test_term_while_starting(tmp_path: Path) -> None:
    """A start can be given up."""
    with gate(tmp_path) as fifo:
        write_app(tmp_path, f"open({str(fifo)!r}).read()")
        with starting(tmp_path) as program, fifo.open("w"):
            assert program.stop() == 0


def test_term_under_load_on_a_unix_socket(home: Path) -> None:
    """TERM loses no request on a unix socket either, and the file is gone afterwards."""
    path = str(home / "socket")
    with starting(home, "--bind", f"unix:{path}") as program:
        program.expect("listening on unix:")
        with load(path) as running:
            running.wait_for(100)
            assert program.stop() == 0
            running.stop()
            assert running.counts["failed"] == 0, str(running)
    assert not os.path.exists(path)


# Reloading


def test_hup_under_load(home: Path) -> None:
    """Five reloads in a row lose nothing, and bring the code and the configuration of now."""
    settings = home / "settings.toml"
    settings.write_text("workers = 2")
    with (
        workers(home, "-c", str(settings)) as (program, address),
        load(address) as running,
    ):
        running.wait_for(50)
        for number in range(5):
            write_app(home, version=f" of {number}")
            (home / "env").write_text(f"ANSWER=answer {number}")
            settings.write_text(f"env-file = '{home}/env'\nworkers = {1 + number % 2}")
            program.process.send_signal(signal.SIGHUP)
            program.expect("reloaded$")
            assert ask(address) == (200, f"answer {number} of {number}")
            running.wait_for(10)
        running.stop()
        assert running.counts.keys() == {"answered"}, str(running)
        assert program.stop() == 0


def test_hup_on_a_kept_connection(home: Path) -> None:
    """A kept connection is answered once more by the old worker, which then closes it."""
    with workers(home) as (program, address), Client(address[1]) as client:
        client.get()
        old = client.read_response()[2]
        program.process.send_signal(signal.SIGHUP)
        program.expect(READY)
        client.get()
        status, fields, body = client.read_response()
        assert (status, fields.get("connection"), body) in {
            (200, "close", old),  # it was draining already
            (200, None, old),  # or just about to
        }


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda home: write_app(home, "import no_such_thing"), "No module named 'no_such_thing'"),
        (lambda home: write_app(home, "import os; os._exit(9)"), "before it served: exit status 9"),
        (lambda home: (home / "settings.toml").write_text("thread = 1"), "did you mean threads"),
        (lambda home: (home / "settings.toml").write_text("certfile = 'x'"), "not reloaded"),
    ],
)
def test_failed_hup(home: Path, break_it: Callable[[Path], object], message: str) -> None:
    """A reload that fails says why, the old worker stays, and the next reload is a new chance."""
    settings = home / "settings.toml"
    settings.write_text("")
    with workers(home, "-c", str(settings)) as (program, address):
        old = pid_of(address)
        break_it(home)
        program.process.send_signal(signal.SIGHUP)
        program.expect("not reloaded, the old workers stay")
        if message not in program.lines[-1]:
            program.expect(message)
        assert pid_of(address) == old
        write_app(home, version="0")
        settings.write_text("backlog = 5")
        program.process.send_signal(signal.SIGHUP)
        program.expect("backlog has changed; restart")
        program.expect("reloaded$")
        assert pid_of(address) != old


def test_hup_during_hup(home: Path) -> None:
    """A reload that hangs can be replaced by another."""
    with gate(home) as fifo, workers(home) as (program, address):
        old = pid_of(address)
        write_app(home, f"open({str(fifo)!r}).read()")
        program.process.send_signal(signal.SIGHUP)
        program.expect("is starting")
        with fifo.open("w"):  # it is importing
            assert pid_of(address) == old
            write_app(home, version="0")
            program.process.send_signal(signal.SIGHUP)
            program.expect("reloaded$")
        assert pid_of(address) != old
        assert not any("not reloaded" in line for line in program.lines)


# Other signals


def test_ttin_and_ttou_under_load(home: Path) -> None:
    """Workers can be added and taken away, down to one, without a loss."""
    with workers(home) as (program, address), load(address) as running:
        for number, pattern in [
            (signal.SIGTTIN, READY),
            (signal.SIGTTOU, ENDED),
            (signal.SIGTTOU, "workers: 1"),
        ]:
            program.process.send_signal(number)
            program.expect(pattern)
            running.wait_for(20)
        running.stop()
        assert running.counts.keys() == {"answered"}, str(running)


def test_usr1(home: Path) -> None:
    """USR1 has every worker reopen the log files that were renamed."""
    log, old = home / "access.log", home / "access.old"
    with workers(home, "-w", "2", "--access-log", "--access-logfile", str(log)) as (
        program,
        address,
    ):
        with load(address, kept=0, new=2) as running:
            running.wait_for(50)
            log.rename(old)
            program.process.send_signal(signal.SIGUSR1)
            while not log.exists():
                running.wait_for(1)
            running.wait_for(100)
            count = running.counts["answered"]
        assert program.stop() == 0
        lines = old.read_text().count("\n"), log.read_text().count("\n")
        assert sum(lines) >= count
        assert lines[1] >= 50


FAILING_APP = """
def app(environ, start_response):
    environ["wsgi.errors"].write("one line\\nand another\\n")
    1 / 0
"""


@pytest.mark.parametrize("count", ["1", "2"])
def test_json_lines(tmp_path: Path, count: str) -> None:
    """One switch makes every line of a run JSON, be it the worker's or the supervisor's."""
    write_app(tmp_path, FAILING_APP)
    arguments = ("-w", count, "--access-log", "--access-logformat", "json")
    with starting(tmp_path, *arguments) as program:
        port = int(program.expect(r"listening on http://127.0.0.1:(\d+)")[1])
        assert ask(("127.0.0.1", port))[0] == 500
        program.process.send_signal(signal.SIGHUP)
        program.expect("reloaded")
        assert program.stop() == 0
        records = [json.loads(line) for line in [*program.lines, *rest_of(program).splitlines()]]
    assert {"logger", "pid", "time"} <= set.intersection(*map(set, records))
    assert all("level" in each or each["stream"] == "wsgi.errors" for each in records)
    by_logger = {record["logger"]: record for record in records}
    assert by_logger["aiowsgi.access"]["status"] == 500
    assert by_logger["aiowsgi.errors"]["message"] == "one line\nand another"
    assert "ZeroDivisionError" in by_logger["aiowsgi.application"]["exception"]
    assert by_logger["aiowsgi"]["message"] == "stopped"


# Recycling


def test_recycling_under_load(home: Path) -> None:
    """Workers that have served enough are replaced without a loss."""
    arguments = ("--max-requests", "50", "--max-requests-jitter", "10")
    with workers(home, *arguments) as (program, address), load(address) as running:
        for _ in range(2):
            program.expect(r"will be replaced: \d+ requests served")
            program.expect(READY)
            program.expect(ENDED)
        running.stop()
        assert running.counts.keys() == {"answered"}, str(running)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(("--max-rss", "1M"), r"\d+ MiB of memory"), (("--max-lifetime", "1"), r"1 s of service")],
)
def test_other_limits(home: Path, arguments: tuple[str, ...], reason: str) -> None:
    """Memory and age are reasons too; the replacement is ready before the worker retires."""
    with workers(home, *arguments) as (program, _):
        old = _line(program, READY)
        program.expect(f"worker {old} will be replaced: {reason}")
        program.expect(READY)
        program.expect(f"worker {old} has ended$")


# Health


def test_health_off_the_pool(tmp_path: Path) -> None:
    """Health is answered while no thread is free, and before a worker is up."""
    admin = tmp_path / "admin"
    with gate(tmp_path) as fifo:
        write_app(tmp_path, f"open({str(fifo)!r}).read()\n{GATED_APP}")
        arguments = ("--threads", "1", "--admin", f"unix:{admin}")
        with starting(tmp_path, *arguments, GATE=str(fifo)) as program:
            with fifo.open("w"):  # the application is being imported
                assert ask_admin(admin, "/livez") == (200, b"alive\n")
                assert ask_admin(admin, "/readyz") == (503, b"starting\n")
            port = int(program.expect(LISTENING)[1].rpartition(":")[2])
            with Client(port) as client:
                client.get()
                with fifo.open("w"):  # the only thread is busy
                    assert ask_admin(admin, "/readyz") == (200, b"ready\n")
                    assert ask_admin(admin, "/livez") == (200, b"alive\n")
                assert client.read_response()[0] == 200
        assert program.process.returncode is not None


def _line(program: Program, pattern: str) -> str:
    """The first group of ``pattern`` in a line that the program has written already."""
    return _lines(program, pattern)[0]


def _lines(program: Program, pattern: str) -> list[str]:
    """The same of every such line."""
    return [match[1] for line in program.lines if (match := re.search(pattern, line))]
