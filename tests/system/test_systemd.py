"""The service manager's datagrams, received on a real socket."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiowsgi.system.systemd import Notifier


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A manager's socket, and its name as ``NOTIFY_SOCKET`` gives it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        if request.param == "file":
            name = f"{tmp_path}/notify"
            sock.bind(name)
        else:
            name = f"@aiowsgi-notify-{os.getpid()}"
            sock.bind(f"\0{name[1:]}")
        sock.settimeout(5)
        yield sock, name


@pytest.mark.parametrize(
    ("speak", "message"),
    [
        (Notifier.ready, b"READY=1"),
        (Notifier.reloading, rb"RELOADING=1\nMONOTONIC_USEC=[1-9]\d+"),
        (Notifier.stopping, b"STOPPING=1"),
        (Notifier.watchdog, b"WATCHDOG=1"),
        (lambda notifier: notifier.status("4 workers"), b"STATUS=4 workers"),
        (lambda notifier: notifier.status("a\nREADY=1\r\nb"), b"STATUS=a READY=1 b"),
        (lambda notifier: notifier.status("caf\xe9 \ud800"), "STATUS=caf\xe9 [?]".encode()),
    ],
)
def test_messages(
    manager: tuple[socket.socket, str], speak: Callable[[Notifier], None], message: bytes
) -> None:
    """Each call is one datagram, and a status is one line whatever it holds."""
    sock, name = manager
    speak(Notifier({"NOTIFY_SOCKET": name}))
    assert re.fullmatch(message, sock.recv(4096))


@pytest.mark.parametrize(
    ("environ", "tried"),
    [
        ({}, 0),
        ({"NOTIFY_SOCKET": ""}, 0),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, 0),
        ({"NOTIFY_SOCKET": "/nonexistent/notify"}, 5),
        ({"NOTIFY_SOCKET": "@aiowsgi-nobody"}, 5),
    ],
)
def test_nobody_listens(
    environ: dict[str, str], tried: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a manager nothing happens; that one is gone is a matter for debugging."""
    caplog.set_level(logging.DEBUG, "aiowsgi.notify")
    notifier = Notifier(environ)
    notifier.ready()
    notifier.reloading()
    notifier.status("up")
    notifier.stopping()
    notifier.watchdog()
    assert [record.levelname for record in caplog.records] == ["DEBUG"] * tried


ME = str(os.getpid())


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ME}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], interval: float | None) -> None:
    """The interval is half the manager's patience, for the process that it means."""
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **environ}).watchdog_interval == interval
    assert Notifier(environ).watchdog_interval is None
