"""``manage.py runserver`` on aiowsgi: with Django's reload, checks and static files in DEBUG.

Django's own command does everything but serving. It takes a server class with the interface of
``socketserver`` as far as it needs it, which `DevelopmentServer` has.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from django.conf import settings

from aiowsgi.config.options import Config
from aiowsgi.exceptions import BindError
from aiowsgi.net.address import TcpAddress, parse_bind
from aiowsgi.net.listeners import ListenOptions, open_listeners
from aiowsgi.server.server import Server
from aiowsgi.system.event_loop import loop_factory

if "django.contrib.staticfiles" in settings.INSTALLED_APPS:
    from django.contrib.staticfiles.management.commands.runserver import Command as _Command
else:
    from django.core.management.commands.runserver import Command as _Command

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["Command", "DevelopmentServer"]


class DevelopmentServer:
    """Serves one application on one address, in the thread that calls `serve_forever`."""

    def __init__(self, address: tuple[str, int], _: object, *, ipv6: bool = False) -> None:
        """Listen. Raises OSError with a sentence, which Django prints.

        The second argument is the class of wsgiref's request handlers, which is not used.
        """
        host, port = address
        self._config = Config(bind=(f"[{host}]:{port}" if ipv6 else f"{host}:{port}",))
        try:
            addresses = [parse_bind(bind) for bind in self._config.bind]
            self._listeners = open_listeners(addresses, ListenOptions())
        except BindError as error:
            raise OSError(str(error)) from None
        bound = next(iter(self._listeners)).address
        assert isinstance(bound, TcpAddress)
        self.server_port = bound.port
        self._app: WSGIApplication | None = None

    def set_app(self, app: WSGIApplication) -> None:
        """Set the application."""
        self._app = app

    def serve_forever(self) -> None:
        """Serve until the process ends, or KeyboardInterrupt comes."""
        assert self._app is not None
        with asyncio.Runner(loop_factory=loop_factory(self._config.loop)) as runner:
            runner.run(self._serve(self._app))

    async def _serve(self, app: WSGIApplication) -> None:
        async with Server(app, self._config, listeners=self._listeners) as server:
            await server.wait_closed()


class Command(_Command):  # type: ignore[misc]  # Django has no types
    """Django's command, with another server."""

    help = "Starts aiowsgi for development, with reload and, in DEBUG, static files."
    server_cls: Any = DevelopmentServer

    def handle(self, *args: Any, **options: Any) -> str | None:
        """Requests always run in threads, which Django does not have to make."""
        options["use_threading"] = False
        result: str | None = super().handle(*args, **options)
        return result
