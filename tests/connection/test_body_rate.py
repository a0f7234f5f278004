"""How fast a client sends a body: a table of checks, without a clock."""

from __future__ import annotations

from math import inf

import pytest

from aiowsgi.connection.body_rate import RATE_GRACE, RATE_WINDOW, BodyRate

BEGIN = 1000.0
FIRST = BEGIN + RATE_GRACE
"""The earliest beginning of a window."""


def test_without_a_minimum_nothing_is_too_slow():
    """0 is no limit, and no check is asked for."""
    rate = BodyRate(0, BEGIN)
    assert rate.check(0, FIRST + 100 * RATE_WINDOW, waiting=True) == inf


def test_the_grace_is_not_measured():
    """A client that sends nothing at first is checked when the grace is over."""
    rate = BodyRate(240, BEGIN)
    assert rate.check(0, BEGIN + 1, waiting=True) == FIRST
    assert rate.check(0, FIRST, waiting=True) == FIRST + RATE_WINDOW


@pytest.mark.parametrize(("sent", "slow"), [(0, True), (2399, True), (2400, False)])
def test_a_window_is_judged_by_its_bytes(sent, slow):
    """Bytes that came before the window do not count."""
    rate = BodyRate(240, BEGIN)
    rate.check(1_000_000, FIRST, waiting=True)
    end = FIRST + RATE_WINDOW
    assert rate.check(1_000_000 + sent, end - 0.1, waiting=True) == end
    assert rate.check(1_000_000 + sent, end, waiting=True) == (end if slow else end + RATE_WINDOW)


def test_each_window_is_judged_by_itself():
    """A fast beginning does not make up for what is slow afterwards."""
    rate = BodyRate(240, BEGIN)
    rate.check(0, FIRST, waiting=True)
    assert rate.check(10_000, FIRST + RATE_WINDOW, waiting=True) > FIRST + RATE_WINDOW
    end = FIRST + 2 * RATE_WINDOW
    assert rate.check(10_100, end, waiting=True) == end


def test_a_late_check_judges_by_the_time_that_has_passed():
    """A window that lasted twice as long must have twice as many bytes."""
    rate = BodyRate(240, BEGIN)
    rate.check(0, FIRST, waiting=True)
    late = FIRST + 2 * RATE_WINDOW
    assert rate.check(4799, late, waiting=True) == late


def test_while_the_application_is_waited_for_the_client_is_not_measured():
    """Afterwards the client has the grace again."""
    rate = BodyRate(240, BEGIN)
    rate.check(0, FIRST, waiting=True)
    assert rate.check(0, FIRST + 5, waiting=False) == inf
    later = FIRST + 5 + RATE_GRACE
    assert rate.check(0, later - 1, waiting=True) == later
    assert rate.check(0, later, waiting=True) == later + RATE_WINDOW
