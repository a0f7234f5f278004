"""A value for each option that differs from its default, derived from the option's type."""

from __future__ import annotations

from typing import Any

from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.types import Auto, Choice, Duration, Flag, Integer, ListOf, Mode, Size, Text

SAMPLE_NAME = "name"
"""A value of the options that are names; a test with env_file must create that file."""

BY_TYPE: dict[type, str] = {
    Integer: "3",
    Duration: "90s",
    Size: "3M",
    Mode: "640",
    Text: SAMPLE_NAME,
}
BY_METAVAR = {
    "ADDRESS": "127.0.0.1:9001",
    "PATHS=N": "/a*=1",
    "PEERS": "10.0.0.0/8",
    "PATH": "/shop",
    "FORMAT": "json",
}
COMPANIONS = {
    "keyfile": {"certfile": "c.pem"},
    "ca_certs": {"certfile": "c.pem"},
    "cert_reqs": {"certfile": "c.pem", "ca_certs": "ca.pem"},
}
"""The options that an option requires."""

BECOMES_BIND = {
    "host": ("name:8000",),
    "port": ("127.0.0.1:3",),
    "uds": ("unix:name",),
    "fd": ("fd://3",),
}


def sample(name: str) -> str:
    """Return text that stands for another value than the default."""
    option_type = OPTIONS[name].type
    while isinstance(option_type, (Auto, ListOf)):
        option_type = option_type.item
    if isinstance(option_type, Flag):
        return "no" if getattr(Config(), name) else "yes"
    if isinstance(option_type, Choice):
        return next(word for word in option_type.words if word != getattr(Config(), name))
    return BY_TYPE.get(type(option_type)) or BY_METAVAR[option_type.metavar]


def given_for(name: str) -> dict[str, str]:
    """Return the sample by the name of its option, and the options that it requires."""
    return {name: sample(name), **COMPANIONS.get(name, {})}


def check_set(name: str, config: Config) -> None:
    """Check that the sample changed its field, or bind, and no other field."""
    if name in BECOMES_BIND:
        assert config == Config(bind=BECOMES_BIND[name])
        return
    given: dict[str, Any] = dict(given_for(name))
    assert config == Config(**given)
    assert getattr(config, name) != getattr(Config(), name)
