"""What connections share: what is told that a connection has gone."""

from __future__ import annotations

from fake_kernel import FakeLoop, state_for


def test_watchers_hear_of_every_connection_that_goes():
    """Also if it was accepted and could not be set up."""
    state, seen = state_for(None, FakeLoop(at_once=False), "h11"), []
    state.watchers.append(lambda: seen.append(len(state.connections)))

    class Connection:
        watched_at = 0

    one, two = Connection(), Connection()
    state.connections.update((one, two))
    state.remove(one)
    state.notify_watchers()
    state.remove(two)
    assert seen == [1, 1, 0]
