"""Builds the WSGI environ of a request (PEP 3333, RFC 3875 section 4.1).

Strings are native: one character stands for one byte. The constant part of the environ is copied
from a prepared dictionary; the environ keys of field names are cached. No I/O, no clock, no
threads.

Left out are fields with an underscore in the name (``X_Real_IP`` would become the same key as
``X-Real-IP``), and ``Proxy`` (``HTTP_PROXY`` would configure outgoing requests of CGI programs and
libraries).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from aiowsgi.http1.messages import CHUNKED, Request
from aiowsgi.wsgi.file_wrapper import FileWrapper

__all__ = ["ConnectionInfo", "EnvironBuilder", "base_environ"]

MAX_CACHED_KEYS: Final = 1024
"""Maximum number of field names whose environ keys are cached. Clients use a few dozen. The limits
keep a client that invents names from filling the memory."""

MAX_CACHED_KEY_NAME: Final = 64
"""Maximum length in bytes of a cached field name."""

MAX_CACHED_ENVIRONS: Final = 4
"""Maximum number of environs cached for a connection; the same as the number of cached heads."""

DROPPED: Final = ""


class ConnectionInfo(NamedTuple):
    """The addresses and the scheme of a connection, as the application sees them."""

    remote_addr: str
    """Address of the client; empty on a unix socket."""
    remote_port: str
    """Port of the client; empty if it is unknown."""
    server_name: str
    server_port: str
    scheme: str
    """``http`` or ``https``."""
    variables: Mapping[str, str] = {}
    """Further environ variables: the TLS connection and the client certificate."""


def base_environ(
    *, multithread: bool, multiprocess: bool, errors: object, script_name: str, software: str
) -> dict[str, Any]:
    """Return the part of the environ that is the same for all requests of a server."""
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
    """Return the environ key for a field name, or DROPPED."""
    lower = name.lower()
    if b"_" in name or lower == b"proxy":
        return DROPPED
    if lower in (b"content-type", b"content-length"):
        return lower.decode("ascii").upper().replace("-", "_")
    return sys.intern("HTTP_" + name.decode("latin-1").upper().replace("-", "_"))


class EnvironBuilder:
    """Builds the environs of one connection.

    Used by the worker thread of the current request, and by the event loop between two requests.
    """

    __slots__ = ("_seen", "client", "common")

    def __init__(self, base: Mapping[str, Any], peer: ConnectionInfo) -> None:
        """``base`` is the result of `base_environ`."""
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
        """Address and port of the client; empty and 0 if unknown."""
        # Cache by id() of the request's list of fields: the list, and after its second use the
        # environ with these fields. The list is kept so that its id() stays unique.
        self._seen: dict[int, tuple[list[tuple[bytes, bytes]], dict[str, Any] | None]] = {}

    def build(self, request: Request, stream: object, length: int) -> dict[str, Any]:
        """Build the environ of one request.

        ``stream`` becomes ``wsgi.input``. ``length`` is the number of bytes that it will return, or
        CHUNKED if that is unknown; then the environ has HTTP_TRANSFER_ENCODING and no
        CONTENT_LENGTH. A chunked body that has been received completely has a length, because many
        frameworks need one.
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
        """Free the cached environs; called when the connection becomes idle."""
        self._seen.clear()

    def _with_fields(self, fields: list[tuple[bytes, bytes]]) -> dict[str, Any]:
        """Return a new dictionary with these fields.

        The reader returns the same list object for a request with the same fields as an earlier
        one. From the second use on, copying the cached environ takes a quarter of the time.
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
        # This loop takes half the time of any alternative that runs in C.
        for name, value in fields:
            environ[keys[name]] = value.decode("latin-1")
    except KeyError:
        size = -1
    if len(environ) != size or DROPPED in environ:
        _add_fields(environ, fields)
    return environ


def _add_fields(environ: dict[str, Any], fields: list[tuple[bytes, bytes]]) -> None:
    """Add fields if some names are not cached, occur twice, or must be dropped."""
    found: dict[str, list[str]] = {}
    for name, value in fields:
        key = _keys.get(name)
        if key is None:
            key = _key(name)
            if len(_keys) < MAX_CACHED_KEYS and len(name) <= MAX_CACHED_KEY_NAME:
                _keys[name] = key
        found.setdefault(key, []).append(value.decode("latin-1"))
    for key, texts in found.items():
        # RFC 9110 section 5.3; RFC 6265 section 5.4 joins Cookie with a semicolon.
        environ[key] = ("; " if key == "HTTP_COOKIE" else ", ").join(texts)
    environ.pop(DROPPED, None)
