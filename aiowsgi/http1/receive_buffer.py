"""A buffer of received bytes that have not been parsed.

Guarantees: a request that arrives in one piece is never copied; taking bytes from the front moves
an offset, not the rest; repeated searches for a delimiter take linear time in total, even if the
bytes arrive one by one. Nothing here knows HTTP.
"""

from __future__ import annotations

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer:
    """A queue of bytes; ``len()`` is the number of bytes in it."""

    __slots__ = ("_data", "_searched", "_start")

    def __init__(self) -> None:
        # The object that the transport delivered, or a bytearray after a second one was appended.
        self._data: bytes | bytearray = b""
        # Offset in _data of the first byte that has not been taken.
        self._start = 0
        # take_through() has found no delimiter that begins before this offset in _data.
        self._searched = 0

    def __len__(self) -> int:
        return len(self._data) - self._start

    def append(self, data: bytes) -> None:
        """Append ``data``; it is not copied if the buffer is empty."""
        if self._start == len(self._data):
            self._data, self._start, self._searched = data, 0, 0
        elif type(self._data) is bytearray:
            self._data += data
        else:
            self._data = bytearray(memoryview(self._data)[self._start :])
            self._data += data
            self._searched -= self._start
            self._start = 0

    def startswith(self, prefix: bytes) -> bool:
        return self._data.startswith(prefix, self._start)

    def find(self, mark: bytes, offset: int = 0) -> int:
        """Return the offset of ``mark`` at or after ``offset``, counted from the front; -1 if
        absent."""
        found = self._data.find(mark, self._start + offset)
        return found - self._start if found >= 0 else -1

    def peek(self, start: int, stop: int) -> bytes:
        """Return a copy of the bytes from ``start`` to ``stop``, counted from the front."""
        return bytes(self._data[self._start + start : self._start + stop])

    def take(self, size: int) -> bytes:
        """Take the first ``size`` bytes, or all if there are fewer."""
        data, start = self._data, self._start
        stop = start + size
        if stop < len(data):
            taken = bytes(memoryview(data)[start:stop])
            self._advance(stop)
            return taken
        self.clear()
        if start == 0 and type(data) is bytes:
            return data
        return bytes(memoryview(data)[start:])

    def take_through(self, mark: bytes) -> bytes | None:
        """Take everything up to and including the first ``mark``; return None if it is absent.

        Search for no other mark before this one has been found: the searched bytes are not searched
        again.
        """
        found = self._data.find(mark, self._searched)
        if found < 0:
            # The buffer may end with the beginning of a mark.
            self._searched = max(self._start, len(self._data) - len(mark) + 1)
            return None
        stop = found + len(mark)
        if stop == len(self._data) and type(self._data) is bytes and self._start == 0:
            # take() would return the same; this is faster for a request that arrives alone and
            # whole.
            data, self._data, self._searched = self._data, b"", 0
            return data
        return self.take(stop - self._start)

    def view(self) -> tuple[bytes | bytearray, int]:
        """Return the underlying bytes and the offset of the first one, for loops in which a call
        for each step is too slow.

        The caller must not change them, and must call `skip` before any other method.
        """
        return self._data, self._start

    def skip(self, size: int) -> None:
        """Drop the first ``size`` bytes, which must be in the buffer."""
        self._advance(self._start + size)

    def clear(self) -> None:
        self._data, self._start, self._searched = b"", 0, 0

    def _advance(self, start: int) -> None:
        if type(self._data) is bytearray:
            # Deleting from the front of a bytearray moves its start, not its bytes.
            del self._data[:start]
            self._start = self._searched = 0
        else:
            self._start = self._searched = start
