"""Outlets that are lent, and drained."""

from __future__ import annotations

from support import Signal

from aiowsgi.exchange.output import DrainResult, ResponseOutput
from aiowsgi.exchange.output_buffer import OutputLimits

OWNER = object()


def lent(port, wake=None, *, memory=1000, spool=0, notify=False):
    """An outlet that is lent to OWNER, who has begun."""
    outlet = ResponseOutput(port, wake or Signal(), OutputLimits(memory, spool))
    outlet.lend(OWNER, notify=notify)
    assert outlet.claim(OWNER)
    return outlet


def drained(outlet, port, step=7):
    """Drain with ``step`` bytes of room at a time, until there is nothing left to wait for."""
    port.room = 0
    while True:
        port.room += step
        if (result := outlet.drain()) is not DrainResult.BLOCKED:
            return result
