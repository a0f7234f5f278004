"""``python -m aiowsgi`` as a real process: it says where, drains when told to, and exits 0."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import pytest
from sample_apps import GATED_APP, gate, workers, write_app
from support import Client, eventually

pytestmark = pytest.mark.slow("processes")


def refuses(port: int) -> bool:
    """Whether nobody listens there any more."""
    with open("/proc/net/tcp") as table:
        return not any(f":{port:04X} 00000000:0000 0A" in line for line in table)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_signal_drains(tmp_path: Path, number: signal.Signals, loop: str) -> None:
    """A request in progress is answered with Connection: close, and the exit status is 0."""
    write_app(tmp_path, GATED_APP)
    with (
        gate(tmp_path) as fifo,
        workers(tmp_path, "--loop", loop, GATE=str(fifo)) as (program, (_, port)),
        Client(port) as client,
    ):
        client.get()
        # Opening it waits for the application to have opened the other end.
        with fifo.open("w") as opened:
            program.process.send_signal(number)
            # Once nobody listens any more, every response is the last of its connection.
            eventually(lambda: refuses(port))
            opened.write("drained")
        code, fields, body = client.read_response()
        assert (code, fields["connection"], body) == (200, "close", b"drained")
        client.close()
        assert program.process.wait(10) == 0


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    """Whoever sits at the terminal twice means it."""
    write_app(tmp_path, GATED_APP)
    with (
        gate(tmp_path) as fifo,
        workers(tmp_path, GATE=str(fifo)) as (program, (_, port)),
        Client(port) as client,
    ):
        client.get()
        with fifo.open("w"):
            program.process.send_signal(signal.SIGINT)
            eventually(lambda: refuses(port))
            assert program.stop(signal.SIGINT) == 128 + signal.SIGINT
        with suppress(ConnectionResetError):
            assert client.read_to_end() == b""


def test_quit_ends_at_once(tmp_path: Path) -> None:
    """Whatever goes on."""
    write_app(tmp_path)
    with workers(tmp_path) as (program, _):
        assert program.stop(signal.SIGQUIT) == 128 + signal.SIGQUIT
