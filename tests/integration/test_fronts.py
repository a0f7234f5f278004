"""Behind nginx and HAProxy: nothing is smuggled, and nothing is lost by a reload.

*Smuggling.* They read requests in ways of their own. Malformed and mutated requests go through a
proxy to this server on kept connections. The proxy numbers the requests that it sees. Were the two
to disagree about where a request ends, on any of the connections, the application would see one
without a number, or one of them twice.

*Reloads.* The proxies of ``examples/`` keep connections to the workers that a reload sends away.

*TLS* may end at the proxy, which then says so before the first request.
"""

from __future__ import annotations

import random
import re
import signal
import ssl
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPSConnection

import pytest
import trustme
from load_client import load
from processes import ROOT, running
from sample_apps import workers, write_app
from support import PARSERS, PATIENCE, eventually, free_port
from tools import needs_tool, tool
from wire import ROWS, SECOND
from wire.client import Sending, converse
from wire.row import HIDDEN, post

from aiowsgi import testing

pytestmark = pytest.mark.slow("nginx", "haproxy", "processes")

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

STRICT = {"nginx": NGINX, "haproxy": HAPROXY}

FRONTS = {
    "nginx": ('exec "$0" -c "$1"', "start worker process "),
    "haproxy": ('exec "$0" -W -f "$1" > "$2/log"', "Loading success"),
}

BOTH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_tool(name)) for name in FRONTS]
)

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


@contextmanager
def front(name, configuration, directory, **values):
    """Run a proxy for a block; gives its port. Its log is in the directory."""
    script, started = FRONTS[name]
    port = free_port()
    file = directory / "configuration"
    file.write_text(configuration.format(port=port, tmp=directory, **values))
    command = ("sh", "-c", script, tool(name), str(file), str(directory))
    with running(*command) as program:
        program.expect(started)
        yield port
        program.stop()


@pytest.mark.parametrize("parser", PARSERS)
@BOTH
def test_the_proxy_and_the_application_count_alike(name, parser, tmp_path):
    """Every request that the application saw is one of the proxy's, and it saw each but once."""
    app = Numbered()
    with testing.serve(app, http=parser) as server:
        with front(name, STRICT[name], tmp_path, upstream=server.port) as port:
            sendings = [Sending([stream], (), 99) for stream in streams()]
            came = converse(("127.0.0.1", port), sendings, QUIET)
        eventually(lambda: not server._server._state.connections)
    log = re.findall(r"^(\S+) (.*)$", (tmp_path / "log").read_text(), re.MULTILINE)
    answered = [number for number, status in log if status == "200"]
    gone = {number for number, status in log if status in GONE}
    assert Counter(number for number in app.seen if number not in gone) == Counter(answered)
    assert len(set(app.seen)) == len(app.seen)
    # That it was worth the while: much got through, much did not, and connections were kept.
    assert len(app.seen) > 300
    assert sum(answer.status == 400 for each in came for answer in each.answers) > 300
    assert len(app.connections) < len(app.seen) / 2


# Reloads

EXAMPLES = {
    "nginx": (
        "nginx/nginx.conf",
        {
            "listen 8080": "listen 127.0.0.1:{port}",
            "127.0.0.1:8000": "127.0.0.1:{upstream}",
            "/tmp/aiowsgi-nginx": "{tmp}/nginx",
            "worker_processes auto": "daemon off; worker_processes 1",
            "error_log stderr": "error_log stderr notice",
            "access_log off": "log_format tries '$upstream_status'; access_log {tmp}/log tries",
        },
        ["--proxy-headers"],
    ),
    "haproxy": (
        "haproxy/haproxy.cfg",
        {
            "bind :8080": "bind 127.0.0.1:{port}",
            "127.0.0.1:8000": "127.0.0.1:{upstream}",
            "port 9000": "port {admin}",
        },
        ["--proxy-protocol"],
    ),
}

RELOADS = 5


def example(name):
    """What an example says, made a template, and the options that it asks for."""
    path, changes, options = EXAMPLES[name]
    text = (ROOT / "examples" / path).read_text().replace("{", "{{").replace("}", "}}")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text, options


@pytest.mark.parametrize("count", ["1", "2"])
@BOTH
def test_reloads_behind_a_proxy(name, count, tmp_path):
    """Reloads in a row fail no request of a steady load through the proxy's kept connections."""
    write_app(tmp_path)
    text, options = example(name)
    admin = free_port()
    arguments = ("-w", count, "--admin", f"127.0.0.1:{admin}", *options)
    with (
        workers(tmp_path, *arguments) as (program, (_, upstream)),
        front(name, text, tmp_path, upstream=upstream, admin=admin) as port,
        load(("127.0.0.1", port)) as running_load,
    ):
        for number in range(RELOADS):
            running_load.wait_for(50)
            write_app(tmp_path, version=f" of {number}")
            program.process.send_signal(signal.SIGHUP)
            program.expect("reloaded$")
        running_load.wait_for(50)
        running_load.stop()
        assert running_load.counts.keys() == {"answered"}, str(running_load)
        assert any(body.endswith(b" of 4") for body in running_load.bodies)


# TLS

TERMINATING = """
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend clients
    bind 127.0.0.1:{port} {tls}
    default_backend application
backend application
    server only 127.0.0.1:{upstream} send-proxy-v2-ssl proxy-v2-options ssl,crc32c
"""


def scheme(environ, start_response):
    """Tell how the client asks."""
    start_response("200 OK", [])
    return [environ["wsgi.url_scheme"].encode()]


@pytest.mark.parametrize("connect", [HTTPConnection, HTTPSConnection])
@needs_tool("haproxy")
def test_tls_that_ends_at_the_proxy(connect, tmp_path):
    """The PROXY header tells, under a checksum, whether the client speaks TLS."""
    authority = trustme.CA()
    pem = tmp_path / "pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    tls, options = "", {}
    if connect is HTTPSConnection:
        tls, options = f"ssl crt {pem}", {"context": ssl.create_default_context()}
        authority.configure_trust(options["context"])
    with (
        testing.serve(scheme, proxy_protocol=True) as server,
        front("haproxy", TERMINATING, tmp_path, upstream=server.port, tls=tls) as port,
    ):
        client = connect("127.0.0.1", port, timeout=PATIENCE, **options)
        client.request("GET", "/")
        assert client.getresponse().read() == ("https" if tls else "http").encode()
        client.close()
