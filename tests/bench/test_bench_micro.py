"""The pieces that are timed apart."""

from __future__ import annotations

import pytest

from bench.micro import best, main, pieces


@pytest.mark.parametrize("piece", [pytest.param(piece, id=name) for name, piece in pieces()])
def test_piece(piece) -> None:
    """Every piece can be called again and again, beyond the number of different requests."""
    for _ in range(300):
        piece()


def test_best() -> None:
    """The cost of doing nothing is more than nothing and less than a microsecond or two."""
    assert 0 < best(lambda: None, 1) < 10


def test_help(capsys) -> None:
    """The script says what it takes."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--repeat" in capsys.readouterr().out
