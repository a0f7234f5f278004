"""The kinds of values that options have: what may be written, and what it is worth.

A kind reads whatever a source offers (text of a command line or a variable; text, numbers, truth
values and arrays of TOML; values of Python) and gives one normalised value: seconds as float,
sizes as int bytes, lists as tuples. It reads its own results back unchanged, in either direction:
``read(plain(value)) == value == read(value)``. What it cannot read is a ValueError whose text
completes the sentence "--option: ...".

No option is known here (``config/options.py``), nor where its value comes from
(``config/sources.py``). The kinds are named tuples, not dataclasses: ten classes are made at every
start, each in a sixth of the time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from aiowsgi.suggest import did_you_mean

__all__ = [
    "Auto",
    "Choice",
    "Duration",
    "Flag",
    "Integer",
    "Listing",
    "Mode",
    "OptionType",
    "Parsed",
    "Plain",
    "Size",
    "Text",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Plain: TypeAlias = bool | int | str | list[str]
"""What TOML can hold of an option: the notation in which values are shown to people."""


class OptionType(Protocol[T_co]):
    """One kind of value."""

    @property
    def metavar(self) -> str:
        """What stands for the value in ``--help``; empty for a flag, which takes none."""

    def read(self, value: object) -> T_co:
        """Normalise ``value``; raises ValueError saying what was expected."""

    def plain(self, value: Any) -> Plain:
        """The notation of a normalised value."""


# Words and switches


class Text(NamedTuple):
    """A string that is taken as it is: a path, a name."""

    metavar: str

    def read(self, value: object) -> str:
        """Take a string or a path, which may not be empty."""
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text")
        if not value or "\0" in value:
            raise ValueError(f"{value!r} is empty or holds a NUL")
        return value

    def plain(self, value: str) -> str:
        """The string itself."""
        return value


class Parsed(NamedTuple, Generic[T]):
    """A string with a grammar of its own, whose value's ``str()`` is its canonical notation."""

    metavar: str
    grammar: Callable[[str], T]
    """Gives the value, or raises ValueError."""

    def read(self, value: object) -> T:
        """Take a string, or a value that ``grammar`` once gave."""
        return self.grammar(value if isinstance(value, str) else str(value))

    def plain(self, value: T) -> str:
        """The canonical notation."""
        return str(value)


class Choice(NamedTuple):
    """One of a few words."""

    words: tuple[str, ...]
    synonyms: Mapping[str, str] = MappingProxyType({})
    """Other spellings that users of other servers know, and the word that each means."""

    @property
    def metavar(self) -> str:
        """The words, as one picks among them."""
        return "|".join(self.words)

    def read(self, value: object) -> str:
        """Take one of the words, in any case."""
        word = str(value).lower()
        word = self.synonyms.get(word, word)
        if word not in self.words:
            hint = did_you_mean(word, self.words)
            raise ValueError(f"{value!r} is none of {', '.join(self.words)}{hint}")
        return word

    def plain(self, value: str) -> str:
        """The word itself."""
        return value


_TRUTH: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


class Flag(NamedTuple):
    """Yes or no."""

    metavar: str = ""

    def read(self, value: object) -> bool:
        """Take a truth value or one of the usual words for it."""
        if isinstance(value, bool):
            return value
        try:
            return _TRUTH[str(value).lower()]
        except KeyError:
            raise ValueError(f"{value!r} is neither true nor false (yes, no, on, off)") from None

    def plain(self, value: bool) -> bool:  # noqa: FBT001 - the value is what this is about
        """The truth value itself."""
        return value


# Numbers


def _whole(value: object, expected: str) -> int:
    """A whole number from a number or from decimal digits; a truth value is no number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # int() by itself would take "1_000", " 7 " and digits of every script.
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    raise ValueError(f"{value!r} is not {expected}")


class Integer(NamedTuple):
    """A whole number within bounds, both inclusive."""

    minimum: int = 0
    maximum: int | None = None
    metavar: str = "N"

    def read(self, value: object) -> int:
        """Take a whole number or its decimal digits."""
        number = _whole(value, "a whole number")
        if number < self.minimum:
            raise ValueError(f"{value} is too small; the least is {self.minimum}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"{value} is too large; the most is {self.maximum}")
        return number

    def plain(self, value: int) -> int:
        """The number itself."""
        return value


class Mode(NamedTuple):
    """Permission bits of a file, written in octal digits as chmod(1) takes them."""

    metavar: str = "MODE"

    def read(self, value: object) -> int:
        """Take octal digits (``660``, ``0o660``), or a number, which is taken by its value."""
        if isinstance(value, str):
            if not re.fullmatch(r"(0o)?[0-7]{1,4}", value):
                raise ValueError(f"{value!r} is not octal; write digits from 0 to 7, as in 660")
            value = int(value, 8)
        mode = _whole(value, "a mode")
        if not 0 <= mode <= 0o777:
            raise ValueError(f"{mode:#o} is not within 0 and 0o777; write 0o660, or '660' as text")
        return mode

    def plain(self, value: int) -> str:
        """Octal digits in a string: TOML's 0o660 would be shown as 432 by other tools."""
        return f"{value:03o}"


_SECONDS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_LONGEST: Final = 10 * 365 * 86400.0
"""Ten years in seconds: longer than any use, short enough for every clock and timer."""


class Duration(NamedTuple):
    """A span of time, in seconds; 0 means off, or at once."""

    metavar: str = "TIME"

    def read(self, value: object) -> float:
        """Take ``30``, ``30s``, ``2m``, ``1.5s``, ``500ms``, ``12h``, ``1d``, or a number."""
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd]?)", _number_text(value))
        if match is None:
            raise ValueError(f"{value!r} is not a time; write 30, 30s, 2m, 1.5s or 500ms")
        # Rounded to the microsecond, so that 1.1 * 60 is what its reader thinks it is.
        seconds = round(float(match[1]) * _SECONDS[match[2]], 6)
        if seconds > _LONGEST:
            raise ValueError(f"{value} is too long; the most is ten years")
        return seconds

    def plain(self, value: float) -> str:
        """Seconds, whole where they are whole."""
        return f"{value:f}".rstrip("0").rstrip(".") + ("s" if value else "")


_BYTES: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class Size(NamedTuple):
    """A number of bytes."""

    metavar: str = "SIZE"

    def read(self, value: object) -> int:
        """Take ``65536``, ``64k``, ``1M``, ``1G`` (powers of 1024), or a whole number."""
        match = re.fullmatch(r"([0-9]{1,18})([kmgKMG]?)", _number_text(value))
        if match is None:
            raise ValueError(f"{value!r} is not a size; write bytes, or 64k, 1M, 1G")
        return int(match[1]) * _BYTES[match[2].lower()]

    def plain(self, value: int) -> int | str:
        """The shortest exact notation."""
        for unit in ("G", "M", "k"):
            count, rest = divmod(value, _BYTES[unit.lower()])
            if count and not rest:
                return f"{count}{unit}"
        return value


def _number_text(value: object) -> str:
    """Digits of a number, or text as it is; nothing that the grammars above would take otherwise.

    A float's own repr may have an exponent, which no operator writes and no grammar here reads.
    """
    if isinstance(value, float):
        return f"{value:.6f}".removesuffix(".000000")
    return "" if isinstance(value, bool) else str(value)


# Kinds made of kinds


class Auto(NamedTuple, Generic[T]):
    """Another kind's value, or ``auto``, which is None in Python: decided when it is needed."""

    kind: OptionType[T]

    @property
    def metavar(self) -> str:
        """The other kind's, and the word."""
        return f"{self.kind.metavar}|auto"

    def read(self, value: object) -> T | None:
        """Take None, the word, or what the other kind takes."""
        return None if value is None or value == "auto" else self.kind.read(value)

    def plain(self, value: T | None) -> Plain:
        """The word, or the other kind's notation."""
        return "auto" if value is None else self.kind.plain(value)


class Listing(NamedTuple, Generic[T]):
    """Several values: a repeated flag, an array, or one text with separators."""

    kind: OptionType[T]
    separator: str = ","
    """Between the items of one text."""

    @property
    def metavar(self) -> str:
        """That of one item."""
        return self.kind.metavar

    def split(self, text: str) -> list[str]:
        """The items of one text."""
        return [item.strip() for item in text.split(self.separator) if item.strip()]

    def read(self, value: object) -> tuple[T, ...]:
        """Take text, or any iterable whose items are taken as they are, commas and all."""
        items = self.split(value) if isinstance(value, str) else value
        if not isinstance(items, Iterable) or isinstance(items, (bytes, Mapping)):
            raise ValueError(f"{value!r} is not a list")
        return tuple(self.kind.read(item) for item in items)

    def plain(self, value: tuple[T, ...]) -> list[str]:
        """The items' notations."""
        return [str(self.kind.plain(item)) for item in value]


# Hints
