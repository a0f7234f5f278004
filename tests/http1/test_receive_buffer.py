"""The buffer against bytes as the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiowsgi.http1.receive_buffer import ReceiveBuffer


def test_the_delivered_object_is_not_copied() -> None:
    """Bytes that arrive and are taken whole are the same object."""
    delivered = b"GET / HTTP/1.1\r\n\r\n"
    buffer = ReceiveBuffer()
    buffer.append(delivered)
    assert buffer.take_through(b"\r\n\r\n") is delivered
    buffer.append(delivered)
    assert buffer.take(1000) is delivered


def test_clear() -> None:
    """After clear() the buffer is empty."""
    buffer = ReceiveBuffer()
    buffer.append(b"a")
    buffer.append(b"b")
    buffer.clear()
    assert len(buffer) == 0
    assert buffer.take(5) == b""


def test_what_stands_behind_a_taken_byte() -> None:
    """take_through() returns the bytes up to the mark, without bytes taken before."""
    buffer = ReceiveBuffer()
    buffer.append(b"xab\r\n")
    assert buffer.take(1) == b"x"
    assert buffer.take_through(b"\r\n") == b"ab\r\n"


def test_bytes_are_joined_once() -> None:
    """New bytes are appended; the bytes in the buffer are not moved."""
    buffer = ReceiveBuffer()
    buffer.append(b"a")
    buffer.append(b"b")
    joined, _ = buffer.view()
    buffer.append(b"c")
    assert buffer.view()[0] is joined
    assert joined == b"abc"


def test_joined_bytes_are_let_go_when_taken() -> None:
    """Bytes that were taken from a joined buffer occupy no memory."""
    buffer = ReceiveBuffer()
    buffer.append(b"ab")
    buffer.append(b"cd")
    assert buffer.take(3) == b"abc"
    assert buffer.view() == (b"d", 0)


PIECES = st.binary(max_size=6).map(lambda b: bytes(b"ab\r\n"[c % 4] for c in b))
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), PIECES),
        st.tuples(st.just("take"), st.integers(0, 8)),
        st.tuples(st.just("take_through"), st.just(b"\r\n")),
        st.tuples(st.just("peek"), st.integers(0, 8)),
        st.tuples(st.just("find"), st.integers(0, 3)),
        st.tuples(st.just("startswith"), PIECES),
    ),
    max_size=40,
)


def oracle(held: bytes, call: str, argument: int | bytes) -> tuple[object, bytes]:
    """Return the result of a call, and the content of the buffer."""
    if isinstance(argument, bytes):
        if call == "append":
            return None, held + argument
        if call == "startswith":
            return held.startswith(argument), held
        before, mark, after = held.partition(argument)
        return (before + mark, after) if mark else (None, held)
    if call == "take":
        return held[:argument], held[argument:]
    if call == "find":
        return held.find(b"\n", argument), held
    return held[1:argument], held


@settings(deadline=None, derandomize=True, max_examples=300)
@given(calls=CALLS)
@pytest.mark.slow("soak")
def test_any_calls_are_those_of_bytes(calls: list[tuple[str, int | bytes]]) -> None:
    """Any sequence of calls behaves like a string of bytes."""
    buffer, held = ReceiveBuffer(), b""
    for call, argument in calls:
        arguments = {"peek": (1, argument), "find": (b"\n", argument)}.get(call, (argument,))
        wanted, held = oracle(held, call, argument)
        assert getattr(buffer, call)(*arguments) == wanted
        assert len(buffer) == len(held)
