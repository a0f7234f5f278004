"""Random clients and applications in simulated time, and what must hold after each event.

``TEST_SEEDS`` is the number of seeds, ``TEST_SEED`` the first one: to replay a failure, set both
(``TEST_SEED=123 TEST_SEEDS=1 python -m pytest tests/simulation``).
"""

from __future__ import annotations

import errno
import os
from random import Random
from types import SimpleNamespace

import pytest
from fake_kernel import context_for

from aiowsgi.connection.body_receiver import BodyPolicy
from aiowsgi.connection.connection import PIPELINE, Connection
from aiowsgi.connection.deadlines import Timeouts
from aiowsgi.connection.state import ConnectionState, ServerState
from aiowsgi.exchange.output import OutputState
from aiowsgi.exchange.output_buffer import OutputLimits
from aiowsgi.http1 import head_parser
from aiowsgi.threads.scheduler import RequestScheduler, SchedulerOptions
from aiowsgi.threads.wakeups import Wakeups
from simulation.traffic import (
    SERVER_ERRORS,
    Application,
    Client,
    Server,
    all_responses,
    random_plan,
)
from simulation.world import Simulation

SEEDS = int(os.environ.get("TEST_SEEDS", "500"))
FIRST_SEED = int(os.environ.get("TEST_SEED", "0"))
BATCHES = 10

TLS = SimpleNamespace(cipher=lambda: None, version=lambda: "TLSv1.3", getpeercert=lambda **_: None)

START = 1000.0
"""The virtual time at which a simulation begins."""

SLACK = 4.0
"""Seconds of virtual time that sending and reading take at most."""

READ_AT_ONCE = 256 * 1024
"""Bytes that a transport passes on in one call; they may come on top of every bound."""


class Scenario:
    """The simulation of one seed."""

    def __init__(self, seed, monkeypatch, folder):
        self.random = random = Random(seed)
        # In half of the seeds clients and system are well-behaved, and every request is answered.
        self.gentle = seed % 2 == 0
        self.sim = sim = Simulation(
            random, threads=random.choice((1, 2)), failures=self._failures()
        )
        sim.patch(monkeypatch)
        self.plans = {}
        app = Application(sim, self.plans, folder)
        self.finished = []
        self.state = self._make_state(app)
        server = Server(sim, lambda: Connection(self.state))
        self.clients = [
            self._make_client(number, server) for number in range(random.choice((1, 2, 3)))
        ]
        sim.sources += self.clients
        sim.check = self.check
        self.server = server

    def _failures(self):
        """Which system calls fail: slow ones in all seeds, errors in every other."""
        random = self.random
        kinds = [0, errno.EAGAIN]
        if not self.gentle:
            kinds += [errno.ECONNRESET, errno.EPIPE, errno.ENOBUFS]
        number = random.choice((0, 3, 20))
        return {random.randrange(200): random.choice(kinds) for _ in range(number)}

    def _make_state(self, app):
        sim, random = self.sim, self.random
        context, wakeups = context_for(app), Wakeups(sim.loop)
        context.finished = lambda record, response, environ: self.finished.append(record)
        timeout = 0.0 if self.gentle else random.choice((0.0, 3.0))
        context.request_timeout = timeout
        options = SchedulerOptions(
            queue_timeout=0.0 if self.gentle else random.choice((0.0, 5.0)), request_timeout=timeout
        )
        scheduler = RequestScheduler(sim.loop, context, sim.loop, wakeups, options)
        limits = random.choice((OutputLimits(), OutputLimits(1000, 10_000), OutputLimits(1000, 0)))
        bodies = BodyPolicy(random.choice(("auto", "on", "off")), threads=len(sim.workers))
        return ServerState(
            sim.loop,
            context,
            scheduler,
            wakeups,
            head_parser(random.choice(("h11", "auto"))),
            timeouts=Timeouts(header=10, body=30, write=20, keep_alive=75, linger=2),
            output_limits=limits,
            bodies=bodies,
        )

    def _make_client(self, number, server):
        random = self.random
        plans = []
        for index in range(random.choice((1, 1, 2, 4))):
            plan = random_plan(random, f"{number}-{index}", gentle=self.gentle)
            plans.append(plan)
            if plan.ends_connection:
                break
        self.plans |= {plan.name: plan for plan in plans}
        tls = TLS if random.random() < 0.25 else None
        return Client(self.sim, plans, gentle=self.gentle, tls=tls, server=server)

    # What must hold after each event

    def check(self):
        """Check the state of every connection."""
        running = sum(worker.task is not None for worker in self.sim.workers)
        assert running <= len(self.sim.workers)
        budget = self.state.bodies.budget
        assert budget.held >= 0, "the memory budget was given back twice"
        for connection, transport in self.server.connections:
            if transport.lost:
                assert connection.state is ConnectionState.CLOSED
                assert connection not in self.state.connections
            elif connection in self.state.connections:
                self._check_open(connection)

    def _check_open(self, connection):
        output, state = connection._output, connection.state
        if self.sim.current is None and state in (ConnectionState.IDLE, ConnectionState.HEAD):
            assert output.state in (OutputState.FREE, OutputState.BROKEN), output.state
            assert not output.pending
        if connection._body is None:
            assert connection._reader.buffered <= PIPELINE + READ_AT_ONCE

    # What must hold in the end

    def finish(self):
        """Check that everything was given back, and what the clients received."""
        sim, state = self.sim, self.state
        assert not state.connections, "a connection was not closed"
        assert all(transport.lost for _, transport in self.server.connections)
        assert not sim.loop.writers
        assert not sim.loop.tasks
        assert all(worker.task is None for worker in sim.workers), "a worker thread waits for ever"
        assert sim.kernel.open_descriptors == 0
        assert state.bodies.budget.held == 0
        assert state.bodies._streams == 0
        for plan in self.plans.values():
            assert plan.closes == plan.iterables, plan
        for client in self.clients:
            self._check_client(client)

    def _check_client(self, client):
        assert not client.gave_up, "the server has not ended the connection"
        if self.gentle:
            # What waits for a time limit of the server, because a wake-up was lost, is late. With
            # one thread, a client may wait for all the others.
            expected = sum(plan.sleeps for plan in self.plans.values())
            expected += sum(each.pauses for each in self.clients)
            assert client.closed_at - START <= expected + SLACK, "late"
        answers = all_responses(client)
        for plan, answer in zip(client.plans, answers, strict=False):
            if answer.name:
                self._check_answer(plan, answer)
            else:
                assert answer.status in SERVER_ERRORS, answer
                assert not self.gentle or plan.malformed, answer
                assert plan.malformed or answer.status != 400, answer
        if self.gentle:
            assert answers, "no request was answered"
            assert all(answer.complete for answer in answers)
            # A response before the end of its request's body closes the connection.
            closed = answers[-1].fields.get("connection") == "close"
            assert closed or len(answers) == len(client.plans), "a request was not answered"

    def _check_answer(self, plan, answer):
        assert answer.name == plan.name, "a client got the response to another request"
        assert answer.status == 200
        assert not plan.malformed
        content = b"" if plan.method == "HEAD" else plan.content
        assert content.startswith(answer.body)
        if answer.complete:
            assert answer.body == content
            assert not plan.fails or plan.method == "HEAD" or plan.has_length, answer


@pytest.mark.parametrize("batch", range(BATCHES))
def test_seeds(batch, monkeypatch, tmp_path, caplog):
    """Whatever clients and system do, every response is right or visibly incomplete."""
    caplog.set_level("CRITICAL", "aiowsgi")
    for seed in range(FIRST_SEED + batch, FIRST_SEED + SEEDS, BATCHES):
        with monkeypatch.context() as patch:
            try:
                scenario = Scenario(seed, patch, tmp_path)
                scenario.sim.run()
                scenario.finish()
            except BaseException as error:
                error.add_note(f"replay: TEST_SEED={seed} TEST_SEEDS=1")
                raise
