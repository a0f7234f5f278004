"""Received bytes that nothing has consumed yet.

A consumer of the stream sees one growing row of bytes and takes from its front. Three laws keep it
cheap: the object that the transport delivered is kept as it is while it is the only one (a request
that arrives whole is never copied); taking moves an offset instead of the bytes; and a search for
a mark resumes where the last one stopped, so that a section that comes byte by byte costs linear
time. Nothing here knows HTTP.
"""

from __future__ import annotations

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer:
    """A queue of bytes; ``len()`` says how many are held."""

    __slots__ = ("_data", "_searched", "_start")

    def __init__(self) -> None:
        # The delivered object itself, or a bytearray once a second one had to be joined to it.
        self._data: bytes | bytearray = b""
        # Offset in _data of the first byte that is not yet taken.
        self._start = 0
        # Offset in _data before which the mark of take_through() is known not to begin.
        self._searched = 0

    def __len__(self) -> int:
        return len(self._data) - self._start

    def append(self, data: bytes) -> None:
        """Hold ``data`` behind what is held; it is not copied where nothing is."""
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
        """Where ``mark`` begins at or behind ``offset``, counted from the front; -1 if nowhere."""
        found = self._data.find(mark, self._start + offset)
        return found - self._start if found >= 0 else -1

    def peek(self, start: int, stop: int) -> bytes:
        """A copy of the bytes from ``start`` to ``stop``, counted from the front; none taken."""
        return bytes(self._data[self._start + start : self._start + stop])

    def take(self, size: int) -> bytes:
        """The first ``size`` bytes, or all that are held where these are fewer."""
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
        """Everything up to and with the first ``mark``; None, and nothing taken, if it is absent.

        Until it is found, ask for no other mark: what has been searched is not searched again.
        """
        found = self._data.find(mark, self._searched)
        if found < 0:
            # The beginning of a mark may be held.
            self._searched = max(self._start, len(self._data) - len(mark) + 1)
            return None
        stop = found + len(mark)
        if stop == len(self._data) and type(self._data) is bytes and self._start == 0:
            # `take` would do the same; this is every request that comes alone and whole.
            data, self._data, self._searched = self._data, b"", 0
            return data
        return self.take(stop - self._start)

    def view(self) -> tuple[bytes | bytearray, int]:
        """What is held, for a loop that cannot afford a call for each step, and where it begins.

        Look only, and hand over with `skip` what was used before anything else is called.
        """
        return self._data, self._start

    def skip(self, size: int) -> None:
        """Let go of the first ``size`` bytes, which must be held."""
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
