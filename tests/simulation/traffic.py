"""Random clients and a random application, and what a client must have received in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from simulation.world import Endpoint, Transport

SIZES = (0, 1, 10, 1000, 20_000, 40_000, 150_000)
SERVER_ERRORS = (400, 408, 500, 503, 504)
"""Statuses of the server's own answers in these simulations."""


@dataclass
class Plan:
    """One request, and what the application does with it."""

    name: str
    method: str
    version: str
    close: bool
    body: bytes
    chunked: bool
    expects: bool
    # How the application answers: list, blocks, write, file.
    style: str
    blocks: list[bytes]
    has_length: bool
    hints: bool
    # Bytes of the body that the application reads; -1 for all.
    read: int
    # Seconds that the application sleeps before it answers, and between blocks.
    sleep: float
    block_sleep: float
    # Number of blocks after which it raises; -1 for never.
    raises_after: int
    # The client sends a malformed request instead, and much more after it.
    malformed: bool = False
    # What was counted: calls of the application, iterables that it returned, calls of close().
    calls: int = 0
    iterables: int = 0
    closes: int = 0

    @property
    def content(self):
        """The body of the complete response."""
        return b"".join(self.blocks)

    @property
    def sleeps(self):
        """Seconds that the application sleeps in all."""
        return self.sleep + len(self.blocks) * self.block_sleep

    @property
    def fails(self):
        """Whether the application does not complete its response."""
        return self.raises_after >= 0

    @property
    def ends_connection(self):
        """Whether the client asks to close the connection after this response."""
        return self.close or self.version == "1.0" or self.malformed

    def head(self):
        """The request's head."""
        if self.malformed:
            return b"GET / HTTP/1.1\r\n\r\n" + bytes(100_000)
        lines = [f"{self.method} /{self.name} HTTP/{self.version}", "Host: x"]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.expects:
            lines.append("Expect: 100-continue")
        if self.close and self.version == "1.1":
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()

    def encoded_body(self, random):
        """The request's body as it is sent."""
        if self.malformed:
            return b""
        if not self.chunked:
            return self.body
        cuts = sorted(random.randrange(len(self.body) + 1) for _ in range(random.randrange(4)))
        pieces = [self.body[a:b] for a, b in zip([0, *cuts], [*cuts, len(self.body)], strict=True)]
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece]
        return b"".join([*chunks, b"0\r\n\r\n"])


def random_plan(random, name, *, gentle):
    """A request with the given name; with ``gentle``, one that the application answers in time."""
    method = random.choice(("GET", "POST", "POST", "HEAD"))
    version = random.choice(("1.1", "1.1", "1.0"))
    body = b""
    if method == "POST":
        body = (f"<{name}>" * 100_000)[: random.choice(SIZES)].encode()
    blocks = [
        (f"{name}.{i}." * 100_000)[: random.choice(SIZES)].encode()
        for i in range(random.choice((0, 1, 1, 2, 5)))
    ]
    chunked = bool(body) and version == "1.1" and random.random() < 0.4
    return Plan(
        name=name,
        method=method,
        version=version,
        close=random.random() < 0.15,
        body=body,
        chunked=chunked,
        expects=bool(body) and version == "1.1" and random.random() < 0.3,
        style=random.choice(("list", "blocks", "blocks", "write", "file")),
        blocks=blocks,
        has_length=random.random() < 0.4,
        hints=random.random() < 0.1,
        read=random.choice((-1, -1, 0, 5)),
        sleep=random.choice((0, 0, 0.01, 1)) if gentle else random.choice((0, 0, 1, 20)),
        block_sleep=random.choice((0, 0, 0.01)) if gentle else random.choice((0, 0, 5)),
        malformed=random.random() < 0.08,
        raises_after=-1 if gentle or random.random() < 0.6 else random.choice((0, 2, 3)),
    )


class Application:
    """A WSGI application that does what the plan of each request says."""

    def __init__(self, sim, plans, folder):
        self._sim = sim
        self._plans = plans
        self._folder = folder

    def __call__(self, environ, start_response):
        plan = self._plans[environ["PATH_INFO"][1:]]
        assert plan.calls == 0, "a request was given to the application twice"
        plan.calls += 1
        if plan.read:
            body = environ["wsgi.input"].read(plan.read)
            expected = plan.body if plan.read < 0 else plan.body[: plan.read]
            assert body == expected, "the application read another body"
        self._sim.sleep(plan.sleep)
        if plan.hints:
            environ["wsgi.early_hints"]([("Link", "</style>")])
        fields = [("X-Name", plan.name)]
        if plan.has_length:
            fields.append(("Content-Length", str(len(plan.content))))
        if plan.raises_after == 0:
            raise ValueError("planned")
        write = start_response("200 OK", fields)
        if plan.style == "list" and not plan.fails:
            return list(plan.blocks)
        if plan.style == "file" and not plan.fails:
            path = self._folder / plan.name
            path.write_bytes(plan.content)
            return CountedFile(path, plan, environ["wsgi.file_wrapper"]).wrapped
        if plan.style == "write" and plan.blocks:
            write(plan.blocks[0])
            return Blocks(self._sim, plan, 1)
        return Blocks(self._sim, plan, 0)


class CountedFile:
    """A file for ``wsgi.file_wrapper`` that counts how often the wrapper is closed."""

    def __init__(self, path, plan, wrapper):
        file = path.open("rb")
        plan.iterables += 1
        self.wrapped = wrapper(file)

        def close():
            plan.closes += 1
            file.close()

        self.wrapped.close = close


class Blocks:
    """The iterable of a response; it counts how often it is closed."""

    def __init__(self, sim, plan, begin):
        self._sim = sim
        self._plan = plan
        self._begin = begin
        plan.iterables += 1

    def __iter__(self):
        plan = self._plan
        for number, block in enumerate(plan.blocks[self._begin :], self._begin):
            if number + 1 == plan.raises_after:
                raise ValueError("planned")
            yield block
            self._sim.sleep(plan.block_sleep)
        if plan.fails:
            raise ValueError("planned")

    def close(self):
        self._plan.closes += 1


class Client:
    """A client that sends requests in pieces, and reads at its own pace.

    A gentle one sends and reads without long pauses, and closes when it has all its responses.
    """

    def __init__(self, sim, plans, *, gentle, tls, server):
        random = sim.random
        self._sim = sim
        self.plans = plans
        self.gentle = gentle
        self.endpoint = Endpoint(random.choice((500, 5000, 64 * 1024, 512 * 1024)))
        self.received = bytearray()
        # The client saw the end of the stream, or a reset.
        self.saw_end = self.saw_reset = False
        self._actions = self._script(random)
        self._read_at = sim.now
        self._read_size = random.choice((1000, 100_000) if gentle else (100, 5000, 100_000))
        self._read_pause = random.choice((0, 0.001, 0.05) if gentle else (0, 0.01, 1))
        # Bytes after which a client that is not gentle reads no more.
        self._stalls_at = inf if gentle or random.random() < 0.8 else random.randrange(50_000)
        # Long after the last time limit of the server.
        self._gives_up_at = sim.now + 2000
        self.gave_up = False
        self.closed_at = inf
        # Seconds that the client itself takes to send and to read.
        size = sum(len(plan.content) + 1000 for plan in plans)
        reads = size / min(self._read_size, self.endpoint.capacity) + len(plans)
        self.pauses = sum(pause for pause, _ in self._actions) + reads * (self._read_pause + 0.001)
        self.transport = None
        # How much of the received bytes was parsed; whether they are all responses.
        self._parsed = 0
        self._has_all = False
        self._tls = tls
        self.is_tls = tls is not None
        self._server = server

    def _script(self, random):
        """The actions of the sending side, with the pause before each, the last one first."""
        actions = [(random.random() * 0.01, self._connect)]
        stream = [part for plan in self.plans for part in (plan.head(), plan.encoded_body(random))]
        data = b"".join(stream)
        pieces = random.choice((1, 1, 2, 5))
        cuts = sorted(random.randrange(len(data) + 1) for _ in range(pieces - 1))
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            pause = random.choice((0, 0.001, 0.5) if self.gentle else (0, 0.001, 1, 5, 40))
            actions.append((pause, lambda piece=data[begin:end]: self.endpoint.receive(piece)))
        if not self.gentle:
            last = random.choice((None, None, self._half_close, self._close, self._reset))
            if last is not None:
                actions = actions[: random.randrange(1, len(actions) + 1)]
                actions.append((random.random() * 2, last))
        return [(pause, action) for pause, action in reversed(actions)]

    # What it can do

    def events(self):
        if self._actions and self._next_action() <= self._sim.now:
            yield self._act
        if self._can_read() and self._read_at <= self._sim.now:
            yield self._read
        if not self.endpoint.client_closed and self._is_done() and not self._actions:
            yield self._close

    def next_time(self):
        times = [self._next_action()] if self._actions else [self._gives_up_at]
        if self._can_read():
            times.append(self._read_at)
        return inf if self.endpoint.client_closed else min(times)

    def _next_action(self):
        return self._last_action + self._actions[-1][0]

    _last_action = 1000.0

    def _act(self):
        _, action = self._actions.pop()
        self._last_action = self._sim.now
        if not self.endpoint.client_closed:
            action()

    def _connect(self):
        self.transport = self._server.accept(self.endpoint, self._tls)

    def _can_read(self):
        endpoint = self.endpoint
        if endpoint.client_closed or self.saw_end or self.saw_reset:
            return False
        if endpoint.reset_sent:
            return True
        readable = endpoint.outbound or endpoint.server_ended
        return bool(readable) and len(self.received) < self._stalls_at

    def _read(self):
        endpoint = self.endpoint
        self._read_at = self._sim.now + self._read_pause
        if endpoint.reset_sent:
            self.saw_reset = True
        elif endpoint.outbound:
            self.received += endpoint.outbound[: self._read_size]
            del endpoint.outbound[: self._read_size]
        else:
            self.saw_end = True

    def _is_done(self):
        if self.saw_end or self.saw_reset:
            return True
        if self._sim.now >= self._gives_up_at:
            self.gave_up = not self.endpoint.server_closed
            return True
        if len(self.received) > self._parsed:
            self._parsed = len(self.received)
            self._has_all = len(read_responses(self)) == len(self.plans)
        return self.gentle and self._has_all

    def _half_close(self):
        self.endpoint.client_ended = True

    def _close(self):
        self.closed_at = self._sim.now
        self.endpoint.client_ended = self.endpoint.client_closed = True
        self.endpoint.outbound.clear()
        self._actions.clear()

    def _reset(self):
        self.endpoint.reset_received = True
        self._close()


@dataclass
class Answer:
    """A response as the client has received it."""

    status: int
    name: str
    body: bytes
    complete: bool
    fields: dict[str, str] = field(default_factory=dict)


def read_responses(client):
    """Parse what the client received: the complete responses, in order.

    Raises AssertionError for bytes that no server may send.
    """
    answers = all_responses(client)
    return [answer for answer in answers if answer.complete]


def all_responses(client):
    """Parse what the client received; the last response may be incomplete."""
    data, answers = bytes(client.received), []
    for plan in client.plans:
        answer = None
        while data and (answer is None or answer.status < 200):
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end:
                return answers
            answer = _parse_head(head.decode("latin-1"))
            data = rest
        if answer is None or answer.status < 200:
            return answers
        data = _read_body(client, plan, answer, data)
        answers.append(answer)
        if not answer.complete:
            return answers
    assert not data, f"bytes follow the last response: {data[:50]!r}"
    return answers


def _parse_head(text):
    line, *lines = text.split("\r\n")
    version, status, _reason = line.split(" ", 2)
    assert version == "HTTP/1.1", line
    fields = {}
    for each in lines:
        name, colon, value = each.partition(": ")
        assert colon, each
        assert name.lower() not in fields, each
        fields[name.lower()] = value
    return Answer(int(status), fields.get("x-name", ""), b"", complete=False, fields=fields)


def _read_body(client, plan, answer, data):
    """Read the body of an answer; returns the rest of the data."""
    if plan.method == "HEAD" or answer.status in (204, 304):
        answer.complete = True
        if not data.startswith(b"%d " % answer.status):
            return data
        # The server has refused the request before it knew the method.
    if "content-length" in answer.fields:
        size = int(answer.fields["content-length"])
        answer.body, rest = data[:size], data[size:]
        answer.complete = len(answer.body) == size
        return rest
    if answer.fields.get("transfer-encoding") == "chunked":
        return _read_chunks(answer, data)
    # Only the end of the connection ends the body; after a reset it is visibly incomplete.
    assert answer.fields.get("connection") == "close"
    answer.body = data
    answer.complete = client.saw_end
    return b""


def _read_chunks(answer, data):
    parts = []
    while True:
        line, end, rest = data.partition(b"\r\n")
        if not end:
            break
        size = int(line, 16)
        if len(rest) < size + 2:
            parts.append(rest[:size])
            break
        parts.append(rest[:size])
        assert rest[size : size + 2] == b"\r\n"
        data = rest[size + 2 :]
        if size == 0:
            answer.complete = True
            answer.body = b"".join(parts)
            return data
    answer.body = b"".join(parts)
    return b""


class Server:
    """Accepts the clients of a simulation."""

    def __init__(self, sim, make_connection):
        self._sim = sim
        self._make_connection = make_connection
        self.connections = []

    def accept(self, endpoint, tls):
        """Accept a connection, as the event loop does."""
        connection = self._make_connection()
        transport = Transport(self._sim, self._sim.kernel.open(endpoint), connection, tls=tls)
        self._sim.sources.append(transport)
        self.connections.append((connection, transport))
        self._sim.loop.call_soon(transport.connect)
        return transport
