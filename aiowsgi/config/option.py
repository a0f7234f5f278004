"""The ``Option`` type, and functions that declare a field of ``Config`` as an option.

An `Option` has the type of the value (``config/types.py``), the help text and additional spellings;
its name and default are those of the field. The list of options is in ``config/options.py``. The
sources of their values are in ``config/sources.py``.
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
    """The metadata of a field of ``Config``."""

    type: OptionType[Any]
    help: str
    """Help text; it begins with what the option sets. Plain text that also reads well as
    Markdown."""
    section: str = ""
    """Title of the section that begins with this option; empty if the option continues a
    section."""
    flags: tuple[str, ...] = ()
    """Additional flags, such as ``-b`` or ``--ssl-certfile``."""
    variables: Mapping[str, str | None] = MappingProxyType({})
    """Conventional environment variables. The value replaces the variable's own text, as for
    NO_COLOR; None uses that text."""

    def convert(self, value: object, label: str) -> Any:
        """Return the normalised ``value``; raises ConfigError with a message that begins with
        ``label``."""
        try:
            return self.type.convert(value)
        except ValueError as error:
            raise ConfigError(f"{label}: {error}") from None


# These functions are annotated to return the default's type, as dataclasses.field() is, so that a
# type checker sees "name: type = default".


@overload
def option(option_type: OptionType[T], default: None, help_text: str, **more: Any) -> T | None: ...


@overload
def option(option_type: OptionType[T], default: T, help_text: str, **more: Any) -> T: ...


def option(option_type: OptionType[Any], default: Any, help_text: str, **more: Any) -> Any:
    """Declare a field of ``Config``; ``more`` are further fields of `Option`."""
    return field(default=default, metadata={"option": Option(option_type, help_text, **more)})


def off(help_text: str, **more: Any) -> bool:
    """Declare a flag that is off by default."""
    return option(Flag(), default=False, help_text=help_text, **more)


def on(help_text: str, **more: Any) -> bool:
    """Declare a flag that is on by default."""
    return option(Flag(), default=True, help_text=help_text, **more)
