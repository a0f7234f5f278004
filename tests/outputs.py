"""Outputs that are assigned to an owner, and drained."""

from __future__ import annotations

from support import Signal

from aiowsgi.exchange.output import DrainResult, ResponseOutput
from aiowsgi.exchange.output_buffer import OutputLimits

OWNER = object()


def assigned(writer, wake=None, *, memory=1000, spool=0, notify=False):
    """An output that is assigned to OWNER, on which a worker thread has started."""
    output = ResponseOutput(writer, wake or Signal(), OutputLimits(memory, spool))
    output.assign(OWNER, notify=notify)
    assert output.start(OWNER)
    return output


def drain(output):
    """Drain once, as the event loop does when the writer can take more."""
    output.resume()
    return output.drain()


def drained(output, writer, step=7):
    """Drain with space for ``step`` bytes at a time, until there is nothing left to wait for."""
    writer.space = 0
    while True:
        writer.space += step
        if (result := drain(output)) is not DrainResult.BLOCKED:
            return result
