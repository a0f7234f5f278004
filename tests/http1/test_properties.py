"""Properties of the reader, for any stream and any split of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import PARSERS, in_pieces, read, split_at
from wire import ROWS
from wire.row import SECOND, head

from aiowsgi.http1.messages import Limits

pytestmark = pytest.mark.slow("soak")

TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8).map(str.encode)
VALUES = st.binary(max_size=12).map(
    lambda b: bytes(c for c in b if c == 9 or 32 <= c < 127 or c > 127).strip(b" \t")
)
OTHER_NAMES = TOKENS.map(lambda name: b"X-" + name)
PATHS = st.text("abc/%?=&;.~", max_size=12).map(lambda p: b"/" + p.encode())
BODIES = st.binary(max_size=60)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, tuple[str, str, bytes]]:
    """A valid request that keeps the connection, and its method, target and body."""
    method, target, body = draw(TOKENS), draw(PATHS), draw(BODIES)
    if method == b"CONNECT":
        method = b"GET"
    lines = [
        b"%b: %b" % field for field in draw(st.lists(st.tuples(OTHER_NAMES, VALUES), max_size=4))
    ]
    if draw(st.booleans()):
        lines.append(b"Transfer-Encoding: chunked")
        pieces = in_pieces(body, draw(st.integers(1, 20)))
        framed = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    else:
        lines.append(b"Content-Length: %d" % len(body))
        framed = body
    sent = draw(st.sampled_from([b"", b"\r\n"])) + head(*lines, method=method, target=target)
    return sent + framed, (method.decode(), target.decode(), body)


CUTS = st.lists(st.integers(0, 5000), max_size=12)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(stream=st.lists(requests(), min_size=1, max_size=4), cuts=CUTS)
def test_any_split_of_valid_requests(
    stream: list[tuple[bytes, tuple[str, str, bytes]]], cuts: list[int]
) -> None:
    """A stream of valid requests gives the same requests and bodies, however it is split."""
    sent = b"".join(request for request, _ in stream)
    for parser in PARSERS:
        reading = read(parser, split_at(sent, cuts))
        assert reading.status is None
        assert [(s.method, s.target, s.body) for s in reading.seen] == [
            facts for _, facts in stream
        ]


STREAMS = [row.sent + SECOND for row in ROWS if len(row.sent) < 600]
LIMITS = st.sampled_from(
    [Limits(), Limits(request_line=40, header_size=120, fields=3, body_size=20)]
)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 1000),
        st.sampled_from([0, 1, 2]),
        st.one_of(
            st.binary(max_size=2), st.sampled_from([b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b","])
        ),
    ),
    max_size=4,
)


@settings(deadline=None, derandomize=True, max_examples=600)
@given(stream=st.sampled_from(STREAMS), edits=EDITS, cuts=CUTS, limits=LIMITS)
def test_any_mutation_is_read_alike(
    stream: bytes, edits: list[tuple[int, int, bytes]], cuts: list[int], limits: Limits
) -> None:
    """For any bytes, both parsers and any split give the same requests and refusals."""
    for place, width, inserted in edits:
        at = place % (len(stream) + 1)
        stream = stream[:at] + inserted + stream[at + width :]
    whole = read("httptools", [stream], limits).alike
    assert read("h11", [stream], limits).alike == whole
    assert read("httptools", split_at(stream, cuts), limits).alike == whole
    assert read("httptools", in_pieces(stream, 1), limits).alike == whole
