"""The application of ``bench.trouble``, in plain PEP 3333."""

from __future__ import annotations

import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

WORK_SECONDS = 0.020
"""Seconds that ``/work`` sleeps, as a database query would take."""
BLOCK = bytes(64 * 1024)
BIG = bytes(3_000_000)
PAGE = bytes(100_000)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Does what the path says, and answers thirteen bytes otherwise."""
    answer = _PATHS.get(environ["PATH_INFO"])
    if answer is not None:
        return answer(environ, start_response)
    start_response("200 OK", [("Content-Length", "13")])
    return [b"Hello, world!"]


def _work(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:  # noqa: ARG001
    time.sleep(WORK_SECONDS)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]


def _hang(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:  # noqa: ARG001
    threading.Event().wait()
    return []


def _list(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:  # noqa: ARG001
    start_response("200 OK", [("Content-Length", str(len(BIG)))])
    return [BIG]


def _page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:  # noqa: ARG001
    start_response("200 OK", [("Content-Length", str(len(PAGE)))])
    return [PAGE]


def _generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:  # noqa: ARG001
    start_response("200 OK", [])
    return (BLOCK for _ in range(len(BIG) // len(BLOCK)))


def _file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", str(len(BIG)))])
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the server
    file.write(BIG)
    file.seek(0)
    wrapper: Callable[[Any], Iterable[bytes]] = environ["wsgi.file_wrapper"]
    return wrapper(file)


_PATHS: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
    "/work": _work,
    "/hang": _hang,
    "/page": _page,
    "/list": _list,
    "/generator": _generator,
    "/file": _file,
}
