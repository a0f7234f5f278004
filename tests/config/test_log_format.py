"""Formats of the access log: what is one, and what is said of what is none."""

from __future__ import annotations

import pytest

from aiowsgi.config.log_format import ATOMS, DEFAULT_FORMAT, NAMED_FORMATS, parse_log_format
from aiowsgi.config.options import Config


@pytest.mark.parametrize(
    "text", [*NAMED_FORMATS, '%(h)s "%(r)s"', "100%%\t%({Via}i)s é", *(f"%({a})s" for a in ATOMS)]
)
def test_accept(text: str) -> None:
    """Names, literal text and every atom of the table."""
    assert parse_log_format(text) == text


@pytest.mark.parametrize("text", [text for text in NAMED_FORMATS.values() if text])
def test_a_named_format_is_a_format(text: str) -> None:
    """The text of a name is of the same grammar."""
    assert parse_log_format(text) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("combine", "did you mean combined?"),
        ("", "'' is none of timed, combined, common, json"),
        ("%(x)s", "there is no atom %(x)s; there are time, t, h, "),
        ("%(x)s", "write_ms, p, {name}i, {name}o and {KEY}e"),
        ("%(S)s", "there is no atom %(S)s; did you mean s?"),
        ("%(duration)s", "no atom %(duration)s; did you mean duration_ms?"),
        ("%()s", "there is no atom %()s"),
        ("%({x-y})s", "there is no atom %({x-y})s; write %({name}i)s"),
        ("%({x-y}z)s", "write %({name}i)s, %({name}o)s or %({KEY}e)s"),
        ("%({}i)s", "there is no atom"),
        ("%(h)s %s", "'%s' does not begin with an atom; write %% for a percent sign"),
        ("%(h)d", "'%(h)d' does not begin with an atom"),
        ("100%", "'%' does not begin with an atom"),
        ("%(h)s\n", "a format may contain tabs, but no line end"),
        ("%(h)s\x1b[0m", "no line end or other control character"),
        ("%(h)s\ud800", "no line end or other control character"),
    ],
)
def test_refuse(text: str, complaint: str) -> None:
    """The message says what is wrong, and what is near."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_log_format(text)
    assert complaint in str(caught.value)


def test_the_default_is_a_named_format() -> None:
    """The option's default and the table's are the same."""
    assert Config().access_logformat == DEFAULT_FORMAT in NAMED_FORMATS


def test_every_atom_says_what_it_means() -> None:
    """The meanings are what documentation is made of; members of JSON have one name each."""
    assert all(atom.meaning for atom in ATOMS.values())
    members = [atom.member for atom in ATOMS.values() if atom.member]
    assert len(members) == len(set(members)) == 17
