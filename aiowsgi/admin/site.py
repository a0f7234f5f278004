"""Starts the admin endpoint: health, pages, authentication and the sampler of the status."""

from __future__ import annotations

import asyncio
import logging
import platform
from typing import TYPE_CHECKING, Protocol

from aiowsgi.admin.auth import require_auth
from aiowsgi.admin.history import StatusHistory
from aiowsgi.admin.pages import pages
from aiowsgi.admin.server import Admin, health
from aiowsgi.config.values import is_public
from aiowsgi.net.address import UnixAddress
from aiowsgi.status.aggregate import Detail

if TYPE_CHECKING:
    from aiowsgi.admin.auth import Token
    from aiowsgi.http1.messages import HeadParser
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.status.metrics import Tree

__all__ = ["ObservedServer", "serve_admin"]

logger = logging.getLogger("aiowsgi.admin")


class ObservedServer(Protocol):
    """The server that the endpoint reports on."""

    def unready(self) -> str:
        """Why no requests should come, as far as that is known without asking the workers; empty
        if they may."""

    async def look(self, interest: Detail = Detail.FIGURES) -> Tree:
        """The status now (``status/aggregate.py``), whose ``unready`` includes the workers'."""


async def serve_admin(
    server: ObservedServer,
    parse_head: HeadParser,
    listeners: Listeners,
    token: Token | None,
    *,
    app: str = "",
) -> Admin:
    """Answer on ``listeners``, on the running loop; the caller closes what is returned.

    ``app`` is the name of the application, for the page's title.
    """
    facts = {"app": app, "token": token is not None, **_facts()}

    async def status(detail: Detail = Detail.FIGURES) -> Tree:
        return await server.look(detail) | facts

    history = StatusHistory(status)

    async def unready() -> str:
        # What is known here is of now; what the workers say is a second old at most.
        return server.unready() or str((await history.latest())["workers_unready"])

    handlers = pages(status, history)
    # The permissions of a unix socket say who may connect.
    if token is not None or not all(isinstance(one.address, UnixAddress) for one in listeners):
        handlers = require_auth(handlers, token)
    admin = Admin(parse_head, {**health(unready), **handlers})
    await admin.start(listeners)
    admin.tasks.append(asyncio.get_running_loop().create_task(history.run()))
    for url in listeners.urls("http"):
        logger.info("the admin endpoint is at %s", url)
    if public := [str(one.address) for one in listeners if is_public(str(one.address))]:
        logger.warning(
            "other machines can reach the admin endpoint at %s: only its token protects paths,"
            " client addresses and stacks, and the connection is not encrypted",
            ", ".join(public),
        )
    return admin


def _facts() -> dict[str, str]:
    """What identifies the server on the page and in the metrics."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("aiowsgi")
    except PackageNotFoundError:
        own = ""
    return {"version": own, "python": platform.python_version(), "host": platform.node()}
