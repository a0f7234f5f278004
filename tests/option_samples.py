"""A value for every option, derived from its kind, that is not its default."""

from __future__ import annotations

from typing import Any

from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.config.types import Auto, Choice, Duration, Flag, Integer, Listing, Mode, Size, Text

SAMPLE_NAME = "name"
"""Of whatever is a name; the file of that name must be there for env_file."""

BY_KIND: dict[type, str] = {
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
"""What must be said beside an option for it to be accepted."""

BECOMES_BIND = {
    "host": ("name:8000",),
    "port": ("127.0.0.1:3",),
    "uds": ("unix:name",),
    "fd": ("fd://3",),
}


def sample(name: str) -> str:
    """Text that is not the option's default."""
    kind = OPTIONS[name].kind
    while isinstance(kind, (Auto, Listing)):
        kind = kind.kind
    if isinstance(kind, Flag):
        return "no" if getattr(Config(), name) else "yes"
    if isinstance(kind, Choice):
        return next(word for word in kind.words if word != getattr(Config(), name))
    return BY_KIND.get(type(kind)) or BY_METAVAR[kind.metavar]


def given_for(name: str) -> dict[str, str]:
    """The sample by its option's name, and what must be said beside it."""
    return {name: sample(name), **COMPANIONS.get(name, {})}


def check_set(name: str, config: Config) -> None:
    """The sample has arrived in the field, or in bind, and nowhere else."""
    if name in BECOMES_BIND:
        assert config == Config(bind=BECOMES_BIND[name])
        return
    given: dict[str, Any] = dict(given_for(name))
    assert config == Config(**given)
    assert getattr(config, name) != getattr(Config(), name)
