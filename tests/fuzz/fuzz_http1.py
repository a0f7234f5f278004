"""Coverage-guided fuzzing of the request reader; see the README beside this file.

The property is differential. Whatever the bytes are: both parsers read the same requests and
bodies or refuse with the same status, and neither how the bytes are split nor which parser reads
them makes a difference.
"""

import random
import sys
from pathlib import Path

import atheris

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "http1")]

with atheris.instrument_imports(include=["aiowsgi", "h11"]):
    from reading import read, split_at

    from aiowsgi.http1.events import Limits

# Small ones, so that inputs of the size that a fuzzer makes can reach them.
LIMITS = (Limits(), Limits(request_line=40, header_size=120, fields=3, body_size=20))


def test_one_input(data: bytes) -> None:
    """One input: three bytes of choices, then the stream."""
    choices, stream = data[:3], data[3:]
    if len(choices) < 3:
        return
    limits = LIMITS[choices[0] & 1]
    cuts = random.Random(choices).sample(range(256), choices[1] % 8)
    whole = read("httptools", [stream], limits).alike
    assert read("httptools", split_at(stream, cuts), limits).alike == whole
    assert read("h11", [stream], limits).alike == whole


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
