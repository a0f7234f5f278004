"""The admin endpoint as a whole: health for probes, pages for who may see them, and a warning.

It is put together here for who has something to show, a supervisor or a server by itself; with
what is shown and to whom, ``admin/pages.py`` and ``admin/auth.py`` are concerned.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol

from aiowsgi.admin.auth import guarded
from aiowsgi.admin.pages import CachedStatus, pages
from aiowsgi.admin.server import Admin, health
from aiowsgi.config.values import is_public
from aiowsgi.net.address import UnixAddress
from aiowsgi.status.aggregate import Detail

if TYPE_CHECKING:
    from aiowsgi.admin.auth import Token
    from aiowsgi.http1.messages import HeadParser
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.status.metrics import Tree

__all__ = ["Shown", "serve_admin"]

logger = logging.getLogger("aiowsgi.admin")


class Shown(Protocol):
    """What the endpoint tells of."""

    def unready(self) -> str:
        """Why no requests should come, as far as that is known without asking the workers; empty
        if they may."""

    async def look(self, interest: Detail = Detail.FIGURES) -> Tree:
        """An overview of now, in which ``unready`` is the whole truth; see
        ``status/aggregate.py``."""


async def serve_admin(
    shown: Shown, parse_head: HeadParser, listeners: Listeners, token: Token | None
) -> Admin:
    """Answer on ``listeners``, on the running loop; the caller closes what is returned."""
    handlers = pages(shown.look)
    recent = CachedStatus(partial(shown.look, Detail.HEALTH))

    async def unready() -> str:
        # Probes need no token. So that nobody can keep the workers busy with them, what they say is
        # good for a moment; what is known here is not asked for.
        return shown.unready() or str((await recent.get())["unready"])

    # Who may connect to a unix socket, its permissions say.
    if token is not None or not all(isinstance(one.address, UnixAddress) for one in listeners):
        handlers = guarded(handlers, token)
    admin = Admin(parse_head, {**health(unready), **handlers})
    await admin.start(listeners)
    for url in listeners.urls("http"):
        logger.info("the admin endpoint is at %s", url)
    if public := [str(one.address) for one in listeners if is_public(str(one.address))]:
        logger.warning(
            "THE ADMIN ENDPOINT CAN BE REACHED FROM OTHER MACHINES, at %s: its token alone protects"
            " paths, client addresses and stacks, and nothing is encrypted",
            ", ".join(public),
        )
    return admin
