"""The server for Bottle's ``run()``::

    bottle.run(app, server="aiowsgi.frameworks.bottle:AiowsgiServer", port=8000, threads=8)

Bottle's ``host`` and ``port`` say where to listen; the other keywords are options of `Config`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottle import ServerAdapter

from aiowsgi.supervisor.runner import serve

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["AiowsgiServer"]


class AiowsgiServer(ServerAdapter):  # type: ignore[misc]  # Bottle has no types
    """What ``bottle.run`` takes as ``server``."""

    def run(self, handler: WSGIApplication) -> None:
        """Serve ``handler`` until INT or TERM."""
        where = {} if "bind" in self.options else {"host": self.host, "port": self.port}
        access_log = {"access_log": False} if self.quiet else {}
        serve(handler, **{**where, **access_log, **self.options})
