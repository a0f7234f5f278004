"""Configurations that follow one another, with a group of workers that only notes its orders."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiowsgi.config.options import Config
from aiowsgi.exceptions import ConfigError
from aiowsgi.net.listeners import Listeners
from aiowsgi.supervisor import generations as module
from aiowsgi.supervisor.connection_counts import ConnectionCounts
from aiowsgi.supervisor.generations import Generation, Generations
from aiowsgi.supervisor.worker import Assignment

FIRST = Config(app="shop:app", workers=2, threads=4)


class FakeGroup:
    """Starts workers that are nothing but themselves, or cannot."""

    def __init__(self, error: OSError | None = None) -> None:
        self.error = error
        # Number of the generation, application and threads of each worker; and the workers.
        self.started: list[tuple[int, str | None, int]] = []
        self.workers: list[object] = []
        self.retired: list[tuple[object, float]] = []

    def start(self, generation: Generation) -> object:
        if self.error is not None:
            raise self.error
        config = generation.config
        self.started.append((generation.number, config.app, config.threads))
        self.workers.append(object())
        return self.workers[-1]

    def hear_starting(self) -> None:
        """Nothing comes."""

    def retire(self, worker: object, grace: float) -> None:
        self.retired.append((worker, grace))


def following(reread: Callable[[], Config]) -> Generations:
    """Generations of which the first is there."""
    return Generations(FIRST, Listeners([]), ConnectionCounts(), reread)


def changed(**options: object) -> Config:
    """What a configuration file says by now."""
    return Config(**{"app": "shop:app", "workers": 2, "threads": 4, **options})


def generation(config: Config) -> Generation:
    """One with these options."""
    return Generation(1, Assignment(config, Listeners([]), ConnectionCounts()))


def test_size_and_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are as many as are asked for, or as processors; no limit is None."""
    monkeypatch.setattr(module, "usable_cpus", lambda: 7)
    given = generation(Config(workers=3, graceful_timeout=5))
    assert (given.size, given.grace) == (3, 5)
    left = generation(Config(workers="auto", graceful_timeout="inf"))
    assert (left.size, left.grace) == (7, None)


def test_one_that_passes() -> None:
    """The generation of the worker on trial is the present one when that serves, not before."""
    generations, workers = (
        following(lambda: changed(app="new:app", threads=9, workers=3)),
        FakeGroup(),
    )
    generations.try_next(workers)
    assert workers.started == [(2, "new:app", 9)]
    assert generations.trying
    assert generations.present.config == FIRST
    (worker,) = workers.workers
    assert not generations.passed(object())
    assert generations.passed(worker)
    assert (generations.present.number, generations.present.size) == (2, 3)
    assert not generations.trying
    assert not generations.passed(worker)


def test_one_that_fails() -> None:
    """Nothing has changed, and the next one has a number of its own."""
    generations, workers = following(lambda: changed(threads=9)), FakeGroup()
    generations.try_next(workers)
    (worker,) = workers.workers
    assert not generations.failed(object())
    assert generations.failed(worker)
    assert not generations.trying
    assert not generations.failed(worker)
    assert generations.present.config == FIRST
    generations.try_next(workers)
    assert workers.started == [(2, "shop:app", 9), (3, "shop:app", 9)]


def test_a_trial_takes_the_place_of_another() -> None:
    """The worker that was on trial goes, and means nothing any more."""
    generations, workers = following(changed), FakeGroup()
    generations.try_next(workers)
    generations.try_next(workers)
    first, _ = workers.workers
    assert workers.retired == [(first, 0)]
    assert generations.trying
    assert not generations.failed(first)
    assert not generations.passed(first)


def test_what_takes_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    """Options of the supervising process stay as they are, and it is said."""
    generations = following(lambda: changed(backlog=5, threads=9))
    generations.renew()
    assert generations.present.config == changed(threads=9)
    assert caplog.messages == ["backlog has changed; restart the server for it to take effect"]


def no_configuration() -> Config:
    """There is a mistake in it."""
    raise ConfigError("thread: did you mean threads?")


@pytest.mark.parametrize(
    ("reread", "workers", "message"),
    [
        (no_configuration, FakeGroup(), "did you mean threads"),
        (lambda: changed(app=None), FakeGroup(), "no application is named any more"),
        (changed, FakeGroup(OSError("no more processes")), "no more processes"),
    ],
)
def test_none_to_try(reread: Callable[[], Config], workers: FakeGroup, message: str) -> None:
    """A configuration or a worker that is not to be had changes nothing."""
    generations = following(reread)
    with pytest.raises((ConfigError, OSError), match=message):
        generations.try_next(workers)
    assert not generations.trying
    assert generations.present.config == FIRST


def test_renewing(caplog: pytest.LogCaptureFixture) -> None:
    """In development the next is the present one at once, with the old options if it must."""
    good = [changed(threads=9)]
    generations = following(lambda: good.pop() if good else no_configuration())
    for number in (2, 3):
        generations.renew()
        assert generations.present.number == number
        assert generations.present.config.threads == 9
    assert caplog.messages == ["the old configuration stays: thread: did you mean threads?"]
