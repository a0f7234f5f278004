"""Random signals at random moments; ``CHAOS_ROUNDS=200`` plays as many rounds as a release should.

What is checked is said in ``bench/chaos.py``, which also replays a round by its seed.
"""

from __future__ import annotations

import os

import pytest

from bench.chaos import play

pytestmark = pytest.mark.slow("processes", "soak")

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "6"))


@pytest.mark.parametrize("workers", [1, 3])
def test_chaos(workers: int) -> None:
    """The newest code is served or the server has ended as asked, and nothing is left."""
    for seed in range(ROUNDS):
        assert play(seed, workers) == ""
