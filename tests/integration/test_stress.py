"""Disconnects at every moment: no response may reach another connection, no descriptor may leak.

A worker sends on a duplicate of its connection's descriptor. Were that closed under it, the number
could be another connection's by then, and so would be the response. Every response here carries
the token of its request.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import Client, no_descriptor_leaks

from aiowsgi import testing

pytestmark = pytest.mark.slow("soak")

CLIENTS = 6
CONNECTIONS = 60
"""By each client, one after the other: enough for numbers of descriptors to be used again often."""

WAYS = ("whole", "length", "chunks")


def tokens(environ, start_response):
    """Answers with the token in the path, as often and in the way that the path says."""
    token, count, way = environ["PATH_INFO"][1:].split("/")
    blocks = [token.encode() + b"."] * int(count)
    fields = [("X-Token", token)]
    if way == "length":
        fields.append(("Content-Length", str(sum(map(len, blocks)))))
    start_response("200 OK", fields)
    return [b"".join(blocks)] if way == "whole" else iter(blocks)


class Visitor:
    """One client: opens connections and leaves them in every way there is."""

    def __init__(self, port, number):
        self.port = port
        self.number = number
        self.rng = random.Random(number)
        self.seen = 0

    def visit(self):
        """Open and leave all connections; gives the number of responses that were checked."""
        for turn in range(CONNECTIONS):
            with Client(self.port, receive_buffer=self.rng.choice((None, 2048))) as client:
                try:
                    self.talk(client, f"{self.number}-{turn}")
                except ConnectionError:
                    continue
        return self.seen

    def talk(self, client, token):
        rng = self.rng
        asked = [
            (
                f"{token}-{n}",
                rng.choice((1, 3, 40, 4000)),
                rng.choice(("whole", "length", "chunks")),
            )
            for n in range(rng.randint(1, 4))
        ]
        # All at once: pipelined.
        client.send(
            b"".join(
                f"GET /{name}/{count}/{way} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                for name, count, way in asked
            )
        )
        for name, count, _ in asked[: rng.randint(0, len(asked))]:
            code, fields, body = client.read_response()
            assert (code, fields["x-token"]) == (200, name)
            assert body == (name.encode() + b".") * count
            self.seen += 1
        rng.choice((client.close, client.reset, client.finish))()


def test_no_response_reaches_another_connection(loop_name):
    """Hundreds of connections, pipelined, reset and closed at random: each gets its own."""
    options = {"loop": loop_name, "response_buffer": 1000}
    with testing.serve(tokens, **options):
        # The first loop of its kind opens what it keeps for good.
        pass
    with (
        no_descriptor_leaks(),
        testing.serve(tokens, **options) as server,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        visitors = [Visitor(server.port, number) for number in range(CLIENTS)]
        seen = sum(clients.map(Visitor.visit, visitors))
    assert seen > CLIENTS * CONNECTIONS
