"""What an option is, and how a field of ``Config`` is made one.

An option without its name: the kind of its value (``config/types.py``), its help, its further
spellings. Which options there are stands in ``config/options.py`` alone; where their values come
from, in ``config/sources.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, overload

from aiowsgi.config.types import Flag, OptionType
from aiowsgi.exceptions import ConfigError

__all__ = ["Option", "off", "on", "option"]

T = TypeVar("T")


class Option(NamedTuple):
    """What is known of one option besides its name and default; the metadata of a field."""

    kind: OptionType[Any]
    text: str
    """What it does, in sentences that a terminal and Markdown show alike."""
    section: str = ""
    """Title of the section that this option begins; empty for those that continue it."""
    flags: tuple[str, ...] = ()
    """Further spellings on the command line, ``-b`` or ``--ssl-certfile``."""
    variables: Mapping[str, str | None] = MappingProxyType({})
    """Conventional environment variables, and the text that their presence stands for; None
    where it is the variable's own text."""

    def read(self, value: object, label: str) -> Any:
        """Normalise ``value``; raises ConfigError that begins with ``label``."""
        try:
            return self.kind.read(value)
        except ValueError as error:
            raise ConfigError(f"{label}: {error}") from None


# The makers of fields claim to return the default, as dataclasses.field() does: what a type checker
# sees is "name: type = default".


@overload
def option(kind: OptionType[T], default: None, text: str, **more: Any) -> T | None: ...


@overload
def option(kind: OptionType[T], default: T, text: str, **more: Any) -> T: ...


def option(kind: OptionType[Any], default: Any, text: str, **more: Any) -> Any:
    """A dataclass field that is an option; ``more`` are further fields of Option."""
    return field(default=default, metadata={"option": Option(kind, text, **more)})


def off(text: str, **more: Any) -> bool:
    """A flag that is off unless it is switched on."""
    return option(Flag(), default=False, text=text, **more)


def on(text: str, **more: Any) -> bool:
    """A flag that is on unless it is switched off."""
    return option(Flag(), default=True, text=text, **more)
