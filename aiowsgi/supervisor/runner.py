"""Blocking ways to serve: what the command line calls, and ``aiowsgi.serve`` and ``aiowsgi.run``.

An application that is *named* is served by worker processes under a supervisor
(``supervisor/supervisor.py``), or, with one worker, by this process for as long as no second one is
needed (``supervisor/single.py``). One that is *given*, as an object, cannot be imported a second
time: it is served by this process, and what takes a second one is refused.

Here the process is set up as a server's: logging, descriptors, listening sockets, pid file, user.
The order matters: what may fail comes first, and root is given up last. Exit statuses are those of
``cli/main.py``, and

== ===========================================================================
0  stopped by INT or TERM, everything answered
1  stopped, but requests in progress had to be cut after ``graceful_timeout``
4  ended by itself, since more threads hang than ``max_detached_threads``; only where one process
   serves an application object, as workers are replaced
== ===========================================================================
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from aiowsgi.config.options import DEFAULT_BIND, FILE, OPTIONS, Config
from aiowsgi.exceptions import ConfigError
from aiowsgi.logs import setup as logs
from aiowsgi.net.address import parse_bind
from aiowsgi.net.listeners import Listeners, ListenOptions, open_activated, open_listeners
from aiowsgi.system.descriptors import raise_descriptor_limit
from aiowsgi.system.event_loop import loop_factory
from aiowsgi.system.interpreter import set_switch_interval
from aiowsgi.system.privileges import Identity, pid_file
from aiowsgi.system.systemd import Notifier

if TYPE_CHECKING:
    from aiowsgi.admin.auth import Token
    from aiowsgi.config.sources import Sources
    from aiowsgi.status.aggregate import Detail
    from aiowsgi.status.metrics import Tree
    from aiowsgi.supervisor.supervisor import Supervisor
    from aiowsgi.wsgi.handler import WSGIApplication

__all__ = ["loop_factory", "run", "run_server", "serve"]

logger = logging.getLogger("aiowsgi")


def serve(app: WSGIApplication, config: Config | None = None, **options: Any) -> int:
    """Serve ``app`` until INT or TERM; returns the exit status.

    ``options`` are those of `Config`, which may be given instead. Takes the process's signals, so
    it is for the main thread. Raises `ConfigError` and `BindError`.
    """
    return run_server(app, config or Config(**options))


def run(app: str, config: Config | None = None, **options: Any) -> int:
    """Serve the application that ``app`` names, ``module:attribute``, in worker processes.

    See `serve`. Raises `ApplicationLoadError` too.
    """
    return run_server(app, config or Config(app=app, **options))


def run_server(app: str | WSGIApplication, config: Config, sources: Sources | None = None) -> int:
    """Serve ``app``, or the application of that name, as ``config`` says.

    ``sources`` is where ``config`` came from, and what a reload reads again; without it, a reload
    brings new code and certificates only.
    """
    config = _anchored(config)
    if isinstance(app, str):
        config = replace(config, app=app)

        def reread() -> Config:
            new = config if sources is None else _anchored(sources.load().config)
            _configure_logs(new)
            return new

        return _run_alone(config, reread) if _can_be_alone(config) else _run_workers(config, reread)
    return _run_here(app, config)


def _can_be_alone(config: Config) -> bool:
    """No second process is needed yet. Process 1 has others' children to look after."""
    wears_out = config.max_requests or config.max_rss or config.max_lifetime
    return config.workers == 1 and not config.reload and not wears_out and os.getpid() != 1


def _run_alone(config: Config, reread: Callable[[], Config]) -> int:
    from aiowsgi.config.sources import prepare_process
    from aiowsgi.supervisor.single import SingleProcess
    from aiowsgi.wsgi.importer import load_application

    def successor() -> Supervisor:
        from aiowsgi.supervisor.supervisor import Supervisor  # only when it comes to that

        new = replace(reread(), app=config.app)
        return Supervisor(new, process.listeners, notifier=Notifier(os.environ), reread=reread)

    assert config.app is not None
    with _set_up(config) as process:
        prepare_process(config)
        app = load_application(config.app, factory=config.factory, app_dir=config.app_dir)
        logs.enable_loggers()
        solo = SingleProcess(app, config, process.listeners, Notifier(os.environ), successor)
        set_switch_interval(config.switch_interval)
        with asyncio.Runner(loop_factory=loop_factory(config.loop)) as runner:
            return runner.run(_beside_admin(solo, config, process))


def _run_workers(config: Config, reread: Callable[[], Config]) -> int:
    from aiowsgi.supervisor.supervisor import Supervisor

    with _set_up(config) as process:
        notifier = Notifier(os.environ)
        supervisor = Supervisor(config, process.listeners, notifier=notifier, reread=reread)
        main = _beside_admin(supervisor, config, process)
        if config.reload:
            from aiowsgi.supervisor.reloader import beside_watch  # for development only

            main = beside_watch(main, config, supervisor.restart)
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(main)


# What takes several processes: an application given as an object is in this one only.
_NEED_A_NAME: Final = ("reload", "max_requests", "max_rss", "max_lifetime")


def _run_here(app: WSGIApplication, config: Config) -> int:
    wanted = [name for name in _NEED_A_NAME if getattr(config, name)]
    if config.workers is not None and config.workers > 1:
        wanted.append("workers")
    if wanted:
        raise ConfigError(
            f"{wanted[0]}: other processes cannot be given an application object;"
            " name it: aiowsgi.run('module:attribute')"
        )
    from aiowsgi.supervisor.single import SingleProcess

    with _set_up(config) as process:
        solo = SingleProcess(app, config, process.listeners, Notifier(os.environ))
        set_switch_interval(config.switch_interval)
        with asyncio.Runner(loop_factory=loop_factory(config.loop)) as runner:
            return runner.run(_beside_admin(solo, config, process))


class _Service(Protocol):
    """What serves: a `Supervisor` or a `SingleProcess`."""

    async def run(self) -> int:
        """Serve until told to stop; the exit status."""

    def unready(self) -> str:
        """Why no requests should come; empty if they may."""

    async def look(self, interest: Detail = ...) -> Tree:
        """An overview of now; see ``status/aggregate.py``."""


async def _beside_admin(service: _Service, config: Config, process: _Process) -> int:
    """Run ``service``, and the admin endpoint on the same loop where it is wanted."""
    if not process.admin:
        return await service.run()
    # Imported here: most have a probe on the application itself.
    from aiowsgi.admin.site import serve_admin
    from aiowsgi.http1 import head_parser

    parse_head = head_parser(config.http)
    admin = await serve_admin(service, parse_head, process.admin, process.token)
    try:
        return await service.run()
    finally:
        admin.close()


# Setting up the process


class _Process(NamedTuple):
    """What was opened for it."""

    listeners: Listeners
    admin: Listeners
    token: Token | None
    """Of the admin endpoint."""


@contextmanager
def _set_up(config: Config) -> Iterator[_Process]:
    """Make this process a server's, for a block."""
    _configure_logs(config)
    _, limit = raise_descriptor_limit()
    logger.debug("open files: up to %s", "any number" if limit < 0 else limit)
    identity = Identity.of(config.user, config.group)
    token = _read_token(config)
    if config.umask is not None:
        os.umask(config.umask)
    with ExitStack() as opened:
        listeners = opened.enter_context(closing(_open(config)))
        admin = opened.enter_context(closing(_open_admin(config)))
        opened.enter_context(pid_file(config.pid, identity))
        files = [listener.file for listener in (*listeners, *admin)]
        identity.chown(file.path for file in files if file is not None)
        identity.drop_privileges()
        yield _Process(listeners, admin, token)


def _configure_logs(config: Config) -> None:
    logs.configure(
        level=config.log_level,
        config=config.log_config,
        json_lines=config.access_logformat == "json",
        color=config.color,
    )


def _open(config: Config) -> Listeners:
    if config.bind == (DEFAULT_BIND,) and len(activated := open_activated(os.environ)):
        return activated
    return open_listeners([parse_bind(bind) for bind in config.bind], _options(config))


def _open_admin(config: Config) -> Listeners:
    addresses = [] if config.admin is None else [parse_bind(config.admin)]
    return open_listeners(addresses, replace(_options(config), reuse_port=False))


def _read_token(config: Config) -> Token | None:
    if config.admin is None or config.admin_token_file is None:
        return None
    from aiowsgi.admin.auth import Token, read_token  # with it comes the endpoint

    return Token(read_token(config.admin_token_file))


def _options(config: Config) -> ListenOptions:
    return ListenOptions(
        backlog=config.backlog,
        reuse_port=config.reuse_port,
        umask=config.umask,
        uds_permissions=config.uds_permissions,
    )


def _anchored(config: Config) -> Config:
    """``config`` with its files named absolutely: they are meant from here, before ``chdir``."""
    named = {
        field.name: os.path.abspath(name)
        for field in fields(config)
        if OPTIONS[field.name].type is FILE
        and (name := getattr(config, field.name)) not in {None, "-"}
    }
    return replace(config, **named)
