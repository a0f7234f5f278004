"""Coverage-guided fuzzing of the request reader; see the README beside this file.

The property is differential. Whatever the bytes are: both parsers read the same requests and
bodies or refuse with the same status; neither how the bytes are split makes a difference, nor what
a reader remembers of the request before. And no input takes long.

h11 takes ten times as long as all the rest. Which library a reader has can matter only for the
header sections that pass the gate in front of it, so h11 is asked where one of these is new.
"""

import sys
from pathlib import Path
from time import process_time

import atheris

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "http1")]

with atheris.instrument_imports(include=["aiowsgi"]):
    from reading import by_heads, read, split_at

    from aiowsgi.http1 import httptools_parser
    from aiowsgi.http1.messages import Limits, RawHead

# Small ones, so that inputs of the size that a fuzzer makes can reach them.
LIMITS = (Limits(), Limits(request_line=40, header_size=120, fields=3, body_size=20))

LONGEST = 0.05
"""Seconds of processor time that one input may take."""

REMEMBERED = 100_000


class Compared:
    """Parses with httptools, and notes whether a header section came that h11 has not seen."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, bytes]] = set()
        self.limits = 0
        self.anything_new = False

    def __call__(self, head: bytes) -> RawHead:
        if (self.limits, head) not in self.seen:
            self.anything_new = True
            if len(self.seen) >= REMEMBERED:
                self.seen.clear()
            self.seen.add((self.limits, head))
        return httptools_parser.parse_head(head)


parse_head = Compared()


def test_one_input(data: bytes) -> None:
    """One input: three bytes of choices, then the stream."""
    if len(data) < 3:
        return
    # Where the machine is slow for once, it is not the input.
    assert any(seconds_for(data[:3], data[3:]) < LONGEST for _ in range(3))


def seconds_for(choices: bytes, stream: bytes) -> float:
    """Read the stream in every way; how much processor time that took."""
    started = process_time()
    parse_head.limits, parse_head.anything_new = choices[0] & 1, False
    limits = LIMITS[choices[0] & 1]
    cuts = (choices[1], choices[1] + choices[2], choices[2])[: choices[0] >> 1 & 3]
    whole = read("httptools", [stream], limits).alike
    assert read("httptools", by_heads(stream), limits).alike == whole
    pieces = split_at(stream, cuts)
    assert read(parse_head, pieces, limits, forgetful=True).alike == whole
    if parse_head.anything_new:
        assert read("h11", [stream], limits, forgetful=True).alike == whole
    return process_time() - started


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
