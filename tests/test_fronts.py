"""Behind nginx and HAProxy, which read requests in ways of their own: nothing is smuggled.

Malformed and mutated requests go through a proxy to this server on kept connections. The proxy
numbers the requests that it sees. Were the two to disagree about where a request ends, on any of
the connections, the application would see one without a number, or one of them twice.
"""

from __future__ import annotations

import random
import re
import socket
from collections import Counter
from contextlib import contextmanager

import pytest
from processes import running
from support import PARSERS, eventually
from tools import needs_tool, tool
from wire import ROWS, SECOND
from wire.client import Sending, converse
from wire.row import HIDDEN, post

from aiowsgi import testing

QUIET = 0.15
"""Seconds after which a proxy is taken to have no more to say. It is none that must be right: what
comes later is counted on both sides too."""

NGINX = """
daemon off;
worker_processes 1;
pid {tmp}/pid;
error_log stderr notice;
events {{}}
http {{
    log_format numbered '$request_id $upstream_status';
    access_log {tmp}/log numbered;
    client_body_temp_path {tmp}/body;
    proxy_temp_path {tmp}/proxy;
    fastcgi_temp_path {tmp}/fastcgi;
    uwsgi_temp_path {tmp}/uwsgi;
    scgi_temp_path {tmp}/scgi;
    underscores_in_headers on;
    ignore_invalid_headers off;
    upstream application {{
        server 127.0.0.1:{upstream};
        keepalive 4;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_next_upstream off;
            proxy_ignore_client_abort on;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Number $request_id;
        }}
    }}
}}
"""

# It takes what others refuse as far as it can be told to.
HAPROXY = """
global
    log stdout format raw local0
defaults
    mode http
    log global
    log-format "%ID %ST"
    option http-keep-alive
    option accept-invalid-http-request
    option http-no-delay
    retries 0
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend clients
    bind 127.0.0.1:{port}
    unique-id-format %[uuid()]
    http-request set-header X-Number %[unique-id]
    default_backend application
backend application
    http-reuse always
    server only 127.0.0.1:{upstream}
"""

FRONTS = {
    "nginx": (NGINX, 'exec "$0" -c "$1"', "start worker process "),
    "haproxy": (HAPROXY, 'exec "$0" -W -f "$1" > "$2/log"', "Loading success"),
}

GONE = {"-1", "499"}
"""Logged in place of a status where the client did not wait for it, as may be on a busy machine."""


class Numbered:
    """Notes the numbers of the requests that it sees, and who sent them."""

    def __init__(self):
        self.seen = []
        self.connections = set()

    def __call__(self, environ, start_response):
        self.seen.append(environ.get("HTTP_X_NUMBER", environ["REQUEST_URI"]))
        self.connections.add(environ["REMOTE_PORT"])
        environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", "0")])
        return []


def mutated(rng, stream):
    """The stream with a few bytes taken out, put in or replaced."""
    for _ in range(rng.randrange(1, 4)):
        at, width = rng.randrange(len(stream) + 1), rng.randrange(3)
        inserted = rng.choice(
            [b"", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b";", b"\0", b"0"]
        )
        stream = stream[:at] + inserted + stream[at + width :]
    return stream


def streams():
    """Rows of the wire table, mutations of some, and framing fields mutated with care."""
    rng = random.Random(20)
    short = [row.sent + SECOND for row in ROWS if len(row.sent) < 600]
    framed = [stream for stream in short if b"ransfer-" in stream or b"ontent-" in stream]
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    marks = [bytes([c]) for c in range(256)]
    values = [mark + b"chunked" for mark in marks] + [b"chunked" + mark for mark in marks]
    lines = [b"Transfer-Encoding:" + value for value in rng.sample(values, 150)]
    length = b"Content-Length: %d" % len(chunk)
    return [
        *rng.sample(short, 400),
        *[mutated(rng, rng.choice(framed)) for _ in range(600)],
        *[post(line, length, body=chunk) + SECOND for line in lines],
        *[post(line, body=chunk) + SECOND for line in lines],
    ]


def free_port():
    """A port that nothing listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def front(name, upstream, directory):
    """Run a proxy for a block; gives its port. Its log is in the directory."""
    configuration, script, started = FRONTS[name]
    port = free_port()
    file = directory / "configuration"
    file.write_text(configuration.format(port=port, upstream=upstream, tmp=directory))
    command = ("sh", "-c", script, tool(name), str(file), str(directory))
    with running(*command) as program:
        program.expect(started)
        yield port
        program.stop()


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_tool(name)) for name in FRONTS])
def test_the_proxy_and_the_application_count_alike(name, parser, tmp_path):
    """Every request that the application saw is one of the proxy's, and it saw each but once."""
    app = Numbered()
    with testing.serve(app, http=parser) as server:
        with front(name, server.port, tmp_path) as port:
            sendings = [Sending([stream], (), 99) for stream in streams()]
            came = converse(("127.0.0.1", port), sendings, QUIET)
        eventually(lambda: not server._server._hub.connections)
    log = re.findall(r"^(\S+) (.*)$", (tmp_path / "log").read_text(), re.MULTILINE)
    answered = [number for number, status in log if status == "200"]
    gone = {number for number, status in log if status in GONE}
    assert Counter(number for number in app.seen if number not in gone) == Counter(answered)
    assert len(set(app.seen)) == len(app.seen)
    # That it was worth the while: much got through, much did not, and connections were kept.
    assert len(app.seen) > 300
    assert sum(answer.status == 400 for each in came for answer in each.answers) > 300
    assert len(app.connections) < len(app.seen) / 2
