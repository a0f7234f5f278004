"""HTTP/1.1 on the wire, without I/O: bytes to requests, and responses to bytes.

========================  ===================================================================
``events``                the values that reading yields, and the limits on it
``buffer``                bytes received and not yet consumed
``grammar``               the gate before the library: raw bytes of a header section
``h11_parser``            the libraries, each behind one function from a header section's
``httptools_parser``      bytes to its parts
``target``                request-targets and hosts
``semantics``             the gate behind the library: framing, Host, Connection, Expect
``body``                  content by length or in chunks
``reader``                all of these, as one connection's stream of requests
``response``              status, fields and framing to bytes
========================  ===================================================================

Nothing here knows sockets, event loops, threads, clocks or WSGI.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from aiowsgi.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiowsgi.http1.messages import HeadParser

__all__ = ["head_parser"]


def head_parser(name: str) -> HeadParser:
    """The head parser of the library that ``name`` says: ``auto``, ``h11`` or ``httptools``.

    ``auto`` takes httptools where it is installed, else h11. Raises ConfigError for another name,
    and for httptools where it is not installed.
    """
    try:
        return _PARSERS[name]()
    except KeyError:
        names = ", ".join(_PARSERS)
        raise ConfigError(f"http: {name!r} is none of the parsers {names}") from None


def _auto() -> HeadParser:
    return _httptools() if importlib.util.find_spec("httptools") else _h11()


def _h11() -> HeadParser:
    from aiowsgi.http1 import h11_parser

    return h11_parser.parse_head


def _httptools() -> HeadParser:
    try:
        from aiowsgi.http1 import httptools_parser
    except ImportError as error:
        raise ConfigError(
            "http: httptools is not installed; try `pip install aiowsgi[fast]`"
        ) from error
    return httptools_parser.parse_head


_PARSERS: dict[str, Callable[[], HeadParser]] = {
    "auto": _auto,
    "h11": _h11,
    "httptools": _httptools,
}
