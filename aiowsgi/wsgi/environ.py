"""From a request to a WSGI environ (PEP 3333, RFC 3875 section 4.1).

Strings are native: one character stands for one byte. What does not change from request to request
is in a prepared dictionary that is copied; the names of header fields are translated through a
cache. No I/O, no clock, nothing of connections or threads.

What is left out, and why: a field whose name has an underscore (``X_Real_IP`` would pass for
``X-Real-IP``), and ``Proxy`` (``HTTP_PROXY`` would be taken for the variable of that name, which
configures outgoing requests).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from aiowsgi.http1.messages import CHUNKED, Request
from aiowsgi.wsgi.file_wrapper import FileWrapper

__all__ = ["ConnectionInfo", "EnvironBuilder", "base_environ"]

MAX_CACHED_NAMES: Final = 1024
"""Field names whose translation is kept. Clients use a few dozen; the bound keeps one that invents
names from filling memory."""

MAX_CACHED_NAME_LENGTH: Final = 64
"""Bytes of a name beyond which it is not kept."""

MAX_CACHED_ENVIRONS: Final = 4
"""How many environs are kept of a connection: as many kinds of requests as the reader remembers."""

DROPPED: Final = ""


class ConnectionInfo(NamedTuple):
    """Both ends of a connection, as an application is to see them."""

    remote_addr: str
    """The client's address; empty on a unix socket."""
    remote_port: str
    """Its port; empty where there is none."""
    server_name: str
    server_port: str
    scheme: str
    """``http`` or ``https``."""
    variables: Mapping[str, str] = {}
    """More for the environ: what TLS knows of the client."""


def base_environ(
    *, multithread: bool, multiprocess: bool, errors: object, script_name: str, software: str
) -> dict[str, Any]:
    """What is the same in every environ of a server."""
    return {
        "SERVER_SOFTWARE": software,
        "SCRIPT_NAME": script_name,
        "wsgi.version": (1, 0),
        "wsgi.errors": errors,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
        "aiowsgi.deadline": None,
    }


_keys: dict[bytes, str] = {}


def _key(name: bytes) -> str:
    """The environ's key for a field's name, or DROPPED."""
    lower = name.lower()
    if b"_" in name or lower == b"proxy":
        return DROPPED
    if lower in (b"content-type", b"content-length"):
        return lower.decode("ascii").upper().replace("-", "_")
    return sys.intern("HTTP_" + name.decode("latin-1").upper().replace("-", "_"))


class EnvironBuilder:
    """What all environs of a connection have in common, and how one is made.

    Used by the thread that has the connection's present request, and between two requests by the
    loop.
    """

    __slots__ = ("_seen", "client", "common")

    def __init__(self, base: Mapping[str, Any], peer: ConnectionInfo) -> None:
        """``base`` is `base_environ`'s."""
        self.common: Final[dict[str, Any]] = {
            **base,
            "REMOTE_ADDR": peer.remote_addr,
            "REMOTE_PORT": peer.remote_port,
            "SERVER_NAME": peer.server_name,
            "SERVER_PORT": peer.server_port,
            "wsgi.url_scheme": peer.scheme,
            **peer.variables,
        }
        self.client: Final = peer.remote_addr, int(peer.remote_port or 0)
        """Address and port, empty and 0 where they are unknown."""
        # The fields of requests before, by their identity, and `common` with them once they have
        # come twice. They are kept with it, so that their identity is nobody else's.
        self._seen: dict[int, tuple[list[tuple[bytes, bytes]], dict[str, Any] | None]] = {}

    def build(self, request: Request, stream: object, length: int) -> dict[str, Any]:
        """The environ for one request.

        ``stream`` becomes ``wsgi.input``. ``length`` is the number of bytes that it will give, or
        CHUNKED where nobody knows: then there is no CONTENT_LENGTH, and Transfer-Encoding is
        shown. A chunked body that is complete has a length, so that frameworks that look for one
        find it.
        """
        method, target, path, query, _host, version, fields, content_length, _, _ = request
        environ = self._with_fields(fields)
        if "%" in path:
            path = unquote_to_bytes(path).decode("latin-1")
        script_name = environ["SCRIPT_NAME"]
        if script_name and (path == script_name or path.startswith(script_name + "/")):
            path = path[len(script_name) :]
        environ["REQUEST_METHOD"] = method
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = query
        environ["REQUEST_URI"] = target
        environ["SERVER_PROTOCOL"] = version
        environ["wsgi.input"] = stream
        if content_length or length:
            if length == CHUNKED:
                environ["HTTP_TRANSFER_ENCODING"] = "chunked"
            else:
                environ["CONTENT_LENGTH"] = str(length)
                environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ

    def clear_cache(self) -> None:
        """Keep nothing for the next request: it may be long in coming."""
        self._seen.clear()

    def _with_fields(self, fields: list[tuple[bytes, bytes]]) -> dict[str, Any]:
        """A dictionary of its own for a request with these fields.

        The reader gives the same list again where a request has the very fields of one before: from
        the second time on, copying them costs a quarter of translating them.
        """
        seen = self._seen
        known = seen.get(id(fields))
        if known is None:
            if len(seen) >= MAX_CACHED_ENVIRONS:
                seen.clear()
            seen[id(fields)] = fields, None
            return _filled(self.common, fields)
        filled = known[1]
        if filled is None:
            filled = _filled(self.common, fields)
            seen[id(fields)] = fields, filled
        return filled.copy()


def _filled(common: dict[str, Any], fields: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    environ = common.copy()
    size = len(environ) + len(fields)
    keys = _keys
    try:
        # Measured: this loop takes half the time of any way to have it done in C.
        for name, value in fields:
            environ[keys[name]] = value.decode("latin-1")
    except KeyError:
        size = -1
    if len(environ) != size or DROPPED in environ:
        _add_fields(environ, fields)
    return environ


def _add_fields(environ: dict[str, Any], fields: list[tuple[bytes, bytes]]) -> None:
    """Add header fields of which some are new, come twice, or are to be dropped."""
    found: dict[str, list[str]] = {}
    for name, value in fields:
        key = _keys.get(name)
        if key is None:
            key = _key(name)
            if len(_keys) < MAX_CACHED_NAMES and len(name) <= MAX_CACHED_NAME_LENGTH:
                _keys[name] = key
        found.setdefault(key, []).append(value.decode("latin-1"))
    for key, texts in found.items():
        # RFC 9110 section 5.3; RFC 6265 section 5.4 for Cookie, which has a joint of its own.
        environ[key] = ("; " if key == "HTTP_COOKIE" else ", ").join(texts)
    environ.pop(DROPPED, None)
