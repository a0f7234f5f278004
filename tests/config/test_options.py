"""The dataclass of all options."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.values import RouteLimit
from aiowsgi.exceptions import ConfigError


def test_defaults() -> None:
    """The defaults are normalised: converting them changes nothing."""
    config = Config()
    for field in fields(Config):
        assert getattr(config, field.name) == field.default, field.name


def test_notation() -> None:
    """Config() accepts the notations of the command line, and Python values."""
    config = Config(bind=("127.0.0.1:0",), threads=8, keep_alive="75s", max_body_size="2M")  # type: ignore[arg-type]
    assert config.bind == ("127.0.0.1:0",)
    assert config.threads == 8
    assert config.keep_alive == 75.0
    assert config.max_body_size == 2 << 20
    assert Config(bind="unix:/a, :80").bind == ("unix:/a", ":80")  # type: ignore[arg-type]
    assert Config(route_limit="/a*=1 /b,/c=2").route_limit == (  # type: ignore[arg-type]
        RouteLimit(("/a*",), 1),
        RouteLimit(("/b", "/c"), 2),
    )


def test_a_value_like_others() -> None:
    """A Config is frozen, and can be compared, hashed, pickled and varied."""
    config = Config(host="::1", workers=None)
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(Config(bind=("[::1]:8000",), workers=None))
    assert replace(config, threads=9) == Config(host="::1", workers=None, threads=9)
    with pytest.raises(FrozenInstanceError):
        config.threads = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "bind"),
    [
        ({}, ("127.0.0.1:8000",)),
        ({"host": "0.0.0.0"}, ("0.0.0.0:8000",)),
        ({"port": 80}, ("127.0.0.1:80",)),
        ({"port": "0"}, ("127.0.0.1:0",)),
        ({"host": "::", "port": 80}, ("[::]:80",)),
        ({"host": "[::1]"}, ("[::1]:8000",)),
        ({"uds": "/run/a.sock"}, ("unix:/run/a.sock",)),
        ({"fd": 0}, ("fd://0",)),
        ({"bind": [":80", "unix:x"]}, (":80", "unix:x")),
    ],
)
def test_shorthands(given: dict[str, Any], bind: tuple[str, ...]) -> None:
    """host, port, uds and fd become bind, and the Config has no such attributes."""
    config = Config(**given)
    assert config.bind == bind
    assert not {"host", "port", "uds", "fd"} & {field.name for field in fields(config)}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"thread": 3}, "thread: no such option; did you mean threads?"),
        ({"frobnicate": 3}, "frobnicate: no such option"),
        ({"threads": 0}, "threads: 0 is too small"),
        ({"threads": None}, "threads: None is not a whole number"),
        ({"keep_alive": "soon"}, "keep_alive: 'soon' is not a time"),
        ({"port": 65536}, "port: 65536 is too large"),
        ({"bind": "nowhere"}, "bind: cannot use 'nowhere'"),
        ({"host": "not a host"}, "bind: cannot use 'not a host:8000'"),
        ({"bind": ()}, "bind: the list of addresses is empty"),
        ({"bind": (":80",), "host": "::1"}, "bind and host: give one of them"),
        ({"uds": "/x", "fd": 3}, "uds and fd: give one of them"),
        ({"port": 80, "uds": "/x"}, "port and uds: give one of them"),
        ({"keyfile": "k"}, "keyfile: needs certfile"),
        ({"ca_certs": "c"}, "ca_certs: needs certfile"),
        ({"certfile": "c", "cert_reqs": "required"}, "cert_reqs: required needs ca_certs"),
        ({"admin": "0.0.0.0:9000"}, "admin: 0.0.0.0:9000 is a public address"),
        ({"reserve_threads": "/a=2 /b=2"}, "reserve_threads: leaves nothing of 4 threads"),
    ],
)
def test_refuse(given: dict[str, Any], complaint: str) -> None:
    """A wrong name, a wrong value, and contradicting values raise ConfigError."""
    with pytest.raises(ConfigError) as caught:
        Config(**given)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"certfile": "c", "keyfile": "k", "ca_certs": "a", "cert_reqs": "optional"},
        {"admin": "127.0.0.1:9000"},
        {"admin": ":9000", "admin_token_file": "t"},
        {"reserve_threads": "/a=3"},
        {"workers": "auto", "max_detached_threads": "auto"},
    ],
)
def test_together(given: dict[str, Any]) -> None:
    """Options that require each other are accepted together."""
    assert Config(**given) != Config()


def test_every_field_is_an_option() -> None:
    """Each option has a help text of whole sentences; the first option begins a section."""
    assert next(iter(OPTIONS.values())).section
    for name, option in OPTIONS.items():
        assert option.help.endswith("."), name
        assert option.help[0].isupper(), name
