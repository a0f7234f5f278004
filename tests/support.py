"""What the tests share: the unit of time, the loops and parsers, and a client that sends bytes."""

from __future__ import annotations

import os
import socket

UNIT = float(os.environ.get("TEST_UNIT", "1"))
"""Seconds that anything may take which should take none. Raise it on a slow machine."""

PATIENCE = 10 * UNIT
"""How long a test waits for what should happen at once."""

LOOPS = ("uvloop", "asyncio")
PARSERS = ("h11", "httptools")


class Client:
    """A raw connection to a server on this machine."""

    def __init__(self, port, *, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Close the connection; idempotent."""
        self.file.close()
        self.socket.close()

    def reset(self):
        """Close the connection with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.close()

    def send(self, data):
        """Send ``data``."""
        self.socket.sendall(data)

    def get(self, path="/", *fields):
        """Send a GET request."""
        lines = "".join(f"{field}\r\n" for field in fields)
        self.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n".encode())

    def finish(self):
        """Close the sending side."""
        self.socket.shutdown(socket.SHUT_WR)

    def read_to_end(self):
        """All bytes until the server closes; raises ConnectionResetError for a torn connection."""
        return self.file.read()

    def read_head(self):
        """One head: the status line's code, and the fields by lower-case name."""
        status = self.file.readline()
        if not status:
            raise EOFError("the server closed the connection")
        fields = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        return int(status.split()[1]), fields

    def read_response(self, *, head_only=False):
        """One response: code, fields, body."""
        code, fields = self.read_head()
        if head_only or code in (204, 304) or code < 200:
            return code, fields, b""
        if "chunked" in fields.get("transfer-encoding", ""):
            return code, fields, self.read_chunked()
        if "content-length" in fields:
            return code, fields, self.file.read(int(fields["content-length"]))
        return code, fields, self.file.read()

    def read_chunked(self):
        """A chunked body."""
        body = b""
        while size := int(self.file.readline(), 16):
            body += self.file.read(size)
            assert self.file.readline() == b"\r\n"
        assert self.file.readline() == b"\r\n"
        return body
