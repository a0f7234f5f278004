"""The WSGI applications under load, plain PEP 3333 and free of any framework.

Each is as cheap as its question allows, so that the server's share of a request dominates. They
import nothing that a server would not import itself: their own size must not blur the figures of
resident memory and of start-up. The Flask application therefore has its own module.
"""

# ruff: noqa: ARG001 - the two arguments are those of PEP 3333, used or not.

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

MIB = 1024 * 1024
BODY_SIZE = 8 * MIB
"""Bytes of a download and of an upload."""

BLOCK_SIZE = 64 * 1024
"""Bytes that the streaming applications read or yield at once; what frameworks commonly use."""

WAIT_SECONDS = 0.010
"""Seconds that ``wait`` sleeps, as a database query would take."""

CHECKSUM_STEPS = 25_000
LONG_STEPS = 25 * CHECKSUM_STEPS

TEXT = [("Content-Type", "text/plain")]
BINARY = [("Content-Type", "application/octet-stream")]
BODY_10K = b"x" * 10_000
BLOCK = b"x" * BLOCK_SIZE


def small(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer thirteen bytes with their length declared."""
    start_response("200 OK", [*TEXT, ("Content-Length", "13")])
    return [b"Hello, world!"]


def ten_kilobytes(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer 10,000 bytes, a typical page of HTML."""
    start_response("200 OK", [*TEXT, ("Content-Length", "10000")])
    return [BODY_10K]


def wait(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer after ten milliseconds in which the thread sleeps."""
    time.sleep(WAIT_SECONDS)
    return small(environ, start_response)


def cpu_bound(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer after some two milliseconds of pure Python: a checksum, in numbers that stay small."""
    return _checksum(CHECKSUM_STEPS, start_response)


def busy(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer ``/compute`` after some fifty milliseconds of pure Python, all else at once."""
    if environ["PATH_INFO"] == "/compute":
        return _checksum(LONG_STEPS, start_response)
    return small(environ, start_response)


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the strings of the environ as JSON."""
    facts = {key: value for key, value in environ.items() if isinstance(value, str)}
    body = json.dumps(facts, sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def download(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Stream 8 MiB in 64 KiB blocks, length declared."""
    start_response("200 OK", [*BINARY, ("Content-Length", str(BODY_SIZE))])
    return _blocks()


def download_chunked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Stream 8 MiB in 64 KiB blocks without a length, so that the server must frame them."""
    start_response("200 OK", [*BINARY])
    return _blocks()


def download_file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send a file of 8 MiB by ``wsgi.file_wrapper``, or in blocks if the server has none."""
    start_response("200 OK", [*BINARY, ("Content-Length", str(BODY_SIZE))])
    # The response closes it: PEP 3333, "Optional Platform-Specific File Handling".
    file = Path(f"/proc/self/fd/{_file_of_8_mib()}").open("rb")  # noqa: SIM115
    wrapper = environ.get("wsgi.file_wrapper", _FileBlocks)
    wrapped: Iterable[bytes] = wrapper(file, BLOCK_SIZE)
    return wrapped


def upload(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read ``wsgi.input`` to its end and answer 200 only if all of 8 MiB came with a POST."""
    received = _read_all(environ)
    expected = BODY_SIZE if environ["REQUEST_METHOD"] == "POST" else 0
    status = "200 OK" if received == expected else "400 Bad Request"
    body = b"%d" % received
    start_response(status, [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


class _FileBlocks:
    """The stand-in for ``wsgi.file_wrapper``, after the example in PEP 3333."""

    def __init__(self, file: IO[bytes], block_size: int) -> None:
        self._file = file
        self._block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        while block := self._file.read(self._block_size):
            yield block

    def close(self) -> None:
        self._file.close()


def _checksum(steps: int, start_response: StartResponse) -> Iterable[bytes]:
    checksum = 0
    for number in range(steps):
        checksum = (checksum * 31 + number) % 10_007
    body = b"%d" % checksum
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def _blocks() -> Iterator[bytes]:
    for _ in range(BODY_SIZE // BLOCK_SIZE):
        yield BLOCK


def _read_all(environ: WSGIEnvironment) -> int:
    """Count the body's bytes, never asking for more than a declared length (PEP 3333)."""
    stream = environ["wsgi.input"]
    declared = environ.get("CONTENT_LENGTH")
    chunked = "HTTP_TRANSFER_ENCODING" in environ or environ.get("wsgi.input_terminated")
    limit = int(declared) if declared else (BODY_SIZE + 1 if chunked else 0)
    received = 0
    while received < limit and (block := stream.read(min(BLOCK_SIZE, limit - received))):
        received += len(block)
    return received


@cache
def _file_of_8_mib() -> int:
    """Return the descriptor of an unlinked file, which the system removes with the process.

    It is written once, so that the page cache holds it.
    """
    descriptor, name = tempfile.mkstemp()
    os.unlink(name)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(b"x" * BODY_SIZE)
    return descriptor
