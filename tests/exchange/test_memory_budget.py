"""What all connections hold together: counted, scarce, exhausted."""

from __future__ import annotations

import pytest

from aiowsgi.exchange.memory_budget import CountedBytesIO, MemoryBudget


@pytest.mark.parametrize(
    ("held", "scarce", "exhausted"),
    [(0, False, False), (500, False, False), (501, True, False), (1000, True, True)],
)
def test_more_than_half_is_scarce_and_all_is_exhausted(held, scarce, exhausted):
    """What is given back counts no longer."""
    budget = MemoryBudget(1000)
    budget.add(held + 100)
    budget.add(-100)
    assert (budget.held, budget.scarce, budget.exhausted) == (held, scarce, exhausted)


def test_without_a_limit_nothing_is_scarce():
    """0 is no limit."""
    budget = MemoryBudget()
    budget.add(1 << 60)
    assert not budget.scarce
    assert not budget.exhausted


def test_a_body_in_memory_counts_until_it_is_closed():
    """The application may close it, and the server closes it again."""
    budget = MemoryBudget(1000)
    with CountedBytesIO(b"abc", budget) as body:
        assert body.read() == b"abc"
        assert budget.held == 3
        body.close()
    assert budget.held == 0
