"""A client of the admin endpoint: one request on one connection, over TCP or a unix socket.

``cli/top.py`` uses it, and ``admin/tables.py`` makes lines and tables of the answers.
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
"""Seconds to wait for an answer. The server waits for its workers for less than one."""

_ANY: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be replaced
"""Where to connect to a server that listens on all addresses."""


class AdminClient:
    """A client of one endpoint; each request makes its own connection."""

    def __init__(self, address: BindAddress, token: str = "") -> None:
        """``address`` is the value of ``--admin``. Raises ConfigError if it names no port or path.

        ``token`` is the content of the file of ``--admin-token-file``; empty for none.
        """
        tcp = isinstance(address, TcpAddress) and address.port
        if not tcp and not isinstance(address, UnixAddress):
            raise ConfigError(f"admin: cannot connect to {address}; give host:port or unix:path")
        self.address = address
        self._fields = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str) -> Any:
        """Get the JSON at ``path``. Raises AdminError, whose message says what to do."""
        connection = self._connection()
        try:
            connection.request("GET", path, headers=self._fields)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise AdminError(
                f"cannot ask {self.address}: {str(said).lower() or 'it closed the connection'};"
                " is the server running with --admin?"
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
            raise AdminError(f"{self.address} requires a token: give --admin-token-file")
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
