"""Request-targets taken apart; the refusals are rows of the wire table."""

import pytest

from aiowsgi.http1.target import parse_target


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
    """A target gives path and query undecoded, and the authority of an absolute-form."""
    assert parse_target(method, target) == parts
