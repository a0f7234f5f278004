"""The syntax check: the regular expression and the line-by-line check must agree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import ROWS

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.messages import Limits
from aiowsgi.http1.receive_buffer import ReceiveBuffer
from aiowsgi.http1.syntax import LineCheck, check_head, split_fields

GOOD = b"GET /a HTTP/1.1\r\nHost: x\r\nA:b \r\nC: \t\r\n\r\n"

HEADS = [
    row.sent[: row.sent.index(b"\r\n\r\n") + 4].removeprefix(b"\r\n")
    for row in ROWS
    if b"\r\n\r\n" in row.sent[2:] and len(row.sent) < 1000
]


def verdict_of_match(head: bytes, limits: Limits) -> int | None:
    try:
        check_head(head, limits)
    except RequestError as error:
        return error.status
    return None


def verdict_of_check(held: ReceiveBuffer, limits: Limits) -> int | None:
    try:
        LineCheck(limits).check_incomplete(held)
    except RequestError as error:
        return error.status
    return None


def verdict_of_walk(head: bytes, limits: Limits) -> int | None:
    check = LineCheck(limits)
    try:
        for line in head.split(b"\n")[:-1]:
            check.check_line(line + b"\n")
    except RequestError as error:
        return error.status
    return None


def test_outline() -> None:
    """A valid head returns method, target, version and the number of field lines."""
    assert check_head(GOOD, Limits()) == (b"GET", b"/a", b"1.1", 3)


def test_split_fields_strips_values_only() -> None:
    """split_fields() starts after the request line and strips the values."""
    for visible in range(0x21, 0x7F):
        value = b"%c %c" % (visible, visible)
        head = b"GET http://a/ HTTP/1.1\r\nHost: x\r\nA:%b \r\nC: \t\r\n\r\n" % value
        assert split_fields(head) == [(b"Host", b"x"), (b"A", value), (b"C", b"")]


ALNUM = set(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
TCHAR = ALNUM | set(b"!#$%&'*+-.^_`|~")
VCHAR = set(range(0x21, 0x7F))
OBS_TEXT = set(range(0x80, 0x100))


@pytest.mark.parametrize(
    ("head", "allowed"),
    [
        (b"G%cT / HTTP/1.1\r\n\r\n", TCHAR),
        (b"GET /%c HTTP/1.1\r\n\r\n", VCHAR),
        (b"GET %c HTTP/1.1\r\n\r\n", VCHAR),
        (b"GET / HTTP/1.%c\r\n\r\n", set(b"0123456789")),
        (b"GET / HTTP/1.1\r\nA%cB: c\r\n\r\n", TCHAR | set(b":")),
        (b"GET / HTTP/1.1\r\nA: b%cc\r\n\r\n", VCHAR | OBS_TEXT | set(b" \t")),
    ],
)
def test_which_bytes_may_stand(head: bytes, allowed: set[int]) -> None:
    """Exactly the bytes that the RFCs allow are accepted."""
    for verdict in (verdict_of_match, verdict_of_walk):
        assert {byte for byte in range(256) if verdict(head % byte, Limits()) is None} == allowed


@pytest.mark.parametrize(
    ("head", "digits"),
    [(b"GET / HTTP/%c.5\r\n\r\n", b"023456789"), (b"GET / HTTP/2.%c\r\n\r\n", b"0123456789")],
)
def test_what_is_a_version(head: bytes, digits: bytes) -> None:
    """Every major version other than 1 is refused with 505; anything else is malformed."""
    for verdict in (verdict_of_match, verdict_of_walk):
        found = {byte for byte in range(256) if verdict(head % byte, Limits()) == 505}
        assert found == set(digits)


@pytest.mark.parametrize(
    "head",
    [
        b" / HTTP/1.1\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\n\r\n",
        b"GET / HTTP/1.1\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    ],
)
def test_what_may_not_be_missing(head: bytes) -> None:
    """No part of a line except a value may be empty, and no line ends with a bare LF."""
    assert verdict_of_match(head, Limits()) == verdict_of_walk(head, Limits()) == 400


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (Limits(), None),
        (Limits(request_line=15), None),
        (Limits(request_line=14), 414),
        (Limits(header_size=len(GOOD)), None),
        (Limits(header_size=len(GOOD) - 1), 431),
        # A request line longer than the limit on the head is too long a request line.
        (Limits(header_size=14), 414),
        (Limits(request_line=0, header_size=14), 414),
        (Limits(request_line=1), 414),
        (Limits(header_size=1), 414),
        (Limits(fields=1), 431),
        (Limits(fields=3), None),
        (Limits(fields=2), 431),
        (Limits(0, 0, 0, 0), None),
    ],
)
def test_limits(limits: Limits, status: int | None) -> None:
    """Each limit accepts its own value and refuses one more; 0 is no limit."""
    assert verdict_of_match(GOOD, limits) == status
    assert verdict_of_walk(GOOD, limits) == status


@pytest.mark.parametrize(
    ("held", "limits", "status"),
    [
        (b"GET", Limits(request_line=2), None),
        (b"GET", Limits(request_line=1), 414),
        (b"GET /", Limits(request_line=4), None),
        (b"GET /", Limits(request_line=3), 414),
        (b"GET /", Limits(header_size=3), 414),
        (b"GET / HTTP/1.1\r\nA", Limits(header_size=17), None),
        (b"GET / HTTP/1.1\r\nA:", Limits(header_size=17), 431),
        (b"GET / HTTP/1.1\r\nA: b\r\nC: d\r\n", Limits(fields=2), None),
        (b"GET / HTTP/1.1\r\nA: b\r\nC: d\r\n", Limits(fields=1), 431),
        (b"GET / HTTP/1.1\r\nA: b\r\nC: d", Limits(fields=1), None),
        (b"GET / HTTP/1.1\n", Limits(), 400),
        (b"GET / HTTP/1.1\r\n\n", Limits(), 400),
        (b"GET / HTTP/1.1\r\nA\n", Limits(), 400),
        (b"GET / HTTP/1.1\r\nA", Limits(), None),
        (b"PRI * HTTP/2.0\r\n", Limits(), 505),
        (b"\x16", Limits(), 400),
    ],
)
def test_an_incomplete_section(held: bytes, limits: Limits, status: int | None) -> None:
    """An error in an incomplete head is found when its line ends, or when a limit is exceeded."""
    buffer, check = ReceiveBuffer(), LineCheck(limits)
    found = None
    for i in range(len(held)):
        buffer.append(held[i : i + 1])
        try:
            check.check_incomplete(buffer)
        except RequestError as error:
            found = (error.status, i + 1)
            break
    assert found == (None if status is None else (status, len(held)))
    whole = ReceiveBuffer()
    whole.append(held)
    assert verdict_of_check(whole, limits) == status


def test_no_limit_holds_anything() -> None:
    """Without limits, a request line may have any length."""
    held = ReceiveBuffer()
    held.append(b"GET /" + b"a" * 100_000)
    check = LineCheck(Limits(0, 0, 0, 0))
    check.check_incomplete(held)
    held.append(b" HTTP/1.1\r\n" + b"A: b\r\n" * 10_000)
    check.check_incomplete(held)
    assert len(held) == 100_000 + 5 + 11 + 60_000


LIMITS = st.sampled_from(
    [Limits(), Limits(request_line=20), Limits(header_size=40), Limits(fields=1)]
)
EDITS = st.lists(
    st.tuples(st.integers(0, 2000), st.sampled_from([0, 1]), st.binary(max_size=2)), max_size=3
)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(head=st.sampled_from(HEADS), edits=EDITS, limits=LIMITS)
@pytest.mark.slow("soak")
def test_match_and_walk_agree(
    head: bytes, edits: list[tuple[int, int, bytes]], limits: Limits
) -> None:
    """The regular expression and the line-by-line check accept the same heads."""
    body = head[:-4]
    for place, width, inserted in edits:
        at = place % (len(body) + 1)
        body = body[:at] + inserted + body[at + width :]
    head = body.split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert verdict_of_match(head, limits) == verdict_of_walk(head, limits)
