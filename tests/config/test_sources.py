"""The sources of option values, their precedence, and the recorded origins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from option_samples import SAMPLE_NAME, check_set, given_for

from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.sources import (
    Settings,
    Sources,
    flag_name,
    key_name,
    prepare_process,
    variable_name,
)
from aiowsgi.exceptions import ConfigError


@pytest.mark.parametrize("name", OPTIONS)
def test_every_variable(name: str, load: Callable[..., Settings]) -> None:
    """Every option can be set by its variable."""
    given = given_for(name)
    settings = load(environ={variable_name(name): text for name, text in given.items()})
    check_set(name, settings.config)
    assert variable_name(name) in settings.origins.values()


@pytest.mark.parametrize("spell", [key_name, str])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_key(name: str, spell: Callable[[str], str], load: Callable[..., Settings]) -> None:
    """Every option can be set by its TOML key, with hyphens or underscores."""
    given = given_for(name)
    toml = "".join(f'{spell(name)} = "{text}"\n' for name, text in given.items())
    settings = load(config=toml)
    check_set(name, settings.config)
    assert "aiowsgi.toml" in settings.origins.values()


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Settings]:
    """A function that loads sources whose files are given as text."""

    def load(
        *,
        flags: dict[str, Any] | None = None,
        environ: dict[str, str] | None = None,
        config: str | None = None,
        pyproject: str | None = None,
        env_file: str | None = None,
    ) -> Settings:
        texts = {
            "aiowsgi.toml": config,
            "pyproject.toml": pyproject,
            ".env": env_file,
            SAMPLE_NAME: "",
        }
        for name, text in texts.items():
            if text is not None:
                (tmp_path / name).write_text(text)
        config_file = None if config is None else "aiowsgi.toml"
        return Sources(flags or {}, environ or {}, str(tmp_path), config_file).load()

    return load


# Precedence


def test_nothing(load: Callable[..., Settings]) -> None:
    """Without any source, every option has its default."""
    assert load() == (Config(), {})


def test_precedence(load: Callable[..., Settings]) -> None:
    """Command line, environment, env file, config file, pyproject, default: the first one wins."""
    settings = load(
        flags={"threads": "1", "env_file": ".env"},
        environ={"AIOWSGI_THREADS": "2", "AIOWSGI_BACKLOG": "2"},
        env_file="AIOWSGI_THREADS=3\nAIOWSGI_BACKLOG=3\nAIOWSGI_KEEP_ALIVE=3",
        config="threads = 4\nbacklog = 4\nkeep-alive = 4\nmax-requests = 4",
        pyproject="tool.aiowsgi = {threads=5, backlog=5, keep-alive=5, max-requests=5, max-rss=5}",
    )
    assert settings.config == Config(
        threads=1, backlog=2, keep_alive=3, max_requests=4, max_rss=5, env_file=".env"
    )
    assert settings.origins == {
        "env_file": "--env-file",
        "threads": "--threads",
        "backlog": "AIOWSGI_BACKLOG",
        "keep_alive": "AIOWSGI_KEEP_ALIVE in .env",
        "max_requests": "aiowsgi.toml",
        "max_rss": "pyproject.toml",
    }


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WEB_CONCURRENCY": "3"}, {"workers": 3}),
        ({"WEB_CONCURRENCY": "3", "AIOWSGI_WORKERS": "auto"}, {"workers": None}),
        (
            {"FORWARDED_ALLOW_IPS": "10.0.0.1, 10.0.0.2"},
            {"forwarded_allow_ips": ("10.0.0.1", "10.0.0.2")},
        ),
        ({"SCRIPT_NAME": "/shop/"}, {"root_path": "/shop"}),
        ({"NO_COLOR": "0"}, {"color": "never"}),
        ({"NO_COLOR": "1", "AIOWSGI_COLOR": "always"}, {"color": "always"}),
        ({"NO_COLOR": "", "WEB_CONCURRENCY": "", "AIOWSGI_THREADS": ""}, {}),
        ({"PORT": "5000"}, {"bind": ("0.0.0.0:5000",)}),
        ({"PORT": "5000", "AIOWSGI_PORT": "6000"}, {"bind": ("127.0.0.1:6000",)}),
        ({"PORT": "5000", "AIOWSGI_HOST": "::1"}, {"bind": ("[::1]:5000",)}),
        ({"PORT": "5000", "AIOWSGI_BIND": ":80,unix:x"}, {"bind": (":80", "unix:x")}),
        ({"HOME": "/", "AIOWSGI": "x", "LANG": "C"}, {}),
    ],
)
def test_environment(
    environ: dict[str, str], expected: dict[str, Any], load: Callable[..., Settings]
) -> None:
    """Prefixed variables have precedence over conventional ones; an empty variable is not set."""
    assert load(environ=environ).config == Config(**expected)


@pytest.mark.parametrize(
    ("flags", "environ", "config", "bind", "origin"),
    [
        ({"port": "1"}, {}, "host = '::1'", "[::1]:1", "aiowsgi.toml, --port"),
        ({"port": "1"}, {"PORT": "2"}, "", "127.0.0.1:1", "--port"),
        ({"host": "::1"}, {"PORT": "2"}, "bind = ':9'", "[::1]:2", "PORT, --host"),
        ({"port": "1"}, {"AIOWSGI_BIND": ":2"}, "host = '::1'", "127.0.0.1:1", "--port"),
        ({"uds": "x"}, {"AIOWSGI_BIND": ":2"}, "fd = 3", "unix:x", "--uds"),
        ({}, {"PORT": "2"}, "bind = ':9'", "0.0.0.0:2", "PORT"),
        ({}, {}, "bind = [':9']", ":9", "aiowsgi.toml"),
    ],
)
def test_where_to_listen(
    flags: dict[str, str],
    environ: dict[str, str],
    config: str,
    bind: str,
    origin: str,
    load: Callable[..., Settings],
) -> None:
    """A higher source replaces the addresses of a lower one; host and port complete each other."""
    settings = load(flags=flags, environ=environ, config=config)
    assert settings.config.bind == (bind,)
    assert settings.origins["bind"] == origin


def test_config_variable(load: Callable[..., Settings], tmp_path: Path) -> None:
    """AIOWSGI_CONFIG names the file if the command line does not."""
    (tmp_path / "other.toml").write_text("threads = 9")
    environ = {"AIOWSGI_CONFIG": "other.toml"}
    assert load(environ=environ).config.threads == 9
    assert load(environ=environ, config="backlog = 3").config == Config(backlog=3)


@pytest.mark.parametrize("pyproject", ["", "tool = 3", "[tool.other]\nthreads = 3"])
def test_other_projects(pyproject: str, load: Callable[..., Settings]) -> None:
    """A pyproject.toml without [tool.aiowsgi] sets nothing."""
    assert load(pyproject=pyproject).config == Config()


def test_loaded_again(load: Callable[..., Settings], tmp_path: Path) -> None:
    """Each load() reads the sources again, relative to the recorded directory."""
    file = tmp_path / "a.toml"
    file.write_text("threads = 3")
    sources = Sources({}, {}, str(tmp_path), "a.toml")
    assert sources.load().config.threads == 3
    file.write_text("threads = 5")
    assert sources.load().config.threads == 5


@pytest.mark.parametrize(
    "environ",
    [
        {"AIOWSGI_SERVICE_HOST": "10.0.0.7", "AIOWSGI_SERVICE_PORT": "80"},
        {"AIOWSGI_PORT": "tcp://10.0.0.7:80", "AIOWSGI_PORT_80_TCP": "tcp://10.0.0.7:80"},
        {"AIOWSGI_PORT_80_TCP_ADDR": "10.0.0.7", "AIOWSGI_SERVICE_PORT_HTTP": "80"},
        {"AIOWSGI_WEB_SERVICE_HOST": "10.0.0.7", "AIOWSGI_WEB_PORT": "tcp://10.0.0.7:80"},
    ],
)
def test_service_links(environ: dict[str, str], load: Callable[..., Settings]) -> None:
    """Variables that Kubernetes sets for a service named aiowsgi are ignored."""
    assert load(environ=environ) == (Config(), {})


# Errors


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        ({"flags": {"threads": "x"}}, "--threads: 'x' is not a whole number"),
        ({"flags": {"host": "a", "fd": "3"}}, "--host and --fd: give one of them"),
        ({"environ": {"AIOWSGI_THREADS": "x"}}, "AIOWSGI_THREADS: 'x' is not"),
        (
            {"environ": {"AIOWSGI_THREDS": "1"}},
            "AIOWSGI_THREDS: no such option; did you mean AIOWSGI_THREADS?",
        ),
        ({"environ": {"PORT": "http"}}, "PORT: 'http' is not a whole number"),
        (
            {"environ": {"AIOWSGI_BIND": ":1", "AIOWSGI_PORT": "2"}},
            "AIOWSGI_BIND and AIOWSGI_PORT: give one of them",
        ),
        ({"config": "threads = 'x'"}, "threads in aiowsgi.toml: 'x' is not"),
        ({"config": "threads = true"}, "threads in aiowsgi.toml: True is not a whole number"),
        (
            {"config": "keepalive = 3"},
            "keepalive in aiowsgi.toml: no such option; did you mean keep-alive?",
        ),
        ({"config": "keep-alive = 3\nkeep_alive = 3"}, "keep_alive in aiowsgi.toml: given twice"),
        ({"config": "threads = "}, "aiowsgi.toml: Invalid value (at end of document)"),
        ({"pyproject": "tool.aiowsgi.thread = 3"}, "thread in pyproject.toml: no such option"),
        ({"pyproject": "tool.aiowsgi = 3"}, "pyproject.toml: tool.aiowsgi is not a table"),
        ({"flags": {"env_file": "missing"}}, "missing: No such file"),
        (
            {"flags": {"env_file": ".env"}, "env_file": "AIOWSGI_THREDS=1"},
            "AIOWSGI_THREDS in .env: no such option",
        ),
        (
            {"flags": {"env_file": ".env"}, "env_file": "AIOWSGI_CONFIG=x"},
            "AIOWSGI_CONFIG in .env: cannot be set in an env_file",
        ),
        ({"flags": {"env_file": ".env"}, "env_file": "what?"}, ".env, line 1: not of the form"),
        ({"environ": {"AIOWSGI_CONFIG": "missing.toml"}}, "missing.toml: No such file"),
        ({"flags": {"keyfile": "k"}}, "keyfile: needs certfile"),
    ],
)
def test_refuse(sources: dict[str, Any], complaint: str, load: Callable[..., Settings]) -> None:
    """An error names the flag, the variable, or the key and the file."""
    with pytest.raises(ConfigError) as caught:
        load(**sources)
    assert complaint in str(caught.value)


def test_not_utf8(tmp_path: Path) -> None:
    """A file that is not encoded in UTF-8 is an error that names it."""
    (tmp_path / "a.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"a\.toml: not encoded in UTF-8"):
        Sources({}, {}, str(tmp_path), "a.toml").load()


# Preparing the process


def test_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of env_file that are not set are set, then the working directory changes."""
    (tmp_path / "home").mkdir()
    (tmp_path / ".env").write_text("AIOWSGI_TEST_A=file\nAIOWSGI_TEST_B=file")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIOWSGI_TEST_A", "set before")
    monkeypatch.setenv("AIOWSGI_TEST_B", "to be restored")
    monkeypatch.delenv("AIOWSGI_TEST_B")
    prepare_process(Config(env_file=".env", chdir="home"))
    assert os.environ["AIOWSGI_TEST_A"] == "set before"
    assert os.environ["AIOWSGI_TEST_B"] == "file"
    assert os.getcwd() == str(tmp_path / "home")


def test_enter_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without env_file and chdir, the process does not change."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    prepare_process(Config())
    assert dict(os.environ) == before
    assert os.getcwd() == str(tmp_path)


def test_enter_nowhere(tmp_path: Path) -> None:
    """A directory that cannot be entered is an error that names it."""
    with pytest.raises(ConfigError, match=r"chdir: .*missing: No such file"):
        prepare_process(Config(chdir=str(tmp_path / "missing")))


def test_names() -> None:
    """An option has one flag, one TOML key and one variable."""
    assert flag_name("keep_alive") == "--keep-alive"
    assert key_name("keep_alive") == "keep-alive"
    assert variable_name("keep_alive") == "AIOWSGI_KEEP_ALIVE"
