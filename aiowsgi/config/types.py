"""Option types: which notations an option accepts, and the value each stands for.

An option type converts what a source provides (text of the command line or of a variable; text,
numbers, booleans and arrays of TOML; Python values) to one normalised value: seconds as float,
sizes as int, lists as tuples. Conversion is idempotent, and TOML values convert back:
``convert(to_toml(value)) == value == convert(value)``. A value that is not accepted raises
ValueError; its text completes the sentence "--option: ...".

The options are in ``config/options.py``, their sources in ``config/sources.py``. The types are
named tuples because defining a dataclass takes six times as long, at every start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from math import inf
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from aiowsgi.suggest import did_you_mean

__all__ = [
    "Auto",
    "Choice",
    "Duration",
    "Flag",
    "Integer",
    "ListOf",
    "Mode",
    "OptionType",
    "Parsed",
    "Size",
    "Text",
    "TomlValue",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

TomlValue: TypeAlias = bool | int | str | list[str]
"""A TOML value of an option, which is also the notation shown to people."""


class OptionType(Protocol[T_co]):
    """The type of an option's value."""

    @property
    def metavar(self) -> str:
        """Placeholder of the value in ``--help``; empty for a flag, which takes no value."""

    def convert(self, value: object) -> T_co:
        """Return the normalised ``value``; raises ValueError that says what was expected."""

    def to_toml(self, value: Any) -> TomlValue:
        """Return the TOML value of a normalised value."""


# Strings and flags


class Text(NamedTuple):
    """A non-empty string, such as a path or a name."""

    metavar: str

    def convert(self, value: object) -> str:
        """Accept a string or an ``os.PathLike``; refuse an empty one."""
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a string")
        if not value or "\0" in value:
            raise ValueError(f"{value!r} is empty or contains a NUL character")
        return value

    def to_toml(self, value: str) -> str:
        """Return the string."""
        return value


class Parsed(NamedTuple, Generic[T]):
    """A string that ``parse`` turns into a value; ``str()`` of the value is its canonical text."""

    metavar: str
    parse: Callable[[str], T]
    """Returns the value, or raises ValueError."""

    def convert(self, value: object) -> T:
        """Accept a string, or a value that ``parse`` has returned."""
        return self.parse(value if isinstance(value, str) else str(value))

    def to_toml(self, value: T) -> str:
        """Return the canonical text."""
        return str(value)


class Choice(NamedTuple):
    """One of several words."""

    words: tuple[str, ...]
    synonyms: Mapping[str, str] = MappingProxyType({})
    """Spellings of other servers, and the word that each stands for."""

    @property
    def metavar(self) -> str:
        """The words, separated by ``|``."""
        return "|".join(self.words)

    def convert(self, value: object) -> str:
        """Accept one of the words, in upper or lower case."""
        word = str(value).lower()
        word = self.synonyms.get(word, word)
        if word not in self.words:
            hint = did_you_mean(word, self.words)
            raise ValueError(f"{value!r} is none of {', '.join(self.words)}{hint}")
        return word

    def to_toml(self, value: str) -> str:
        """Return the word."""
        return value


_TRUTH: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


class Flag(NamedTuple):
    """A truth value."""

    metavar: str = ""

    def convert(self, value: object) -> bool:
        """Accept a truth value or one of the words for it."""
        if isinstance(value, bool):
            return value
        try:
            return _TRUTH[str(value).lower()]
        except KeyError:
            raise ValueError(
                f"{value!r} is not a truth value; write true, false, yes, no, on or off"
            ) from None

    def to_toml(self, value: bool) -> bool:  # noqa: FBT001 - the value is what this is about
        """Return the truth value."""
        return value


# Numbers


def _whole(value: object, expected: str) -> int:
    """Return an int from an int or from decimal digits; a bool is not accepted."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # int() also accepts "1_000", " 7 " and the digits of every script.
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    raise ValueError(f"{value!r} is not {expected}")


class Integer(NamedTuple):
    """A whole number between ``minimum`` and ``maximum``, both inclusive."""

    minimum: int = 0
    maximum: int | None = None
    metavar: str = "N"

    def convert(self, value: object) -> int:
        """Accept an int or decimal digits."""
        number = _whole(value, "a whole number")
        if number < self.minimum:
            raise ValueError(f"{value} is too small; the minimum is {self.minimum}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"{value} is too large; the maximum is {self.maximum}")
        return number

    def to_toml(self, value: int) -> int:
        """Return the number."""
        return value


class Mode(NamedTuple):
    """Permission bits of a file, in octal digits as for chmod(1)."""

    metavar: str = "MODE"

    def convert(self, value: object) -> int:
        """Accept octal digits (``660``, ``0o660``) as text, or an int."""
        if isinstance(value, str):
            if not re.fullmatch(r"(0o)?[0-7]{1,4}", value):
                raise ValueError(f"{value!r} is not octal; write digits from 0 to 7, as in 660")
            value = int(value, 8)
        mode = _whole(value, "a mode")
        if not 0 <= mode <= 0o777:
            raise ValueError(
                f"{mode:#o} is not between 0 and 0o777; write 0o660, or '660' as a string"
            )
        return mode

    def to_toml(self, value: int) -> str:
        """Return octal digits as a string: many tools would print TOML's 0o660 as 432."""
        return f"{value:03o}"


_UNIT_SECONDS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_MAX_SECONDS: Final = 10 * 365 * 86400.0
"""Ten years: longer than any use, short enough for every clock and timer."""


class Duration(NamedTuple):
    """A duration in seconds."""

    metavar: str = "TIME"
    forever: float | None = 0.0
    """What ``inf`` is: infinity, or 0 if that is off; None if it is refused."""

    def convert(self, value: object) -> float:
        """Accept ``30``, ``30s``, ``2m``, ``1.5s``, ``500ms``, ``12h``, ``inf``, or a number."""
        if self.forever is not None and value in ("inf", inf):
            return self.forever
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd]?)", _number_text(value))
        if match is None:
            raise ValueError(f"{value!r} is not a time; write 30, 30s, 2m, 1.5s or 500ms")
        # Rounded to microseconds: 4.1 * 60 is 245.99999999999997.
        seconds = round(float(match[1]) * _UNIT_SECONDS[match[2]], 6)
        if seconds > _MAX_SECONDS:
            raise ValueError(f"{value} is too long; the maximum is ten years")
        return seconds

    def to_toml(self, value: float) -> str:
        """Return the number of seconds with the unit, or ``inf``."""
        if value == inf:
            return "inf"
        return f"{value:f}".rstrip("0").rstrip(".") + ("s" if value else "")


_UNIT_BYTES: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class Size(NamedTuple):
    """A size in bytes."""

    metavar: str = "SIZE"

    def convert(self, value: object) -> int:
        """Accept ``65536``, ``64k``, ``1M``, ``1G`` (powers of 1024), or an int."""
        match = re.fullmatch(r"([0-9]{1,18})([kmgKMG]?)", _number_text(value))
        if match is None:
            raise ValueError(f"{value!r} is not a size; write bytes, or 64k, 1M, 1G")
        return int(match[1]) * _UNIT_BYTES[match[2].lower()]

    def to_toml(self, value: int) -> int | str:
        """Return the shortest exact notation."""
        for unit in ("G", "M", "k"):
            count, rest = divmod(value, _UNIT_BYTES[unit.lower()])
            if count and not rest:
                return f"{count}{unit}"
        return value


def _number_text(value: object) -> str:
    """Return a number's digits, or text unchanged; empty for a bool, which no pattern matches.

    A float's repr can have an exponent, which the patterns do not accept.
    """
    if isinstance(value, float):
        return f"{value:.6f}".removesuffix(".000000")
    return "" if isinstance(value, bool) else str(value)


# Option types made of option types


class Auto(NamedTuple, Generic[T]):
    """A value of another option type, or ``auto``: None, which the server resolves when it
    starts."""

    item: OptionType[T]

    @property
    def metavar(self) -> str:
        """The item's placeholder and the word ``auto``."""
        return f"{self.item.metavar}|auto"

    def convert(self, value: object) -> T | None:
        """Accept None, ``auto``, or a value of the other type."""
        return None if value is None or value == "auto" else self.item.convert(value)

    def to_toml(self, value: T | None) -> TomlValue:
        """Return ``auto``, or the other type's TOML value."""
        return "auto" if value is None else self.item.to_toml(value)


class ListOf(NamedTuple, Generic[T]):
    """Several values: a repeated flag, an array, or one text with separators."""

    item: OptionType[T]
    separator: str = ","
    """Separator of the items in one text."""

    @property
    def metavar(self) -> str:
        """The placeholder of one item."""
        return self.item.metavar

    def split(self, text: str) -> list[str]:
        """Return the items of one text."""
        return [item.strip() for item in text.split(self.separator) if item.strip()]

    def convert(self, value: object) -> tuple[T, ...]:
        """Accept text with separators, or an iterable; an item of an iterable is not split."""
        items = self.split(value) if isinstance(value, str) else value
        if not isinstance(items, Iterable) or isinstance(items, (bytes, Mapping)):
            raise ValueError(f"{value!r} is not a list")
        return tuple(self.item.convert(item) for item in items)

    def to_toml(self, value: tuple[T, ...]) -> list[str]:
        """Return the items' TOML values as strings."""
        return [str(self.item.to_toml(item)) for item in value]


# Hints
