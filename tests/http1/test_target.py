"""Splitting request-targets; refusals are rows of the wire table."""

import pytest

from aiowsgi.exceptions import RequestError
from aiowsgi.http1.target import check_authority, parse_target


@pytest.mark.parametrize(
    ("method", "target", "parts"),
    [
        ("GET", "/", ("/", "", None)),
        ("GET", "/a/b?c=d", ("/a/b", "c=d", None)),
        ("GET", "/a?b?c", ("/a", "b?c", None)),
        ("GET", "/a?", ("/a", "", None)),
        ("GET", "//h/a", ("//h/a", "", None)),
        ("OPTIONS", "*", ("*", "", None)),
        ("GET", "http://h/a?b", ("/a", "b", "h")),
        ("GET", "https://h:443/a?b?c", ("/a", "b?c", "h:443")),
        ("GET", "http://h", ("/", "", "h")),
        ("GET", "http://h?b", ("/", "b", "h")),
        ("GET", "http://h?", ("/", "", "h")),
        ("GET", "HTTP://h/", ("/", "", "h")),
        ("GET", "http://[::1]:8000/a", ("/a", "", "[::1]:8000")),
        ("OPTIONS", "http://h", ("*", "", "h")),
        ("OPTIONS", "http://h/", ("/", "", "h")),
        ("OPTIONS", "http://h?b", ("/", "b", "h")),
        ("OPTIONS", "http://h?", ("/", "", "h")),
    ],
)
def test_parts(method: str, target: str, parts: tuple[str, str, str | None]) -> None:
    """A target is split into path and query, undecoded, and the authority of an absolute-form."""
    assert parse_target(method, target) == parts


def taken(authority: str) -> bool:
    """Return whether the host is accepted."""
    try:
        check_authority(authority)
    except RequestError:
        return False
    return True


DIGITS = set("0123456789")
HEX_DIGITS = DIGITS | set("abcdefABCDEF")
LETTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.mark.parametrize(
    ("authority", "allowed"),
    [
        ("{}", DIGITS | LETTERS | set("-._~!$&'()*+;=")),
        ("a%{}0", HEX_DIGITS),
        ("a%0{}", HEX_DIGITS),
        ("a:{}", DIGITS),
        ("[::{}]", HEX_DIGITS),
        ("[::1]:{}", DIGITS),
        ("[::1]{}80", set(":")),
    ],
)
def test_which_characters_may_stand(authority: str, allowed: set[str]) -> None:
    """Exactly the characters that RFC 3986 allows are accepted, except the comma."""
    assert {c for c in map(chr, range(0x180)) if taken(authority.format(c))} == allowed


@pytest.mark.parametrize(
    ("authority", "is_taken"),
    [
        ("", False),
        ("a" * 255, True),
        ("a" * 256, False),
        ("%41" * 255, True),
        ("%41" * 256, False),
        ("a:", True),
        ("a:65535", True),
        ("a:65536", False),
        ("a:00080", True),
        ("a:000080", False),
        ("[::]", True),
        ("[::]:", True),
        ("[::]:65535", True),
        ("[::]:65536", False),
        ("[::]:000080", False),
        ("[:]", False),
        ("[]", False),
        ("[1111:2222:3333:4444:5555:6666:123.123.123.123]", True),
        ("[v1.a]", False),
        ("[::1%25eth0]", False),
    ],
)
def test_lengths_and_ports(authority: str, is_taken: bool) -> None:
    """A name has at most 255 characters, a port at most five digits; IPv6 is in brackets."""
    assert taken(authority) is is_taken
