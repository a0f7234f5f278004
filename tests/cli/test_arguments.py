"""Command lines of our own and of other servers: what they set, what is said, what is refused."""

from __future__ import annotations

import pytest

from aiowsgi.cli.arguments import read_arguments
from aiowsgi.config.options import Config
from aiowsgi.config.sources import Sources
from aiowsgi.exceptions import ConfigError


def understood(line: str) -> tuple[Config, str]:
    """The configuration that a command line amounts to, and the notes."""
    given = read_arguments(line.split())
    settings = Sources(given.options, given.environ, "/nowhere").load()
    return settings.config, "\n".join(given.notes)


def refusal(line: str) -> list[str]:
    """The lines of the message for a command line that is refused."""
    with pytest.raises(ConfigError) as caught:
        read_arguments(line.split())
    return str(caught.value).splitlines()


GUNICORN = [
    ("m:a --timeout 120", {"request_timeout": 120}),
    ("m:a -t 120", {"request_timeout": 120}),
    ("m:a --timeout 0", {"request_timeout": 0}),
    ("m:a -m 007", {"umask": 7}),
    ("m:a --log-file - --error-logfile=- --access-logfile -", {}),
    ("m:a --access-logfile /tmp/a.log", {"access_logfile": "/tmp/a.log"}),
    ("m:a -p /tmp/pid -u www -g www", {"pid": "/tmp/pid", "user": "www", "group": "www"}),
    ("m:a --pythonpath src", {"app_dir": "src"}),
    ("m:a --keep-alive 0 --graceful-timeout 0", {"keep_alive": 0, "graceful_timeout": 0}),
    ("m:a --graceful-timeout inf", {"graceful_timeout": float("inf")}),
    ("m:a --limit-request-line 0 --max-requests 0", {"limit_request_line": 0}),
    ("m:a -b 0.0.0.0:80 -b unix:/tmp/s", {"bind": ("0.0.0.0:80", "unix:/tmp/s")}),
    ("gunicorn -w 4 m:a", {"workers": 4}),
    ("m:a --no-sendfile --initgroups -R", {}),
    ("m:a --reload --reload-engine poll", {"reload": True}),
    ("m:a --bind *:80", {"bind": (":80",)}),
]
OTHERS = [
    ("--listen=*:80 m:a", {"bind": (":80",)}),
    ("--listen 127.0.0.1:80 --listen [::1]:80 m:a", {"bind": ("127.0.0.1:80", "[::1]:80")}),
    ("--listen 128 m:a", {"backlog": 128}),
    ("--call m:a", {"factory": True}),
    ("--unix-socket /tmp/s --unix-socket-perms 660 m:a",
     {"bind": ("unix:/tmp/s",), "uds_permissions": 0o660}),
    ("--channel-timeout 9 --connection-limit 7 m:a", {"keep_alive": 9, "max_connections": 7}),
    ("--no-ipv6 m:a".replace("no-ipv6", "asyncore-use-poll"), {}),
    ("m:a --interface wsgi", {}),
    ("m:a --timeout-keep-alive 5", {"keep_alive": 5}),
    ("m:a --timeout-graceful-shutdown 5", {"graceful_timeout": 5}),
    ("m:a --limit-max-requests 5 --no-use-colors", {"max_requests": 5, "color": "never"}),
    ("m:a --log-level trace", {"log_level": "debug"}),
    ("m:a --no-http1-keep-alive --blocking-threads 9", {"keep_alive": 0, "threads": 9}),
    ("m:a --http1-header-read-timeout 5000", {"header_timeout": 5}),
    ("m:a --workers-max-rss 512 --http 1 --loop rloop", {"max_rss": 512 << 20}),
    ("--http :80 --module m:a --master --processes 4 --die-on-term",
     {"bind": (":80",), "workers": 4}),
    ("--http-socket 0.0.0.0:80 --wsgi-file m --callable a --vacuum", {"bind": ("0.0.0.0:80",)}),
    ("--https :443,c.pem,k.pem --module m:a",
     {"bind": (":443",), "certfile": "c.pem", "keyfile": "k.pem"}),
    ("--http-socket :80 -w m:a", {"bind": (":80",)}),
    ("--harakiri 30 --module m:a --harakiri-verbose", {"request_timeout": 30}),
    ("start-server m:a --processes 2 --working-directory /srv", {"workers": 2, "chdir": "/srv"}),
    ("--disable-logging --reload-on-rss 512 --module=m:a", {"access_log": False,
                                                            "max_rss": 512 << 20}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "options"), [*GUNICORN, *OTHERS])
def test_understood_as_it_is(line: str, options: dict[str, object]) -> None:
    """Flags with a counterpart set it, and nothing is said."""
    config, _ = understood(line)
    assert config == Config(app="m:a", **options)


@pytest.mark.parametrize("line", [line for line, _ in GUNICORN])
def test_nothing_is_said_of_what_means_the_same(line: str) -> None:
    """A note is for what differs."""
    assert understood(line)[1] == ""


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("m:a -k sync", "-k sync: sync runs one request at a time in each worker"),
        ("m:a --worker-class=gthread", "requests always run in threads here"),
        ("m:a -k gevent --worker-connections 9", "there are no greenlets here"),
        ("m:a -k egg:gunicorn#gthread", "requests always run in threads here"),
        ("m:a -k gunicorn.workers.ggevent.GeventWorker", "there are no greenlets here"),
        ("m:a -k eventlet", "each request holds a thread, so raise --threads"),
        ("m:a --worker-tmp-dir /dev/shm", "--worker-tmp-dir /dev/shm: no heartbeat file"),
        ("m:a -n shop", "-n shop: processes keep the name aiowsgi"),
        ("m:a --log-file /tmp/x", "goes to standard error; for a file write 2>>/tmp/x"),
        ("--socket /tmp/s.sock --module m:a", "uwsgi_pass must become proxy_pass"),
        ("m:a --limit-request-field_size 0", "limits the whole header section"),
    ],
)
def test_notes(line: str, note: str) -> None:
    """What means something else here is understood, with one line that says what."""
    config, notes = understood(line)
    assert config.app == "m:a"
    assert note in notes


def test_environment_of_the_application() -> None:
    """gunicorn's --env sets variables."""
    given = read_arguments(["m:a", "-e", "A=1", "--env", "B=x=y"])
    assert given.environ == {"A": "1", "B": "x=y"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("m:a --daemon", "--daemon: the service manager's job"),
        ("m:a -D", "-D: the service manager's job"),
        ("m:a --statsd-host=localhost:8125", "served to Prometheus by --admin"),
        ("m:a --lifespan on", "--lifespan on: aiowsgi serves WSGI applications only"),
        ("m:a --interface asgi", "asgi applications are not served here"),
        ("m:a -k uvicorn.workers.UvicornWorker", "Keep uvicorn for an ASGI application"),
        ("m:a -k tornado", "worker classes are gunicorn's"),
        ("m:a --paste dev.ini", "egg:aiowsgi"),
        ("start-server m.py --url-alias /static static", "--url-alias /static static: files are"),
        ("m:a -c gunicorn.conf.py", "aiowsgi migrate gunicorn.conf.py > aiowsgi.toml"),
        ("m:a -c file:etc/g.py", "aiowsgi migrate etc/g.py > aiowsgi.toml; then -c aiowsgi.toml"),
        ("m:a --config=python:etc.g", "aiowsgi migrate etc/g.py > aiowsgi.toml"),
        ("--ini uwsgi.ini", "--ini uwsgi.ini: write: aiowsgi migrate FILE > aiowsgi.toml"),
        ("m:a --http 2", "HTTP/2 is the reverse proxy's"),
        ("m:a --pythonpath a,b", "PYTHONPATH"),
        ("m:a -p 4", "-p 4: uWSGI's -p is --workers here; --pid takes a file"),
        ("m:a --listen", "--listen: expected one argument"),
    ],
)
def test_refused(line: str, message: str) -> None:
    """What has no counterpart is refused with what to do instead."""
    (only,) = refusal(line)
    assert message in only


def test_all_refusals_in_one_message() -> None:
    """Each flag that was not understood has its line."""
    lines = refusal("m:a --daemon --threds 4 --statsd-host x:1 --frobnicate 3 other:app")
    assert [line.partition(":")[0] for line in lines] == [
        "--daemon",
        "--threds",
        "--statsd-host x",
        "--frobnicate",
    ]
    assert "did you mean --threads?" in lines[1]


def test_end_of_flags() -> None:
    """Behind two hyphens stands the application, whatever its name looks like."""
    assert read_arguments(["--threads", "2", "--", "-odd"]).options["app"] == "-odd"


@pytest.mark.parametrize("flag", ["-h", "--help", "--version"])
def test_help_answers_in_any_case(flag: str) -> None:
    """A line with mistakes still gets the help that it asks for."""
    assert read_arguments(["--frobnicate", flag]).commands
