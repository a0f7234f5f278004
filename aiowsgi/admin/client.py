"""Asking the admin endpoint of a server that runs: what ``aiowsgi top`` and its sisters do.

One request on one connection, over TCP or a unix socket. Nothing is shown here
(``admin/tables.py``), nor decided (``cli/top.py``).
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from aiowsgi.exceptions import AdminError, ConfigError
from aiowsgi.net.address import BindAddress, TcpAddress, UnixAddress

__all__ = ["AdminClient"]

PATIENCE: Final = 5.0
"""Seconds to wait for an answer. The server gives its workers one."""

_ANY: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be replaced
"""Where to find who listens everywhere."""


class AdminClient:
    """Asks one endpoint; each question makes its own connection."""

    def __init__(self, address: BindAddress, token: str = "") -> None:
        """``address`` is what ``--admin`` says. Raises ConfigError where nobody can connect to it.

        ``token`` is the word in the file of ``--admin-token-file``, if there is one.
        """
        tcp = isinstance(address, TcpAddress) and address.port
        if not tcp and not isinstance(address, UnixAddress):
            raise ConfigError(f"admin: nobody can connect to {address}; name a port, or unix:path")
        self.address = address
        self._fields = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str) -> Any:
        """The JSON at ``path``. Raises AdminError, whose message says what to do."""
        connection = self._connection()
        try:
            connection.request("GET", path, headers=self._fields)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise AdminError(
                f"nothing to be had from {self.address}: {said or 'no answer'}"
            ) from None
        finally:
            connection.close()
        return self._read(response.status, body)

    def _connection(self) -> HTTPConnection:
        if isinstance(self.address, UnixAddress):
            return _UnixConnection(self.address.path)
        assert isinstance(self.address, TcpAddress)
        host = _ANY.get(self.address.host, self.address.host)
        return HTTPConnection(host, self.address.port, timeout=PATIENCE)

    def _read(self, status: int, body: bytes) -> Any:
        if status == 401:
            raise AdminError(f"{self.address} wants the token: give --admin-token-file")
        if status != 200:
            raise AdminError(f"{self.address} answers {status}: is it aiowsgi's admin endpoint?")
        try:
            return json.loads(body)
        except ValueError:
            raise AdminError(f"{self.address} is not aiowsgi's admin endpoint") from None


class _UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = f"\0{path[1:]}" if path.startswith("@") else path

    def connect(self) -> None:
        """Connect to the path, whatever the host is."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)
