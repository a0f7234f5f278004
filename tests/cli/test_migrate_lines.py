"""Command lines in Procfiles, Dockerfiles, systemd units and scripts, in shapes found in public."""

from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path

import pytest

from aiowsgi.cli.migrate import migrate
from aiowsgi.exceptions import ConfigError

SYNC = {"threads": 1, "proxy-headers": True}
SILENT = {**SYNC, "access-log": False}

PROCFILES = {
    "django": ("web: gunicorn mysite.wsgi --log-file -", {"app": "mysite.wsgi", **SILENT}, []),
    "flask": ("web: gunicorn app:app", {"app": "app:app", **SILENT}, []),
    "port": (
        "web: gunicorn app:app --bind 0.0.0.0:$PORT --workers 3",
        {"app": "app:app", "workers": 3, **SILENT},
        [],
    ),
    "concurrency": (
        "web: gunicorn -w ${WEB_CONCURRENCY:-2} app:app",
        {"workers": 2, "app": "app:app", **SILENT},
        [],
    ),
    "release phase": (
        "release: python manage.py migrate\nweb: gunicorn shop.wsgi:application -t 60\nworker: rq",
        {"app": "shop.wsgi:application", "request-timeout": "60s", **SILENT},
        [],
    ),
    "chain": (
        "web: python manage.py collectstatic --noinput && gunicorn shop.wsgi",
        {"app": "shop.wsgi", **SILENT},
        [],
    ),
    "waitress": (
        "web: waitress-serve --port=$PORT --threads=8 app:app",
        {"threads": 8, "app": "app:app"},
        [],
    ),
    "call": (
        "web: waitress-serve --listen=*:8000 --call app:create_app",
        {"bind": [":8000"], "factory": True, "app": "app:create_app"},
        [],
    ),
    "uwsgi": (
        "web: uwsgi --http-socket :8000 --module shop:app --processes 2",
        {"bind": [":8000"], "app": "shop:app", "workers": 2, "threads": 1},
        [],
    ),
    "monitored": (
        "web: newrelic-admin run-program gunicorn app:app --max-requests $MAX",
        {"app": "app:app", **SILENT},
        ["--max-requests $MAX: depends on a variable"],
    ),
}
DOCKERFILES = {
    "exec form": (
        'FROM python:3.12\nCMD ["gunicorn", "-b", "0.0.0.0:8000", "app:app"]',
        {"bind": ["0.0.0.0:8000"], "app": "app:app", **SILENT},
        [],
    ),
    "shell form": (
        "FROM python\nCMD gunicorn --bind :8000 --workers 2 app:app",
        {"bind": [":8000"], "workers": 2, "app": "app:app", **SILENT},
        [],
    ),
    "entrypoint": (
        'FROM python\nENTRYPOINT ["gunicorn"]\nCMD ["-w", "4", "app:app"]',
        {"workers": 4, "app": "app:app", **SILENT},
        [],
    ),
    "continuation": (
        'FROM python\nCMD ["gunicorn", \\\n  "--threads", "8", \\\n  "app:app"]',
        {"threads": 8, "app": "app:app", "access-log": False, "proxy-headers": True},
        [],
    ),
    "shell with variables": (
        (
            "FROM python\nENV PORT=8000 \\\n    WORKERS=3\n"
            "CMD exec gunicorn --bind :$PORT --workers $WORKERS --timeout 0 app:app"
        ),
        {"bind": [":8000"], "workers": 3, "request-timeout": "0", "app": "app:app", **SILENT},
        [],
    ),
    "sh -c": (
        'FROM python\nCMD ["sh", "-c", "python manage.py migrate && gunicorn shop.wsgi -w 2"]',
        {"app": "shop.wsgi", "workers": 2, **SILENT},
        [],
    ),
    "old env": (
        "FROM python\nENV THREADS 4\nCMD granian --interface wsgi --blocking-threads $THREADS a:b",
        {"threads": 4, "app": "a:b"},
        [],
    ),
    "last stage": (
        "FROM node\nCMD node\nFROM python\nWORKDIR /app\nCMD python -m gunicorn app:app",
        {"app": "app:app", **SILENT},
        [],
    ),
    "poetry": (
        'FROM python\nCMD ["poetry", "run", "gunicorn", "app:create_app()", "-k", "gevent"]',
        {"app": "app:create_app()", "access-log": False, "proxy-headers": True},
        [],
    ),
    "uvicorn": (
        'FROM python\nCMD ["uvicorn", "app:app", "--host", "0.0.0.0", "--interface", "asgi3"]',
        {"app": "app:app", "host": "0.0.0.0"},
        ["interface = asgi3: asgi3 applications are not served here"],
    ),
}
UNITS = {
    "socket": (
        ("ExecStart=/srv/venv/bin/gunicorn --access-logfile - --workers 3"
        " --bind unix:/run/gunicorn.sock shop.wsgi:application"),
        {"access-logfile": "-", "workers": 3, "bind": ["unix:/run/gunicorn.sock"],
         "app": "shop.wsgi:application", **SYNC},
        [],
    ),
    "continuation": (
        "ExecStart=/srv/venv/bin/gunicorn \\\n    --workers 3 \\\n    -m 007 \\\n    wsgi:app",
        {"workers": 3, "umask": "007", "app": "wsgi:app", **SILENT},
        [],
    ),
    "environment": (
        ('Environment="WORKERS=2" "PORT=9000"\n'
        "ExecStart=/usr/bin/gunicorn -w ${WORKERS} -b 127.0.0.1:${PORT} app:app"),
        {"workers": 2, "bind": ["127.0.0.1:9000"], "app": "app:app", **SILENT},
        [],
    ),
    "environment file": (
        "EnvironmentFile=/etc/shop.env\nExecStart=/usr/bin/gunicorn $GUNICORN_OPTS app:app",
        {"app": "app:app", **SILENT},
        ["$GUNICORN_OPTS: depends on a variable"],
    ),
    "bash": (
        "ExecStart=/bin/bash -c 'source venv/bin/activate && gunicorn -w 2 app:app'",
        {"workers": 2, "app": "app:app", **SILENT},
        [],
    ),
    "ignored failure": (
        "ExecStart=-/usr/bin/waitress-serve --host 127.0.0.1 --port 8080 app:app",
        {"host": "127.0.0.1", "port": 8080, "app": "app:app"},
        [],
    ),
    "notify": (
        "Type=notify\nExecStart=/srv/venv/bin/gunicorn shop.wsgi\nExecReload=/bin/kill -s HUP $PID",
        {"app": "shop.wsgi", **SILENT},
        [],
    ),
    "daemon": (
        "ExecStart=/usr/bin/gunicorn --daemon --pid /run/g.pid --error-logfile /var/log/e app:app",
        {"pid": "/run/g.pid", "app": "app:app", **SILENT},
        ["daemon = true: the service manager's job"],
    ),
    "uwsgi": (
        "ExecStart=/usr/bin/uwsgi --http :8000 --wsgi-file app.py --callable app --threads 4",
        {"bind": [":8000"], "app": "app.py:app", "threads": 4},
        [],
    ),
    "mod_wsgi": (
        ("ExecStart=/usr/bin/mod_wsgi-express start-server app.wsgi --processes 2 --threads 5"
        " --port 8000 --log-to-terminal --url-alias /static static"),
        {"app": "app.wsgi", "workers": 2, "threads": 5, "port": 8000},
        ["url-alias = /static static: files are not served here"],
    ),
}  # fmt: skip
COMMANDS = {
    "gunicorn -w 4 -b 0.0.0.0:8000 app:app": {
        "workers": 4, "bind": ["0.0.0.0:8000"], "app": "app:app", **SILENT},
    "gunicorn -w4 --bind=:80 app": {"workers": 4, "bind": [":80"], "app": "app", **SILENT},
    "gunicorn app:app -k gthread --threads 8": {
        "app": "app:app", "threads": 8, "access-log": False, "proxy-headers": True},
    "python -m gunicorn app:app --reload": {"app": "app:app", "reload": True, **SILENT},
    "A=1 gunicorn app:app --log-level debug": {"app": "app:app", "log-level": "debug", **SILENT},
    "uvicorn app:app --port 80 --no-access-log": {
        "app": "app:app", "port": 80, "access-log": False},
    "waitress-serve --port 80 app:app": {"port": 80, "app": "app:app"},
    "granian app:app --interface wsgi --workers 2": {"app": "app:app", "workers": 2},
    "uwsgi --master --http-socket :80 -w shop --threads 2": {
        "bind": [":80"], "app": "shop", "threads": 2},
    "cheroot app:app --bind :80 --timeout 10": {
        "app": "app:app", "bind": [":80"], "keep-alive": "10s"},
}  # fmt: skip

Shape = tuple[str, object, list[str]]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("Procfile", shape) for shape in PROCFILES.values()),
        *(("Dockerfile", shape) for shape in DOCKERFILES.values()),
        *(("shop.service", shape) for shape in UNITS.values()),
    ],
    ids=[*PROCFILES, *DOCKERFILES, *UNITS],
)
def test_files(name: str, shape: Shape, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The server's line is picked from the file, and translated."""
    text, expected, needs = shape
    (tmp_path / name).write_text(f"[Service]\n{text}" if name.endswith("service") else text)
    status = migrate([str(tmp_path / name)])
    output = capsys.readouterr().out
    assert tomllib.loads(output) == expected
    for sentence in needs:
        assert sentence in output
    assert status == (1 if needs else 0), output


@pytest.mark.parametrize(("line", "expected"), COMMANDS.items())
def test_command_line(
    line: str,
    expected: object,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind two hyphens stands the other server's command."""
    monkeypatch.chdir(tmp_path)
    assert migrate(["--", *line.split()]) == 0
    assert tomllib.loads(capsys.readouterr().out) == expected


def test_configuration_file_of_the_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file that the line names is read below it, and so is the one that gunicorn finds."""
    (tmp_path / "gunicorn.conf.py").write_text("workers = 3\nbind = ':1'\naccesslog = '-'")
    (tmp_path / "Procfile").write_text("web: gunicorn -b :2 app:app")
    (tmp_path / "shop.service").write_text("[Service]\nExecStart=gunicorn -c other.py app:app")
    expected = {"workers": 3, "access-logfile": "-", "bind": [":2"], "app": "app:app", **SYNC}
    assert migrate([str(tmp_path / "Procfile")]) == 0
    assert tomllib.loads(capsys.readouterr().out) == expected
    assert migrate([str(tmp_path / "shop.service")]) == 1
    assert "other.py: No such file" in capsys.readouterr().out


def test_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A shell script is searched for the server's line."""
    script = """
        #!/bin/sh
        # gunicorn -w 9 is for production
        python manage.py migrate
        exec gunicorn shop.wsgi \\
            --workers 2
    """
    (tmp_path / "entrypoint.sh").write_text(textwrap.dedent(script).lstrip())
    assert migrate([str(tmp_path / "entrypoint.sh")]) == 0
    assert tomllib.loads(capsys.readouterr().out)["workers"] == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Procfile", "worker: celery", "has no process type web"),
        ("Procfile", "web: node server.js", "no command of a known server"),
        ("Dockerfile", "FROM python", "no command of a known server"),
        ("Dockerfile", "FROM python\nCMD [gunicorn]", "no command of a known server"),
        ("a.service", "ExecStart=/bin/true", "no command of a known server"),
    ],
)
def test_unreadable(name: str, text: str, message: str, tmp_path: Path) -> None:
    """A file that starts no known server is refused."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        migrate([str(tmp_path / name)])
