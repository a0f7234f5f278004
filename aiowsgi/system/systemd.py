"""What the service manager is told: sd_notify(3), and how often it wants to hear from us.

One datagram for each message to the socket that ``NOTIFY_SOCKET`` names; without the variable every
method does nothing. Nothing here ever raises or blocks for long: a service that serves is worth
more than a manager that knows it. The process that systemd started speaks, its workers do not.
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

_SEND_TIMEOUT: Final = 1.0
"""Seconds to wait where the manager's queue is full; a guess, it is hardly ever full."""


class Notifier:
    """Speaks to the service manager of this process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address: str | None = None
        """As socket.connect() takes it; None where nobody listens."""
        if path.startswith("/"):
            self._address = path
        elif path.startswith("@"):
            self._address = f"\0{path[1:]}"
        self.watchdog_interval: Final = _watchdog_interval(environ) if self._address else None
        """Seconds between two calls of `watchdog`; None where they are not asked for."""

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
        """A line for ``systemctl status``."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """The service is alive; due every `watchdog_interval` seconds."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_SEND_TIMEOUT)
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
