"""Parsing files of environment variables."""

from __future__ import annotations

import pytest

from aiowsgi.config.env_file import parse_env_file
from aiowsgi.exceptions import ConfigError


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        ("\n  \n# a comment\n\t# another", {}),
        ("A=1\nB=2\r\n", {"A": "1", "B": "2"}),
        ("export A=1", {"A": "1"}),
        ("  A = 1  ", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A= # nothing", {"A": ""}),
        ("A=two words # and a comment", {"A": "two words"}),
        ("A=a#b", {"A": "a#b"}),
        ("A=#b", {"A": "#b"}),
        ("A=x=y", {"A": "x=y"}),
        ("A=it's", {"A": "it's"}),
        ("A=$HOME", {"A": "$HOME"}),
        ("A=C:\\new", {"A": "C:\\new"}),
        ("A='as it \\n stands # here' # comment", {"A": "as it \\n stands # here"}),
        (r'A="a \"b\" \\ # c\n\t\r" # d', {"A": 'a "b" \\ # c\n\t\r'}),
        ("A=''", {"A": ""}),
        ("export=1", {"export": "1"}),
    ],
)
def test_parse(text: str, variables: dict[str, str]) -> None:
    """Assignments are read with their quotes, escapes and comments, and nothing is expanded."""
    assert parse_env_file(text, ".env") == variables


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("A=1\nB", ".env, line 2: not of the form NAME=value"),
        ("1A=x", "line 1: not of the form"),
        ("A-B=x", "line 1: not of the form"),
        ('A="open', "line 1: not of the form"),
        ("A='open", "line 1: not of the form"),
        ("A='x'y", "line 1: not of the form"),
        ("A='x'#y", "line 1: not of the form"),
        (r'A="\x"', r"line 1: unknown escape \x"),
        ("A=1\nA=2", "line 2: A is set a second time"),
    ],
)
def test_refuse(text: str, complaint: str) -> None:
    """A line that is not an assignment is an error that names the line."""
    with pytest.raises(ConfigError) as caught:
        parse_env_file(text, ".env")
    assert complaint in str(caught.value)


def test_secret() -> None:
    """An error does not quote the line, which may contain a secret."""
    with pytest.raises(ConfigError) as caught:
        parse_env_file("PASSWORD: hunter2", ".env")
    assert "hunter2" not in str(caught.value)
