"""The pieces that are timed apart."""

from __future__ import annotations

import pytest

from aiowsgi.http1.messages import NEED_DATA
from bench.micro import DIFFERENT, best, main, pieces


@pytest.mark.parametrize("piece", [pytest.param(piece, id=name) for name, piece in pieces()])
def test_piece(piece) -> None:
    """Each piece can run many times, and starts again with the first request."""
    results = [piece() for _ in range(DIFFERENT + 1)]
    assert all(results)
    assert NEED_DATA not in results
    assert results[DIFFERENT] == results[0]


def test_best() -> None:
    """The cost of doing nothing is more than nothing and less than a microsecond or two."""
    assert 0 < best(lambda: None, 1) < 10


def test_help(capsys) -> None:
    """The script says what it takes."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--repeat" in capsys.readouterr().out
