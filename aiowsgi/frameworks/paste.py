"""The server for Paste Deploy's INI files, and so for ``pserve``, Pyramid and Zope::

    [server:main]
    use = egg:aiowsgi
    bind = 127.0.0.1:6543
    threads = 8

The options are those of `Config` by their names, with hyphens or underscores. Options of waitress
are understood too, so that ``use`` is the only line to change. The two functions are entry points
of the distribution (``paste.server_runner`` and ``paste.server_factory``).

Paste Deploy makes the application itself, so that it runs in one process. Several workers import
it by its file instead::

    aiowsgi 'paste.deploy:loadapp("config:site.ini", relative_to=".")' --workers 4
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiowsgi.config.foreign import find
from aiowsgi.config.options import OPTIONS, Config
from aiowsgi.exceptions import AiowsgiError, ConfigError
from aiowsgi.suggest import did_you_mean
from aiowsgi.supervisor.runner import serve

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["server_factory", "server_runner"]


def server_runner(app: WSGIApplication, global_conf: Mapping[str, str], **options: str) -> None:
    """Serve ``app`` until INT or TERM; ``options`` are the lines of the server's section.

    Ends the process with a message if an option is wrong or an address cannot be listened on.
    """
    try:
        status = serve(app, _config(options, global_conf))
    except AiowsgiError as error:
        sys.exit(f"aiowsgi: {error}")
    if status:
        sys.exit(status)


def server_factory(
    global_conf: Mapping[str, str], **options: str
) -> Callable[[WSGIApplication], None]:
    """A function that serves the application that it is given, as `server_runner` does."""
    return lambda app: server_runner(app, global_conf, **options)


def _config(options: Mapping[str, str], global_conf: Mapping[str, str]) -> Config:
    values: dict[str, Any] = {}
    for key, value in options.items():
        name = key.replace("-", "_")
        values.update({name: value} if name in OPTIONS else _of_waitress(key, value))
    config = Config(**values)
    if config.workers != 1:
        app = f'paste.deploy:loadapp("config:{global_conf.get("__file__", "site.ini")}")'
        raise ConfigError(
            "workers: Paste Deploy has made the application, and other processes cannot have it;"
            f" start: aiowsgi '{app}' --workers {options['workers']}"
        )
    return config


def _of_waitress(key: str, value: str) -> Mapping[str, str]:
    row = find(key, "waitress")
    if row is None:
        raise ConfigError(f"{key}: no such option{did_you_mean(key.replace('-', '_'), OPTIONS)}")
    translation = row.translate(value)
    if translation.refused and value.lower() not in {"false", "no", "off", "0"}:
        raise ConfigError(f"{key}: {translation.note}")
    return {} if translation.refused else translation.settings
