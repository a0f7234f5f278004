"""Configuration files of gunicorn, uWSGI and Paste Deploy: shapes as they are found in public."""

from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path

import pytest

from aiowsgi.cli.migrate import migrate
from aiowsgi.exceptions import ConfigError

GUNICORN_DEFAULTS = {"threads": 1, "access-log": False, "proxy-headers": True}


def translated(
    capsys: pytest.CaptureFixture[str], folder: Path, name: str, text: str
) -> tuple[int, dict[str, object], str]:
    """The exit status, the TOML and the whole text for a file."""
    file = folder / name
    file.write_text(textwrap.dedent(text).lstrip("\n"))
    status = migrate([str(file)])
    output = capsys.readouterr().out
    return status, tomllib.loads(output), output


GUNICORN = {
    "plain": (
        """
        bind = "0.0.0.0:8000"
        workers = 3
        """,
        {"bind": ["0.0.0.0:8000"], "workers": 3, **GUNICORN_DEFAULTS},
        [],
    ),
    "container": (
        """
        import multiprocessing
        bind = "0.0.0.0:8000"
        workers = multiprocessing.cpu_count() * 2 + 1
        worker_tmp_dir = "/dev/shm"
        worker_class = "gthread"
        threads = 4
        timeout = 120
        keepalive = 5
        errorlog = "-"
        accesslog = "-"
        loglevel = "info"
        """,
        {"bind": ["0.0.0.0:8000"], "workers": "auto", "threads": 4, "request-timeout": "120s",
         "keep-alive": "5s", "access-logfile": "-", "log-level": "info", "proxy-headers": True},
        [],
    ),
    "environment": (
        """
        import os
        bind = f"0.0.0.0:{os.environ.get('PORT', '5000')}"
        workers = int(os.getenv("GUNICORN_WORKERS", "2"))
        loglevel = os.environ.get("LOG_LEVEL") or "warning"
        """,
        {"bind": ["0.0.0.0:5000"], "workers": 2, "log-level": "warning", **GUNICORN_DEFAULTS},
        [],
    ),
    "variable without default": (
        """
        import os
        bind = os.environ["BIND"]
        workers = os.environ.get("WORKERS")
        """,
        GUNICORN_DEFAULTS,
        ["line 2: bind: depends on os.environ['BIND']", "line 3: workers: depends on the variable"],
    ),
    "logging hooks": (
        '''
        """Configuration of the shop."""
        bind: str = "unix:/run/shop.sock"
        umask = 0o007
        def on_starting(server):
            """Say so."""
            server.log.info("starting")
        def worker_exit(server, worker):
            print("exit")
        ''',
        {"bind": ["unix:/run/shop.sock"], "umask": "007", **GUNICORN_DEFAULTS},
        [],
    ),
    "working hook": (
        """
        workers = 2
        def post_fork(server, worker):
            from shop import db
            db.engine.dispose()
        """,
        {"workers": 2, **GUNICORN_DEFAULTS},
        ["line 2: post_fork: there are no hooks"],
    ),
    "condition": (
        """
        import os
        workers = 2
        if os.environ.get("DEBUG"):
            reload = True
            workers = 1
        """,
        {"workers": 2, **GUNICORN_DEFAULTS},
        ["line 3: reload, workers: set in a statement"],
    ),
    "recycling": (
        """
        max_requests = 1000
        max_requests_jitter = max_requests // 20
        graceful_timeout = 30
        preload_app = True
        reload = False
        """,
        {"max-requests": 1000, "max-requests-jitter": 50, "graceful-timeout": "30s",
         "preload": True, **GUNICORN_DEFAULTS},
        [],
    ),
    "tls and proxy": (
        """
        import os
        HERE = os.path.dirname(os.path.abspath(__file__))
        certfile = os.path.join("/etc/tls", "c.pem")
        keyfile = "/etc/tls/k.pem"
        forwarded_allow_ips = "*"
        secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
        ssl_version = 5
        """,
        {"certfile": "/etc/tls/c.pem", "keyfile": "/etc/tls/k.pem", "forwarded-allow-ips": ["*"],
         **GUNICORN_DEFAULTS},
        ["ssl_version = 5: TLS 1.2 and 1.3"],
    ),
    "application and environment": (
        """
        wsgi_app = "shop.wsgi:application"
        chdir = "/srv/shop"
        pythonpath = "/srv/shop/src"
        raw_env = ["DJANGO_SETTINGS_MODULE=shop.settings", "A=1"]
        user = "www-data"
        pidfile = "/run/shop.pid"
        proc_name = "shop"
        statsd_host = "localhost:8125"
        daemon = True
        """,
        {"app": "shop.wsgi:application", "chdir": "/srv/shop", "app-dir": "/srv/shop/src",
         "user": "www-data", "pid": "/run/shop.pid", **GUNICORN_DEFAULTS},
        ["environment: DJANGO_SETTINGS_MODULE=shop.settings", "environment: A=1",
         "statsd_host = localhost:8125: metrics", "daemon = true: the service manager's job"],
    ),
    "asgi worker": (
        """
        worker_class = "uvicorn.workers.UvicornWorker"
        """,
        GUNICORN_DEFAULTS,
        ["worker_class = uvicorn.workers.UvicornWorker: that worker serves ASGI"],
    ),
}  # fmt: skip

PASS = "uwsgi_pass must become"

UWSGI = {
    "tutorial.ini": (
        """
        [uwsgi]
        module = wsgi:app
        master = true
        processes = 5
        socket = myproject.sock
        chmod-socket = 660
        vacuum = true
        die-on-term = true
        """,
        {"app": "wsgi:app", "workers": 5, "bind": ["unix:myproject.sock"],
         "uds-permissions": "660", "threads": 1},
        [PASS],
    ),
    "placeholders.ini": (
        """
        [uwsgi]
        ; the project
        project = shop
        base = /srv
        chdir = %(base)/%(project)
        home = %(base)/env/%(project)
        module = %(project).wsgi:application
        http = :8000
        processes = %k
        """,
        {"chdir": "/srv/shop", "app": "shop.wsgi:application", "bind": [":8000"],
         "workers": "auto", "threads": 1},
        [],
    ),
    "callable.ini": (
        """
        [uwsgi]
        http-socket = 0.0.0.0:8080
        wsgi-file = app.py
        callable = application_object
        processes = 4
        threads = 2
        stats = 127.0.0.1:9191
        """,
        {"bind": ["0.0.0.0:8080"], "app": "app.py:application_object", "workers": 4, "threads": 2,
         "admin": "127.0.0.1:9191"},
        [],
    ),
    "limits.ini": (
        """
        [uwsgi]
        module=shop
        harakiri=60
        max-requests=5000
        buffer-size=65535
        listen=1024
        limit-post=1048576
        reload-on-rss=512
        disable-logging=true
        """,
        {"app": "shop", "request-timeout": "60s", "max-requests": 5000, "max-header-size": "64k",
         "backlog": 1024, "max-body-size": "1M", "max-rss": "512M", "access-log": False,
         "threads": 1},
        [],
    ),
    "https.ini": (
        """
        [uwsgi]
        https = :8443,/etc/c.pem,/etc/k.pem
        module = shop:app
        uid = www-data
        gid = www-data
        """,
        {"bind": [":8443"], "certfile": "/etc/c.pem", "keyfile": "/etc/k.pem", "app": "shop:app",
         "user": "www-data", "group": "www-data", "threads": 1},
        [],
    ),
    "sidecars.ini": (
        """
        [uwsgi]
        module = shop:app
        static-map = /static=/srv/static
        attach-daemon = celery -A shop worker
        daemonize = /var/log/uwsgi.log
        cron = -1 -1 -1 -1 -1 true
        """,
        {"app": "shop:app", "threads": 1},
        ["static-map = /static=/srv/static: files are not", "attach-daemon = celery -A shop worker",
         "daemonize = /var/log/uwsgi.log: the service", "cron = -1"],
    ),
    "variables.ini": (
        """
        [uwsgi]
        module = shop:app
        processes = $(UWSGI_WORKERS)
        env = DJANGO_SETTINGS_MODULE=shop.settings
        if-env = DEBUG
        py-autoreload = 1
        endif =
        """,
        {"app": "shop:app", "reload": True, "threads": 1},
        ["processes = $(UWSGI_WORKERS): depends", "environment: DJANGO", "if-env = DEBUG", "endif"],
    ),
    "mount.ini": (
        """
        [uwsgi]
        mount = /shop=shop.py
        manage-script-name = true
        http-socket = :80
        enable-threads = true
        single-interpreter = true
        need-app = true
        """,
        {"app": "shop.py", "root-path": "/shop", "bind": [":80"], "threads": 1},
        [],
    ),
    "config.xml": (
        """
        <uwsgi>
            <socket>127.0.0.1:3031</socket>
            <module>shop</module>
            <master/>
            <processes>4</processes>
        </uwsgi>
        """,
        {"bind": ["127.0.0.1:3031"], "app": "shop", "workers": 4, "threads": 1},
        [PASS],
    ),
    "config.yaml": (
        """
        # served behind nginx
        uwsgi:
          socket: /run/shop.sock
          module: "shop.wsgi"
          processes: 4   # as many as processors
          master: true
        other:
          processes: 9
        """,
        {"bind": ["unix:/run/shop.sock"], "app": "shop.wsgi", "workers": 4, "threads": 1},
        [PASS],
    ),
    "unknown.ini": (
        """
        [uwsgi]
        module = shop
        frobnicate = 3
        """,
        {"app": "shop", "threads": 1},
        ["frobnicate = 3: this option is not known"],
    ),
}  # fmt: skip

APP = {"app": 'paste.deploy:loadapp("config:site.ini", relative_to=".")'}

PASTE = {
    "pyramid": (
        """
        [app:main]
        use = egg:shop
        [server:main]
        use = egg:waitress#main
        listen = localhost:6543
        """,
        {"bind": ["localhost:6543"], **APP},
        [],
    ),
    "two addresses": (
        """
        [server:main]
        use = egg:waitress
        listen = 127.0.0.1:6543 [::1]:6543
        threads = 8
        """,
        {"bind": ["127.0.0.1:6543", "[::1]:6543"], "threads": 8, **APP},
        [],
    ),
    "host and port": (
        """
        [server:main]
        use = egg:waitress#main
        host = 0.0.0.0
        port = 8080
        """,
        {"host": "0.0.0.0", "port": 8080, **APP},
        [],
    ),
    "zope": (
        """
        [server:main]
        use = egg:waitress#main
        host = 127.0.0.1
        port = 8080
        max_request_body_size = 1073741824
        clear_untrusted_proxy_headers = false
        channel_timeout = 60
        """,
        {"host": "127.0.0.1", "port": 8080, "max-body-size": "1G", "keep-alive": "60s", **APP},
        [],
    ),
    "gunicorn": (
        """
        [server:main]
        use = egg:gunicorn#main
        bind = 127.0.0.1:8080
        workers = 3
        accesslog = -
        """,
        {"bind": ["127.0.0.1:8080"], "workers": 3, "access-logfile": "-", **APP, "threads": 1,
         "proxy-headers": True},
        [],
    ),
    "defaults": (
        """
        [DEFAULT]
        http_port = 8080
        [server:main]
        use = egg:waitress#main
        port = %(http_port)s
        """,
        {"port": 8080, **APP},
        [],
    ),
    "unix socket": (
        """
        [server:main]
        use = egg:waitress#main
        unix_socket = /run/shop.sock
        unix_socket_perms = 660
        """,
        {"uds": "/run/shop.sock", "uds-permissions": "660", **APP},
        [],
    ),
    "behind a proxy": (
        """
        [server:main]
        use = egg:waitress#main
        trusted_proxy = 127.0.0.1
        trusted_proxy_headers = x-forwarded-for x-forwarded-proto
        trusted_proxy_count = 1
        url_scheme = https
        """,
        {"forwarded-allow-ips": ["127.0.0.1"], "proxy-headers": True, **APP},
        ["url_scheme = https: leave it out"],
    ),
    "an unset variable": (
        """
        [server:main]
        use = egg:waitress#main
        port = %(port)s
        """,
        APP,
        ["port = %(port)s: depends on a variable"],
    ),
    "another server": (
        """
        [server:main]
        use = egg:Paste#http
        host = 127.0.0.1
        port = 5000
        """,
        {"host": "127.0.0.1", "port": 5000, **APP},
        ["use = egg:Paste#http: this server is not known"],
    ),
}  # fmt: skip


def check(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    name: str,
    shape: tuple[str, object, list[str]],
) -> None:
    text, expected, needs = shape
    status, settings, output = translated(capsys, folder, name, text)
    assert settings == expected
    for sentence in needs:
        assert sentence in output
    asked = output.partition("# What needs a person:")[2] or output.partition("# First:")[2]
    assert asked.count("\n# - ") == len(needs)
    assert status == (1 if needs else 0)


@pytest.mark.parametrize("shape", GUNICORN.values(), ids=GUNICORN)
def test_gunicorn(
    shape: tuple[str, object, list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """gunicorn.conf.py is read without being run; what only a run can tell needs a person."""
    check(capsys, tmp_path, "gunicorn.conf.py", shape)


@pytest.mark.parametrize(("name", "shape"), UWSGI.items(), ids=UWSGI)
def test_uwsgi(
    name: str,
    shape: tuple[str, object, list[str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """uWSGI's INI, XML and YAML; uwsgi_pass is the first thing that is said."""
    if shape[2] == [PASS]:
        text, expected, _ = shape
        status, settings, output = translated(capsys, tmp_path, name, text)
        assert settings == expected
        assert PASS in output.splitlines()[3]
        assert status == 1
    else:
        check(capsys, tmp_path, name, shape)


@pytest.mark.parametrize("shape", PASTE.values(), ids=PASTE)
def test_paste(
    shape: tuple[str, object, list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A Paste Deploy file's server; its application is loaded by Paste Deploy as before."""
    check(capsys, tmp_path, "site.ini", shape)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gunicorn.conf.py", "bind = = 3", "line 1: invalid syntax"),
        ("other.ini", "[loggers]\nkeys = root", "has no section [uwsgi] and no section"),
        ("other.xml", "<a>", "no element found"),
        ("other.xml", "<a/>", "has no element uwsgi"),
        ("compose.yaml", "services:\n  web: x", "has no key uwsgi"),
    ],
)
def test_unreadable(name: str, text: str, message: str, tmp_path: Path) -> None:
    """A file of another kind is refused."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        migrate([str(tmp_path / name)])
    assert message in str(caught.value)


def test_nothing_is_executed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """gunicorn's file is a program, and is not run."""
    marker = tmp_path / "marker"
    text = f"open({str(marker)!r}, 'w')\nworkers = open({str(marker)!r}, 'w').fileno()\n"
    status, _, output = translated(capsys, tmp_path, "gunicorn.conf.py", text)
    assert status == 1
    assert "workers: depends on open(" in output
    assert not marker.exists()
