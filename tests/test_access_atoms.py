"""Escaping, by itself."""

from __future__ import annotations

import pytest

from aiowsgi.access_atoms import bare, quoted


@pytest.mark.parametrize(
    ("text", "in_quotes", "outside"),
    [
        ("", "-", "-"),
        ("plain", "plain", "plain"),
        ("a b", "a b", r"a\x20b"),
        (" ", " ", r"\x20"),
        ('a"b', r"a\"b", r"a\"b"),
        ("a\\b", r"a\\b", r"a\\b"),
        ("\r\n\t\0", r"\x0d\x0a\x09\x00", r"\x0d\x0a\x09\x00"),
        ("\x1b[2J", r"\x1b[2J", r"\x1b[2J"),
        ("~\x7f\x80\xff", r"~\x7f\x80\xff", r"~\x7f\x80\xff"),
        ("\u2028\ud800", r"\u2028\ud800", r"\u2028\ud800"),
        ("\U0001f600", r"\U0001f600", r"\U0001f600"),
    ],
)
def test_escapes(text: str, in_quotes: str, outside: str) -> None:
    """Only printable ASCII comes out, and neither an open quote nor an open escape."""
    assert quoted([text]) == [in_quotes]
    assert bare([text]) == [outside]
