r"""Files of environment variables: ``--env-file``.

A plain install must be able to read one, and the grammar that all tools agree upon is this small;
so it is read here and by no library. Stricter than most: what cannot be understood is an error
with its line, never skipped. ::

    # comment                       export NAME=value
    NAME=value with spaces          NAME='as it stands: \n $HOME'
    NAME=value # comment            NAME="escapes: \n \t \" \\"     # comment

Nothing is expanded: ``$`` means itself. A value stays on its line.
"""

from __future__ import annotations

import re
from typing import Final

from aiowsgi.exceptions import ConfigError

__all__ = ["parse_env_file"]

_BLANK: Final = re.compile(r"\s*(?:#.*)?")

_ASSIGNMENT: Final = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=
    (?: \s*'(?P<literal>[^']*)' | \s*"(?P<escaped>(?:[^"\\]|\\.)*)" | (?P<bare>(?!\s*['"]).*?) )
    (?:\s+\#.*)?\s*""",
    re.VERBOSE,
)

_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


def parse_env_file(text: str, name: str) -> dict[str, str]:
    """The variables that ``text`` sets, in its order.

    Raises ConfigError, with ``name`` and the line, for what is no assignment, and for a variable
    that is set twice.
    """
    variables: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if _BLANK.fullmatch(line):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            # The line is not shown: what stands in such files is often a secret.
            raise ConfigError(f"{name}, line {number}: not of the form NAME=value")
        if match["name"] in variables:
            raise ConfigError(f"{name}, line {number}: {match['name']} is set a second time")
        variables[match["name"]] = _value(match, f"{name}, line {number}")
    return variables


def _value(match: re.Match[str], where: str) -> str:
    if (escaped := match["escaped"]) is None:
        return match["bare"].strip() if match["literal"] is None else match["literal"]

    def unescape(sequence: re.Match[str]) -> str:
        try:
            return _ESCAPES[sequence[1]]
        except KeyError:
            raise ConfigError(f"{where}: unknown escape {sequence[0]}") from None

    return re.sub(r"\\(.)", unescape, escaped)
