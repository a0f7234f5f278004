"""Starting a worker process.

Workers are executed, not forked. Measured: a forked one would be up in 20 ms instead of 150 to 300,
and have 5 MB of memory to itself instead of 16. An executed one brings what years of uptime need
more: the code that is installed *now*, on every reload; no locks, loops
and descriptors of its parent; the same behaviour with every event loop, on free-threaded Python and
on macOS, where forking is not safe. The application, which is most of a worker, would not be shared
either way, since the supervisor does not import it.

posix_spawn(3) is used rather than ``subprocess``: the supervisor waits for all of its children by
itself, also for those that it inherits as process 1, and needs no object that does so too.

A worker begins with the interpreter's flags of this process, and with ``-P``: what lies in the
current directory must not be taken for a module of the standard library.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiowsgi.config.options import OPTIONS
from aiowsgi.config.types import Auto

if TYPE_CHECKING:
    from aiowsgi.config.options import Config
    from aiowsgi.config.types import OptionType
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.supervisor.channel import Message

__all__ = ["charge", "interpreter_flags", "spawn"]

# The directory that holds this package need not be on a new interpreter's path: it may have been
# the current one. Afterwards it must not stay before the standard library.
_BOOT: Final = (
    "import sys; root = sys.argv.pop(); sys.path.insert(0, root);"
    " from aiowsgi.supervisor.worker import main; sys.path.remove(root);"
    " sys.exit(main(int(sys.argv.pop())))"
)
_ROOT: Final = str(Path(__file__).parents[2])


def charge(app: str, config: Config, listeners: Listeners) -> Message:
    """The members of the first message to a worker: what it shall serve, and where."""
    options = {
        name: kind.to_toml(value)
        for name, value, kind in _values(config)
        # In the other kinds, None is what is not set, and has no notation.
        if value is not None or isinstance(kind, Auto)
    }
    sockets = [(one.socket.fileno(), one.name, one.inherited) for one in listeners]
    return {"app": app, "config": options, "sockets": sockets}


def _values(config: Config) -> Iterator[tuple[str, Any, OptionType[Any]]]:
    for field in fields(config):
        yield field.name, getattr(config, field.name), OPTIONS[field.name].type


def spawn(first: bytes, descriptors: Iterable[int]) -> tuple[int, socket.socket]:
    """Start a worker; returns its process id and our end of its channel.

    ``first`` is the message that waits for it, its `charge`; ``descriptors`` keep their numbers in
    it, and of all others only the standard ones are its too. Raises OSError.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            ours.sendall(first)
            pid = _spawn(theirs.fileno(), descriptors)
        except BaseException:
            ours.close()
            raise
    return pid, ours


def _spawn(channel: int, descriptors: Iterable[int]) -> int:
    command = [sys.executable, *interpreter_flags(sys.orig_argv), "-P", "-c", _BOOT]
    return os.posix_spawn(
        sys.executable,
        [*command, "aiowsgi-worker", str(channel), _ROOT],
        os.environ,
        # A descriptor that is duplicated to itself is inherited (posix_spawn_file_actions_adddup2).
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (channel, *descriptors)],
    )


_WITH_VALUE: Final = ("-X", "-W", "--check-hash-based-pycs")

# The word that names a program: a file, "-" for standard input, or one with -c or -m in it.
_PROGRAM: Final = re.compile(r"[^-]|-\Z|-([^WX-]*?)[cm]")


def interpreter_flags(command: Sequence[str]) -> list[str]:
    """The flags of the interpreter in its command line, without the program that it runs."""
    flags: list[str] = []
    words = iter(command[1:])
    for word in words:
        if program := _PROGRAM.match(word):
            # "-um" is "-u -m".
            flags += [f"-{program[1]}"] if program[1] else []
            break
        flags.append(word)
        if word in _WITH_VALUE:
            flags.append(next(words, ""))
    return flags
