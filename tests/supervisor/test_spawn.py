"""Worker processes as they are started; who serves in them is tested in test_supervisor.py."""

from __future__ import annotations

import json
import sys

import pytest

from aiowsgi.config.option import Option
from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.types import Auto
from aiowsgi.net.address import TcpAddress
from aiowsgi.net.listeners import ListenOptions, open_listeners
from aiowsgi.supervisor.channel import encode
from aiowsgi.supervisor.spawn import charge, interpreter_flags, spawn


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("python", ""),
        ("python -", ""),
        ("python -m aiowsgi -u", ""),
        ("python -um aiowsgi", "-u"),
        ("python -Ic pass", "-I"),
        ("python -O -X dev -Wonce /bin/aiowsgi -W", "-O -X dev -Wonce"),
        ("python -W error -Xutf8 script.py", "-W error -Xutf8"),
        ("python --check-hash-based-pycs always -b x", "--check-hash-based-pycs always -b"),
        ("python -X", "-X "),
    ],
)
def test_flags(command: str, flags: str) -> None:
    """The interpreter's flags end where the program is named."""
    assert interpreter_flags(command.split()) == (flags.split(" ") if flags else [])


@pytest.mark.parametrize(
    "config",
    [
        Config(app="m:app"),
        Config(app="m:app", workers=None, max_detached_threads=None, threads=9),
        Config(
            app="m:app",
            workers=3,
            bind=("unix:/tmp/a b", "[::1]:80"),
            uds_permissions=0o660,
            keep_alive=1.5,
            route_limit="/reports/*=2",
            access_logformat="%(h)s",
            reload_dir=("a", "b"),
        ),
    ],
)
def test_charge(config: Config) -> None:
    """A configuration arrives as it was sent, "auto" included."""
    listeners = open_listeners([TcpAddress("127.0.0.1", 0)], ListenOptions())
    message = json.loads(encode("charge", **charge("m:app", config, listeners)))
    assert Config(**message.pop("config")) == config
    assert message == {
        "kind": "charge",
        "app": "m:app",
        "sockets": [[listeners.sockets[0].fileno(), "", False]],
    }
    listeners.close()


def test_every_auto_option_is_sent() -> None:
    """An option that may be "auto" is never left to its default."""
    autos = {n for n, o in OPTIONS.items() if isinstance(o, Option) and isinstance(o.type, Auto)}
    message = charge("m:app", Config(app="m:app"), open_listeners([], ListenOptions()))
    assert autos <= message["config"].keys()


@pytest.mark.slow("processes")
def test_nothing_to_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure to start leaves nothing open."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(FileNotFoundError):
        spawn(b"{}\n", [])
