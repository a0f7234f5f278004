"""Transfer-Encoding in thousands of mutations, with a hidden request after each."""

from __future__ import annotations

import itertools

import pytest
from reading import PARSERS, Reading, read
from wire.row import HIDDEN, SECOND, post

NAME, VALUE = b"Transfer-Encoding", b"chunked"
BYTES = [bytes([c]) for c in range(256)]


def _with_each_byte(word: bytes) -> list[bytes]:
    """Each byte in front of a word, behind it, in its middle, and in place of one of its own."""
    middle = len(word) // 2
    return [
        mutant
        for c in BYTES
        for mutant in (
            c + word,
            word + c,
            word[:middle] + c + word[middle:],
            word[:middle] + c + word[middle + 1 :],
        )
    ]


def _with_each_case(word: bytes) -> list[bytes]:
    """The word with each of its letters in the other case, and with all of them."""
    each = [word[:i] + word[i : i + 1].swapcase() + word[i + 1 :] for i in range(len(word))]
    return [*each, word.upper(), word.lower(), word.title(), word.swapcase()]


def _with_each_gap(word: bytes) -> list[bytes]:
    """The word without each of its bytes, and with each of them twice."""
    return [
        mutant
        for i in range(len(word))
        for mutant in (word[:i] + word[i + 1 :], word[: i + 1] + word[i:])
    ]


_SEPARATORS = [b"_", b" ", b"--", b".", b"", b"\xad", b"\xe2\x80\x90", b"%2d", b"\x00", b"\t"]
_CODINGS = [b"identity", b"gzip", b"x", b"", b" ", b"\t", b'""', b"chunked", b"Chunked", b"\x00"]
_JOINTS = [
    b",",
    b", ",
    b" ,",
    b";",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\r",
    b"\n",
    b"\r\n ",
    b"\r\n\t",
]
_COLONS = [
    b":",
    b": ",
    b" : ",
    b"\t:",
    b":\t",
    b"::",
    b":\x0b",
    b":\x0c",
    b":\xa0",
    b":\r\n ",
    b"=",
    b"",
]

LINES = [
    *[
        name + b": " + VALUE
        for name in _with_each_byte(NAME) + _with_each_case(NAME) + _with_each_gap(NAME)
    ],
    *[name + b": " + VALUE for name in (s.join([b"Transfer", b"Encoding"]) for s in _SEPARATORS)],
    *[
        NAME + b": " + value
        for value in _with_each_byte(VALUE) + _with_each_case(VALUE) + _with_each_gap(VALUE)
    ],
    *[NAME + colon + VALUE for colon in _COLONS],
    *[
        NAME + b": " + j.join(pair)
        for j in _JOINTS
        for pair in itertools.product(_CODINGS, repeat=2)
    ],
    *[
        NAME + b": " + a + b"\r\n" + NAME + b": " + b
        for a, b in itertools.product(_CODINGS, repeat=2)
    ],
    *[b"A: b" + joint + NAME + b": " + VALUE for joint in [*_JOINTS, *BYTES]],
]

# What the hidden request is inside of, were the line not there: a body by length, a chunk's data,
# or nothing that would hide it from a reader that finds no framing.
CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)


def _beside_length(line: bytes) -> bytes:
    body = b"0\r\n\r\n" + HIDDEN
    return post(b"Content-Length: %d" % len(body), line, body=body)


def _beside_chunked(line: bytes) -> bytes:
    return post(NAME + b": " + VALUE, line, body=CHUNK)


def _before_chunked(line: bytes) -> bytes:
    return post(line, NAME + b": " + VALUE, body=CHUNK)


def _alone(line: bytes) -> bytes:
    return post(line, body=CHUNK)


def readings(sent: bytes) -> list[Reading]:
    return [read(parser, [sent + SECOND]) for parser in PARSERS]


def test_there_are_a_few_thousand() -> None:
    """The mutations are different ones, and many."""
    assert len(set(LINES)) > 3000


@pytest.mark.parametrize("frame", [_beside_length, _beside_chunked, _before_chunked, _alone])
def test_no_mutation_uncovers_the_hidden_request(frame: object) -> None:
    """For any line, both parsers agree, and the request inside the body is not seen."""
    assert callable(frame)
    for line in LINES:
        one, other = readings(frame(line))
        assert one.alike == other.alike, line
        assert all(seen.target in ("/", "/second") for seen in one.seen), line


@pytest.mark.parametrize("frame", [_beside_length, _beside_chunked, _before_chunked])
def test_a_mutation_is_refused_or_another_field(frame: object) -> None:
    """Next to valid framing, a line is either refused at once or has no effect."""
    assert callable(frame)
    for line in LINES:
        reading = readings(frame(line))[0]
        if reading.status is not None:
            assert reading.seen == (), line
        else:
            assert [seen.target for seen in reading.seen] == ["/", "/second"], line
            assert HIDDEN in reading.seen[0].body, line
            assert b"\ntransfer-encoding:" not in (b"\n" + line).lower().replace(b"_", b"-"), line
