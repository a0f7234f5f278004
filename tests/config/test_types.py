"""Option types: from notation to value and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiowsgi.config.types import (
    Auto,
    Choice,
    Duration,
    Flag,
    Integer,
    ListOf,
    Mode,
    OptionType,
    Parsed,
    Size,
    Text,
)
from aiowsgi.suggest import did_you_mean


def even(text: str) -> int:
    """A parser for tests: even digits."""
    if not text.isdigit() or int(text) % 2:
        raise ValueError(f"{text!r} is not even")
    return int(text)


WORDS = Choice(("auto", "on", "off"), {"true": "on"})
EVEN = Parsed("EVEN", even)


@pytest.mark.parametrize(
    ("option_type", "written", "value"),
    [
        (Text("FILE"), "a b", "a b"),
        (Text("FILE"), Path("/run/x"), "/run/x"),
        (EVEN, "12", 12),
        (EVEN, 12, 12),
        (WORDS, "ON", "on"),
        (WORDS, True, "on"),
        (Flag(), "Yes", True),
        (Flag(), "1", True),
        (Flag(), "off", False),
        (Flag(), False, False),
        (Integer(), "007", 7),
        (Integer(), 0, 0),
        (Integer(minimum=-3), "-3", -3),
        (Mode(), "660", 0o660),
        (Mode(), "0o22", 0o22),
        (Mode(), 0o777, 0o777),
        (Duration(), "30", 30.0),
        (Duration(), "30s", 30.0),
        (Duration(), "2m", 120.0),
        (Duration(), "1.5s", 1.5),
        (Duration(), "1.1m", 66.0),
        (Duration(), "500ms", 0.5),
        (Duration(), "12h", 43200.0),
        (Duration(), "1d", 86400.0),
        (Duration(), 75, 75.0),
        (Duration(), 0.25, 0.25),
        (Duration(), 0, 0.0),
        (Duration(), "inf", 0.0),
        (Duration(), math.inf, 0.0),
        (Duration(forever=math.inf), "inf", math.inf),
        (Duration(forever=math.inf), math.inf, math.inf),
        (Size(), "65536", 65536),
        (Size(), "64k", 65536),
        (Size(), "1M", 1 << 20),
        (Size(), "1g", 1 << 30),
        (Size(), 12, 12),
        (Auto(Integer()), "auto", None),
        (Auto(Integer()), None, None),
        (Auto(Integer()), "3", 3),
        (ListOf(Integer()), "1, 2,,3", (1, 2, 3)),
        (ListOf(Integer()), ["1", 2], (1, 2)),
        (ListOf(Integer()), (), ()),
        (ListOf(Text("X"), " "), "a,b  c", ("a,b", "c")),
        (ListOf(Text("X")), ["a,b"], ("a,b",)),
    ],
)
def test_convert(option_type: OptionType[Any], written: object, value: object) -> None:
    """A notation is converted; the value and its TOML value convert to the same value."""
    read = option_type.convert(written)
    assert read == value
    assert type(read) is type(value)
    assert option_type.convert(read) == value
    assert option_type.convert(option_type.to_toml(read)) == value


@pytest.mark.parametrize(
    ("option_type", "written", "complaint"),
    [
        (Text("FILE"), "", "empty"),
        (Text("FILE"), "a\0b", "NUL"),
        (Text("FILE"), 3, "3 is not a string"),
        (EVEN, "3", "not even"),
        (WORDS, "onn", "'onn' is none of auto, on, off; did you mean on?"),
        (Flag(), "maybe", "'maybe' is not a truth value"),
        (Flag(), 2, "not a truth value"),
        (Integer(), "x", "'x' is not a whole number"),
        (Integer(), "1_0", "not a whole number"),
        (Integer(), "\N{ARABIC-INDIC DIGIT ONE}", "not a whole number"),
        (Integer(), " 1", "not a whole number"),
        (Integer(), True, "True is not a whole number"),
        (Integer(), 1.5, "1.5 is not a whole number"),
        (Integer(), None, "None is not a whole number"),
        (Integer(minimum=1), "0", "0 is too small; the minimum is 1"),
        (Integer(maximum=9), 10, "10 is too large; the maximum is 9"),
        (Mode(), "68", "'68' is not octal"),
        (Mode(), 660, "0o1224 is not between"),
        (Mode(), -1, "not between"),
        (Mode(), True, "not a mode"),
        (Duration(), "75x", "'75x' is not a time"),
        (Duration(), "", "not a time"),
        (Duration(), "-1", "not a time"),
        (Duration(), -1.0, "not a time"),
        (Duration(), "1e3", "not a time"),
        (Duration(), True, "True is not a time"),
        (Duration(forever=None), math.inf, "inf is not a time"),
        (Duration(forever=None), "inf", "'inf' is not a time"),
        (Duration(), math.nan, "nan is not a time"),
        (Duration(), "4000d", "too long"),
        (Size(), "1.5M", "'1.5M' is not a size"),
        (Size(), "64kB", "not a size"),
        (Size(), -1, "not a size"),
        (Size(), 0.5, "0.5 is not a size"),
        (Auto(Integer()), "automatic", "not a whole number"),
        (ListOf(Integer()), "1,x", "'x' is not a whole number"),
        (ListOf(Integer()), 3, "3 is not a list"),
        (ListOf(Integer()), {"a": 1}, "is not a list"),
        (ListOf(Text("X")), b"ab", "is not a list"),
    ],
)
def test_refuse(option_type: OptionType[Any], written: object, complaint: str) -> None:
    """A value that is not accepted raises ValueError that quotes it and says what is expected."""
    with pytest.raises(ValueError, match=r".") as caught:
        option_type.convert(written)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("option_type", "value", "toml"),
    [
        (Text("FILE"), "x", "x"),
        (EVEN, 4, "4"),
        (Flag(), True, True),
        (Integer(), 3, 3),
        (Mode(), 0o22, "022"),
        (Duration(), 75.0, "75s"),
        (Duration(), 1.5, "1.5s"),
        (Duration(), 100.0, "100s"),
        (Duration(), 0.0, "0"),
        (Duration(forever=math.inf), math.inf, "inf"),
        (Size(), 0, 0),
        (Size(), 1000, 1000),
        (Size(), 1536, 1536),
        (Size(), 8192, "8k"),
        (Size(), 1 << 30, "1G"),
        (Auto(Duration()), None, "auto"),
        (Auto(Duration()), 2.0, "2s"),
        (ListOf(Size()), (1024, 3), ["1k", "3"]),
    ],
)
def test_to_toml(option_type: OptionType[Any], value: object, toml: object) -> None:
    """A value is shown in its shortest notation."""
    assert option_type.to_toml(value) == toml


@pytest.mark.parametrize(
    ("option_type", "metavar"),
    [
        (Text("FILE"), "FILE"),
        (EVEN, "EVEN"),
        (WORDS, "auto|on|off"),
        (Flag(), ""),
        (Integer(), "N"),
        (Auto(Integer()), "N|auto"),
        (ListOf(Size()), "SIZE"),
    ],
)
def test_metavar(option_type: OptionType[Any], metavar: str) -> None:
    """Each option type has a placeholder for the help."""
    assert option_type.metavar == metavar


@given(st.floats(0, 1e8))
def test_durations_survive(seconds: float) -> None:
    """Every duration converts back from its notation, to the microsecond."""
    option_type = Duration()
    value = option_type.convert(seconds)
    assert value == pytest.approx(seconds, abs=1e-6)
    assert option_type.convert(option_type.to_toml(value)) == value


@given(st.integers(0, 1 << 50))
def test_sizes_survive(size: int) -> None:
    """Every size converts back from its notation, exactly."""
    option_type = Size()
    assert option_type.convert(option_type.to_toml(size)) == option_type.convert(size) == size


@pytest.mark.parametrize(("name", "hint"), [("thread", "; did you mean threads?"), ("zzz", "")])
def test_did_you_mean(name: str, hint: str) -> None:
    """A similar name is suggested, a different one is not."""
    assert did_you_mean(name, ["threads", "workers"]) == hint
