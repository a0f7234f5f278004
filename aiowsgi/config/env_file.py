r"""Parses files of environment variables (``--env-file``).

The syntax is the part that dotenv libraries, Docker and systemd agree on, so the server needs no
library for it. A line that is none of these forms is an error, never skipped::

    # comment                       export NAME=value
    NAME=value with spaces          NAME='literal: \n $HOME'
    NAME=value # comment            NAME="escapes: \n \t \" \\"     # comment

Nothing is expanded: ``$`` is an ordinary character. A value ends with its line.
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
    """Parse ``text`` and return its variables in order.

    Raises ConfigError with ``name`` and the line number for a line that is not an assignment and
    for a variable that is set twice.
    """
    variables: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if _BLANK.fullmatch(line):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            # The message does not quote the line: these files often contain secrets.
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
