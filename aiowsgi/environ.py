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

from aiowsgi.file_wrapper import FileWrapper
from aiowsgi.http1.events import CHUNKED, Request

__all__ = ["Peer", "base_environ", "build_environ"]

REMEMBERED: Final = 1024
"""Field names whose translation is kept. Clients use a few dozen; the bound keeps one that invents
names from filling memory."""

LONGEST: Final = 64
"""Bytes of a name beyond which it is not kept."""

DROPPED: Final = ""


class Peer(NamedTuple):
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
    }


_keys: dict[bytes, str] = {b"content-length": DROPPED, b"transfer-encoding": DROPPED}


def _key(name: bytes) -> str:
    """The environ's key for a field, or DROPPED."""
    lower = name.lower()
    if b"_" in name or lower in (b"proxy", b"content-length", b"transfer-encoding"):
        # The last two are decided by the body's framing, not copied.
        key = DROPPED
    elif lower == b"content-type":
        key = "CONTENT_TYPE"
    else:
        key = sys.intern("HTTP_" + name.decode("latin-1").upper().replace("-", "_"))
    if len(_keys) < REMEMBERED and len(name) <= LONGEST:
        _keys[bytes(name)] = key
    return key


def build_environ(
    base: Mapping[str, Any], peer: Peer, request: Request, stream: object, length: int
) -> dict[str, Any]:
    """The environ for one request.

    ``stream`` becomes ``wsgi.input``. ``length`` is the number of bytes that it will give, or
    CHUNKED where nobody knows: then there is no CONTENT_LENGTH, and Transfer-Encoding is shown. A
    chunked body that is complete has a length, so that frameworks that look for one find it.
    """
    environ = dict(base)
    script_name = base["SCRIPT_NAME"]
    path = request.path
    if "%" in path:
        path = unquote_to_bytes(path).decode("latin-1")
    if script_name and (path == script_name or path.startswith(script_name + "/")):
        path = path[len(script_name) :]
    environ["REQUEST_METHOD"] = request.method
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = request.query
    environ["REQUEST_URI"] = request.target
    environ["SERVER_PROTOCOL"] = request.version
    environ["wsgi.input"] = stream
    (
        environ["REMOTE_ADDR"],
        environ["REMOTE_PORT"],
        environ["SERVER_NAME"],
        environ["SERVER_PORT"],
        environ["wsgi.url_scheme"],
        variables,
    ) = peer
    if variables:
        environ.update(variables)
    keys = _keys
    for name, value in request.fields:
        key = keys.get(name)
        if key is None:
            key = _key(name)
        if key:
            text = value.decode("latin-1")
            if key in environ:
                # RFC 9110 section 5.3; RFC 6265 section 5.4 for Cookie, which has its own joint.
                joint = "; " if key == "HTTP_COOKIE" else ", "
                text = f"{environ[key]}{joint}{text}"
            environ[key] = text
    if length == CHUNKED:
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"
    elif length or request.content_length == CHUNKED or _has_length(request):
        environ["CONTENT_LENGTH"] = str(length)
    return environ


def _has_length(request: Request) -> bool:
    """Whether a request without content says so, as an empty form does."""
    return any(name.lower() == b"content-length" for name, _ in request.fields)
