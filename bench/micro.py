"""Time the pieces of a request apart, without sockets or threads: ``python -m bench.micro``.

Each piece is called with requests that differ from one another, as under load, and the best of
several repetitions counts: what disturbs a measurement only ever makes it longer. The figures say
where the microseconds of a request go; they do not add up to one, which also crosses threads and
the kernel.
"""

from __future__ import annotations

import argparse
import itertools
import timeit
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from aiowsgi.http1 import head_parser
from aiowsgi.http1.messages import Limits
from aiowsgi.http1.reader import RequestReader
from aiowsgi.http1.response import check_head, encode_head, response_context
from aiowsgi.wsgi.environ import ConnectionInfo, EnvironBuilder, base_environ
from bench.report import markdown_table, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiowsgi.http1.messages import BodyEvent, HeadParser, Request

ID = b"6f1c2f9e-54c3-4d55-9a5e-3d2f1b7a9c10"
FIELDS = (
    b"Host: shop.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"Referer: https://shop.example.com/catalogue/shoes?page=2\r\n"
    b"Cookie: session=eyJ1c2VyX2lkIjo0MjE3fQ.Zr0wXg.8lq1Zk; theme=dark; consent=1\r\n"
    b"Cache-Control: max-age=0\r\n"
    b"X-Forwarded-For: 203.0.113.7\r\n"
    b"X-Request-ID: %b\r\n\r\n" % ID
)
DIFFERENT = 256
"""Requests with different paths, used in turn."""
HEADS = [b"GET /catalogue/item-%d?page=2 HTTP/1.1\r\n%b" % (n, FIELDS) for n in range(DIFFERENT)]
VARYING = [head.replace(ID, b"%032x" % n) for n, head in enumerate(HEADS)]
CHUNK = b"400\r\n" + b"x" * 1024 + b"\r\n"
UPLOAD = (
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK * 64 + b"0\r\n\r\n"
)

PEER = ConnectionInfo("192.0.2.1", "50000", "shop.example.com", "80", "http")
CONTEXT = response_context(
    head_only=False,
    http_11=True,
    keep_alive=True,
    date="Sun, 06 Nov 1994 08:49:37 GMT",
    server="aiowsgi",
)
RESPONSE_FIELDS = [("Content-Type", "application/json"), ("Content-Length", "13"), ("ETag", '"1"')]
MICROSECONDS = 1e6


def main(arguments: list[str] | None = None) -> None:
    """Print a table of the pieces with their cost in microseconds."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description="Time the pieces.")
    parser.add_argument("--repeat", type=int, default=7, help="repetitions (%(default)s)")
    repeat = parser.parse_args(arguments).repeat
    rows = [[name, number(best(piece, repeat), 2)] for name, piece in pieces()]
    print(markdown_table(["piece", "best, µs"], rows))


def best(piece: Callable[[], object], repeat: int) -> float:
    """Microseconds of one call in the fastest of ``repeat`` repetitions of 0.2 s or more."""
    timer = timeit.Timer(piece)
    calls, _ = timer.autorange()
    return min(timer.repeat(repeat, calls)) / calls * MICROSECONDS


def pieces() -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed, by name."""
    for name in ("h11", "httptools"):
        if find_spec(name):
            parse = head_parser(name)
            yield f"{name}: parse a head of ten fields", _parsing(parse)
            yield f"{name}: read a request, all checks", _reading(parse, HEADS, remember=False)
            yield f"{name}: read 64 chunks of 1 KiB", partial(_read_upload, parse)
    parse = head_parser("h11")
    yield "read a request that has the fields of the one before", _reading(parse, HEADS)
    yield "read a request of which one value differs too", _reading(parse, VARYING)
    requests = _requests(parse)
    yield "environ", _environ(requests)
    yield "environ, of the fields of the one before", _environ(requests[:1])
    yield "response: check status and fields", partial(check_head, "200 OK", RESPONSE_FIELDS)
    checked = check_head("200 OK", RESPONSE_FIELDS)
    yield "response: encode the head", partial(encode_head, checked, 13, CONTEXT)


def _parsing(parse: HeadParser) -> Callable[[], object]:
    heads = itertools.cycle(HEADS)
    return lambda: parse(next(heads))


def _reading(
    parse: HeadParser, heads: list[bytes], *, remember: bool = True
) -> Callable[[], object]:
    """One connection's reader over many requests, as on a kept connection."""
    reader = RequestReader(parse, Limits())
    turn = itertools.cycle(heads)

    def read() -> Request | None:
        data = next(turn)
        if not remember:
            reader.clear_cache()
        request = reader.try_fast_path(data)
        if request is None:
            reader.feed(data)
            request = reader.next_request()
            reader.next_body()
        return request

    return read


def _read_upload(parse: HeadParser) -> BodyEvent:
    reader = RequestReader(parse, Limits())
    reader.feed(UPLOAD)
    reader.next_request()
    while isinstance(event := reader.next_body(), bytes):
        pass
    return event


def _requests(parse: HeadParser) -> list[Request]:
    reader = RequestReader(parse, Limits())
    requests = []
    for head in HEADS:
        reader.clear_cache()
        reader.feed(head)
        if request := reader.next_request():
            requests.append(request)
        reader.next_body()
    return requests


def _environ(requests: list[Request]) -> Callable[[], object]:
    base = base_environ(
        multithread=True, multiprocess=False, errors=None, script_name="", software="aiowsgi"
    )
    turn = itertools.cycle(requests)
    connection = EnvironBuilder(base, PEER)
    return lambda: connection.build(next(turn), None, 0)


if __name__ == "__main__":
    main()
