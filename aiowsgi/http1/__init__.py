"""HTTP/1.1 without I/O: bytes to requests, and responses to bytes.

====================  =======================================================================
``messages``          the values that the reader returns, and the limits on requests
``receive_buffer``    received bytes that are not parsed yet
``syntax``            checks the bytes of a request head before a parser library sees them
``h11_parser``        parses a head with h11
``httptools_parser``  parses a head with httptools
``target``            parses request-targets and hosts
``semantics``         interprets a parsed head: framing, Host, Connection, Expect
``head_cache``        recognises a head that resembles an earlier one of the connection
``body``              decodes a body by its length or by its chunks
``reader``            combines all of these: the requests of one connection
``response``          encodes status, fields and framing
====================  =======================================================================

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
    """Return the head parser of a library: ``auto``, ``h11`` or ``httptools``.

    ``auto`` selects httptools if it is installed, else h11. Raises ConfigError for another name,
    and for httptools if it is not installed.
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
    if importlib.util.find_spec("httptools") is None:
        raise ConfigError("http: httptools is not installed; try `pip install aiowsgi[fast]`")
    from aiowsgi.http1 import httptools_parser

    return httptools_parser.parse_head


_PARSERS: dict[str, Callable[[], HeadParser]] = {
    "auto": _auto,
    "h11": _h11,
    "httptools": _httptools,
}
