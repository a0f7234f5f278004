"""Messages to the service manager: sd_notify(3), and the interval of its watchdog.

Each message is one datagram to the socket that ``NOTIFY_SOCKET`` names; without the variable every
method does nothing. Nothing here raises, and a send blocks for `SEND_TIMEOUT` at most: serving goes
on if the manager does not read. Only the process that systemd started sends messages, not workers.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

__all__ = ["Notifier"]

_log: Final = logging.getLogger("aiowsgi.notify")

SEND_TIMEOUT: Final = 1.0
"""Seconds to wait if the manager's queue is full. A guess: it is hardly ever full."""


class Notifier:
    """Sends messages to the service manager of this process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address: str | None = None
        """As socket.connect() takes it; None if there is no service manager."""
        if path.startswith("/"):
            self._address = path
        elif path.startswith("@"):
            self._address = f"\0{path[1:]}"
        self.watchdog_interval: Final = _watchdog_interval(environ) if self._address else None
        """Seconds between two calls of `watchdog`; None if the manager does not ask for them."""

    def ready(self) -> None:
        """The service is up, or up again after `reloading`."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. The time tells it from an older one (sd_notify(3))."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service drains; no restart is wanted."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """The service is alive; due every `watchdog_interval` seconds."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(SEND_TIMEOUT)
                sock.connect(self._address)
                sock.send(message.encode("utf-8", "replace"))
        except OSError as error:
            _log.debug("the service manager was not told %r: %s", message, error)


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Half of the time after which the manager acts, as sd_watchdog_enabled(3) advises."""
    period, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if pid not in {None, str(os.getpid())} or not (period.isascii() and period.isdigit()):
        return None
    return int(period) / 2_000_000 or None
