"""The tree of exceptions in the module's docstring, against the classes."""

from __future__ import annotations

import builtins
import re

import pytest

import aiowsgi
from aiowsgi import exceptions


def drawn():
    """The names of the tree, with the name above each; None at a root."""
    above = []
    for line in exceptions.__doc__.partition("::")[2].splitlines():
        name = re.match(r"    (?P<lines>[ │├└─]*)(?P<name>[A-Z]\w+)", line)
        if name is None:
            continue
        depth = len(name["lines"]) // 4
        above[depth:] = [name["name"]]
        yield name["name"], above[depth - 1] if depth else None


def class_of(name):
    """The exception of that name, the module's or Python's."""
    return getattr(exceptions, name, None) or getattr(builtins, name)


def test_every_exception_is_drawn():
    """None is missing in the tree, and the tree has none that is not there."""
    names = {name for name, _ in drawn()}
    assert names - {"Exception", "BaseException", "OSError"} == set(exceptions.__all__)


@pytest.mark.parametrize(("name", "parent"), list(drawn()))
def test_the_tree_is_that_of_the_classes(name, parent):
    """Each is drawn below a class that it derives from."""
    if parent is not None:
        assert issubclass(class_of(name), class_of(parent))
    if name in exceptions.__all__:
        assert not issubclass(class_of(name), Exception) or parent is not None


def test_a_request_that_timed_out_is_public_and_no_ordinary_exception():
    """An application can name it, and its handlers for everything let it pass."""
    assert aiowsgi.RequestTimedOut is exceptions.RequestTimedOut
    assert dict(drawn())["RequestTimedOut"] == "BaseException"
    assert not issubclass(aiowsgi.RequestTimedOut, Exception)
