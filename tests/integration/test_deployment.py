"""The files of ``examples/`` for containers, Kubernetes, systemd, nginx and HAProxy.

Each is read by the program it is for, or by that program's schema; what it says to aiowsgi is
read by aiowsgi; and what can be run here is run.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from signal import SIGTERM
from wsgiref.util import request_uri

import kubernetes_validate
import pytest
import requests
import yaml
from processes import LISTENING, ROOT, running, serving
from support import PATIENCE, free_port
from tools import needs_tool, tool

from aiowsgi import testing
from aiowsgi.cli.main import main
from aiowsgi.config.sources import Sources

EXAMPLES = ROOT / "examples"
KUBERNETES = "1.31"


def configured(variables):
    """The configuration that these environment variables make; ConfigError if they make none."""
    return Sources({}, variables, str(EXAMPLES), None).load().config


def command_line(words):
    """The configuration that a command line makes."""
    configurations = []

    def run(_, config, *more):
        configurations.append(config)
        return 0

    assert main(words, run=run) == 0
    return configurations[0]


def seconds(text):
    """A time as YAML files have it: 30 or 30s."""
    return int(str(text).removesuffix("s"))


def fetch(url, **options):
    """The answer to GET on a connection of its own."""
    return requests.get(url, timeout=PATIENCE, proxies={"http": ""}, **options)


# Containers

DOCKERFILE = (EXAMPLES / "container" / "Dockerfile").read_text()
VARIABLES = dict(re.findall(r"^ENV (\w+)=(.*)$", DOCKERFILE, re.MULTILINE))


def exec_form(word):
    """The words of the last ENTRYPOINT or CMD, which are a JSON list: no shell takes part."""
    return json.loads(re.findall(rf"^{word} (.*)$", DOCKERFILE, re.MULTILINE)[-1])


def test_container_variables():
    """The image listens on all interfaces, on another port when the platform says so."""
    assert configured(VARIABLES).bind == ("0.0.0.0:8000",)
    assert configured(VARIABLES | {"PORT": "80"}).bind == ("0.0.0.0:80",)
    assert configured(VARIABLES | {"WEB_CONCURRENCY": "3"}).workers == 3


NON_ROOT = ["--reuid", "10001", "--regid", "10001", "--clear-groups", "--no-new-privs"]

# Only so that the test can read the checkout and the interpreter, wherever they are.
READ_ANYTHING = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]

READ_ONLY = 'mount -o remount,bind,ro / && exec "$@"'


@needs_tool("unshare", "setpriv")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a container")
@pytest.mark.slow("processes")
def test_container_entry_point():
    """As process 1, not root, on a read-only root, the entry point serves and obeys TERM."""
    port = free_port()
    variables = VARIABLES | {"PORT": str(port), "WEB_CONCURRENCY": "1", "PATH": os.environ["PATH"]}
    variables |= {"AIOWSGI_APP_DIR": str(EXAMPLES), "AIOWSGI_ADMIN": ""}
    (script,) = exec_form("ENTRYPOINT")
    container = [tool("unshare"), "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    user = [tool("setpriv"), *NON_ROOT, *READ_ANYTHING]
    entry = [sys.executable, "-m", script, *exec_form("CMD")]
    command = [*container, "sh", "-c", READ_ONLY, "sh", *user, *entry]
    with running(*command, **variables) as program:
        assert program.expect(LISTENING)[1] == f"http://0.0.0.0:{port}"
        assert fetch(f"http://127.0.0.1:{port}").text == "Hello, world!\n"
        (server,) = children(program.process.pid)
        assert status(server, "NSpid").split()[-1] == "1"
        assert set(status(server, "Uid").split()) == {"10001"}
        os.kill(server, SIGTERM)
        assert program.process.wait(PATIENCE) == 0


def children(pid):
    """The process ids of a process's children."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def status(pid, name):
    """A line of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:
        return next(line for line in file if line.startswith(f"{name}:")).partition(":")[2]


def test_compose():
    """The compose file's variables are options, and its grace is longer than the server's."""
    (service,) = yaml.safe_load((EXAMPLES / "container/compose.yaml").read_text())[
        "services"
    ].values()
    config = configured(VARIABLES | service["environment"])
    assert seconds(service["stop_grace_period"]) > config.shutdown_delay + config.graceful_timeout
    assert service["read_only"] is True
    assert f"http://{config.admin}/readyz" in service["healthcheck"]["test"][-1]
    assert (EXAMPLES / "container" / service["build"]["context"]).samefile(ROOT)
    assert (ROOT / service["build"]["dockerfile"]).exists()


@pytest.mark.slow("processes")
def test_compose_health_check():
    """The health check's program says that a server is well, and that none is there."""
    service = yaml.safe_load((EXAMPLES / "container/compose.yaml").read_text())["services"]["web"]
    words = service["healthcheck"]["test"][1:]
    port = free_port()
    check = [word.replace(":9000", f":{port}") for word in words]
    assert check != words
    check[0] = sys.executable
    with serving("--admin", f"127.0.0.1:{port}", "--app-dir", "examples", "hello:app"):
        subprocess.run(check, check=True, timeout=PATIENCE)
    assert subprocess.run(check, check=False, capture_output=True, timeout=PATIENCE).returncode


# Kubernetes

MANIFESTS = {
    manifest["kind"]: manifest
    for path in sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_kubernetes_schema(kind):
    """Each manifest is one that Kubernetes takes, without a field that it does not know."""
    manifest = MANIFESTS[kind]
    assert kubernetes_validate.validate(manifest, KUBERNETES, strict=True) == KUBERNETES
    with pytest.raises(kubernetes_validate.ValidationError, match="unknown-to-it"):
        kubernetes_validate.validate(manifest | {"unknown-to-it": 1}, KUBERNETES, strict=True)


def test_kubernetes_pod():
    """The variables are options, the times fit, the probes go to the admin port, nobody is root."""
    pod = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = configured({item["name"]: item["value"] for item in container["env"]})
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config.bind == (f"0.0.0.0:{ports['http']}",)
    assert config.admin == f"0.0.0.0:{ports['admin']}"
    assert config.admin_token_file.startswith(container["volumeMounts"][1]["mountPath"])
    grace = pod["terminationGracePeriodSeconds"]
    assert config.shutdown_delay + config.graceful_timeout < grace
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[name]["httpGet"]["port"] == "admin"
    assert "lifecycle" not in container
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.slow("processes")
def test_kubernetes_probes(tmp_path):
    """With the pod's variables the probes are answered; they have no token to show."""
    (container,) = MANIFESTS["Deployment"]["spec"]["template"]["spec"]["containers"]
    token = tmp_path / "token"
    token.write_text("a-secret-of-the-cluster")
    admin = free_port()
    variables = {item["name"]: item["value"] for item in container["env"]} | {
        "AIOWSGI_ADMIN": f"0.0.0.0:{admin}",
        "AIOWSGI_ADMIN_TOKEN_FILE": str(token),
        "AIOWSGI_SHUTDOWN_DELAY": "0",
        "AIOWSGI_APP_DIR": str(EXAMPLES),
        # The test chooses the port by --bind.
        "PORT": "",
    }
    with serving(*container["args"], **variables) as (program, _):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = container[probe]["httpGet"]["path"]
            assert fetch(f"http://127.0.0.1:{admin}{path}").status_code == 200
        assert program.stop() == 0


def test_kubernetes_names():
    """The manifests speak of the same pods."""
    deployment = MANIFESTS["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == MANIFESTS["Deployment"]["metadata"]["name"]


# systemd

SERVICE = (EXAMPLES / "systemd" / "hello.service").read_text()


def test_systemd_command():
    """The service's command line is valid, and systemd waits longer than the server does."""
    (words,) = re.findall(r"^ExecStart=(.*)$", SERVICE, re.MULTILINE)
    config = command_line(shlex.split(words)[1:])
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", SERVICE, re.MULTILINE)
    assert int(stop) > config.graceful_timeout


@needs_tool("systemd-analyze")
@pytest.mark.slow("processes")
def test_systemd_units(tmp_path):
    """systemd finds nothing wrong with the units."""
    units = []
    for path in (EXAMPLES / "systemd").iterdir():
        unit = tmp_path / path.name
        # The program must exist, and be executable.
        unit.write_text(re.sub(r"/srv/hello/venv/bin/aiowsgi", sys.executable, path.read_text()))
        units.append(str(unit))
    verify = [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", *units]
    assert subprocess.run(verify, check=True, capture_output=True, timeout=PATIENCE).stderr == b""


@needs_tool("systemd-socket-activate")
@pytest.mark.slow("processes")
def test_systemd_socket():
    """The server takes the socket that systemd has opened, and connections that came before it."""
    port = free_port()
    activate = (tool("systemd-socket-activate"), "--listen", f"127.0.0.1:{port}")
    server = (sys.executable, "-m", "aiowsgi", "--app-dir", "examples", "hello:app")
    with running(*activate, *server) as program:
        program.expect("Listening on")
        # The first connection is what starts the server.
        assert fetch(f"http://127.0.0.1:{port}").text == "Hello, world!\n"
        assert program.expect(LISTENING)[1] == f"http://127.0.0.1:{port}"
        assert program.stop() == 0


# Reverse proxies


def mirror(environ, start_response):
    """Tell who asks for what, or give back what was sent."""
    start_response("200 OK", [])
    if environ["REQUEST_METHOD"] == "POST":
        return [environ["wsgi.input"].read()]
    return [f"{environ['REMOTE_ADDR']} asks for {request_uri(environ)}".encode()]


@pytest.fixture
def proxied(tmp_path):
    """Run an example behind which `mirror` is; gives the proxy's URL and aiowsgi's server."""
    with ExitStack() as stack:

        def start(command, example, started, changes, **options):
            server = stack.enter_context(testing.serve(mirror, **options))
            port = free_port()
            text = (EXAMPLES / example).read_text()
            changes = changes | {"127.0.0.1:8000": f"127.0.0.1:{server.port}"}
            for old, new in changes.items():
                assert old in text
                text = text.replace(old, new.format(port=port, tmp=tmp_path))
            configuration = tmp_path / "configuration"
            configuration.write_text(text)
            program = stack.enter_context(running(*command, str(configuration)))
            stack.callback(program.stop)
            program.expect(started)
            return f"http://127.0.0.1:{port}", server

        yield start


NGINX = {
    "listen 8080": "listen 127.0.0.1:{port}",
    "/tmp/aiowsgi-nginx": "{tmp}/nginx",
    "worker_processes auto": "daemon off; worker_processes 1",
    # It then tells when it is ready.
    "error_log stderr": "error_log stderr notice",
}

HAPROXY = {
    "bind :8080": "bind 127.0.0.1:{port}",
    # The admin endpoint belongs to a process of its own.
    "option httpchk GET /readyz": "",
    "check port 9000 inter 2s fall 2": "",
}

BOTH = pytest.mark.parametrize(
    ("command", "example", "started", "changes", "options"),
    [
        pytest.param(
            [tool("nginx"), "-c"],
            "nginx/nginx.conf",
            "start worker process ",
            NGINX,
            {"proxy_headers": True},
            marks=needs_tool("nginx"),
            id="nginx",
        ),
        pytest.param(
            [tool("haproxy"), "-W", "-f"],
            "haproxy/haproxy.cfg",
            "Loading success",
            HAPROXY,
            {"proxy_protocol": True},
            marks=needs_tool("haproxy"),
            id="haproxy",
        ),
    ],
)

LIES = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=203.0.113.9;host=evil.example",
}


@BOTH
@pytest.mark.slow("nginx", "haproxy")
def test_proxy(proxied, command, example, started, changes, options):
    """Behind the proxy the application sees its client, and no lie of the client's is believed."""
    site, _ = proxied(command, example, started, changes, **options)
    for address in ("127.0.0.1", "127.0.0.2"):
        with requests.Session() as session:
            session.mount("http://", FromAddress(address))
            answer = session.get(f"{site}/a%20b?c", headers=LIES, timeout=PATIENCE).text
            assert answer == f"{address} asks for {site}/a%20b?c"


@BOTH
@pytest.mark.slow("nginx", "haproxy")
def test_proxy_keeps_connections(proxied, command, example, started, changes, options):
    """Requests of a client that keeps its connection go to aiowsgi on one connection."""
    site, server = proxied(command, example, started, changes, **options)
    body = os.urandom(3_000_000)
    connections = set()
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(5):
            assert session.post(site, body, timeout=PATIENCE).content == body
            connections |= server._server._state.connections
    assert len(connections) == 1


class FromAddress(requests.adapters.HTTPAdapter):
    """A transport whose connections come from one of this machine's addresses."""

    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments, **options):
        """Have sockets bound to the address."""
        super().init_poolmanager(*arguments, **options, source_address=(self.address, 0))
