"""Blocking ways to serve: what the command line calls, and ``aiowsgi.serve`` and ``aiowsgi.run``.

An application that is *named* is always served by worker processes under a supervisor
(``supervisor/supervisor.py``), one or several. One that is *given*, as an object, cannot be
imported a second time: it is served by this process (``supervisor/single.py``), and options that
need further processes are refused.

Here the process is set up as a server's: logging, descriptors, listening sockets, pid file, user.
The order matters: what may fail comes first, and root is given up last. Exit statuses are those of
``cli/main.py``, and

===  ===========================================================================
0    stopped by INT or TERM, everything answered
1    stopped, but requests in progress were cut after ``graceful_timeout``
4    ended by itself, as more threads hang than ``max_detached_threads``; only if
     this process serves an application object, as workers are replaced
130  a second INT came while stopping, or an INT before the server had started
131  QUIT came
===  ===========================================================================
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TextIO, cast

from aiowsgi.config.options import DEFAULT_BIND, FILE, OPTIONS, Config
from aiowsgi.exceptions import ConfigError
from aiowsgi.http1 import head_parser
from aiowsgi.logs import setup as logs
from aiowsgi.net.address import parse_bind
from aiowsgi.net.listeners import Listeners, ListenOptions, open_activated, open_listeners
from aiowsgi.supervisor.children import SIGNALS, Origin, fill_standard_descriptors
from aiowsgi.supervisor.log_stream import LogStream
from aiowsgi.system.descriptors import raise_descriptor_limit
from aiowsgi.system.event_loop import loop_factory
from aiowsgi.system.imports import import_everything
from aiowsgi.system.interpreter import set_switch_interval
from aiowsgi.system.monkey_patching import refuse_monkey_patching
from aiowsgi.system.privileges import Identity, pid_file
from aiowsgi.system.systemd import Notifier

if TYPE_CHECKING:
    from aiowsgi.admin.auth import Token
    from aiowsgi.config.sources import Sources
    from aiowsgi.status.aggregate import Detail
    from aiowsgi.status.metrics import Tree
    from aiowsgi.wsgi.handler import WSGIApplication

__all__ = ["loop_factory", "run", "run_server", "serve"]

logger = logging.getLogger("aiowsgi")

PASSIVE_SIGNALS: Final = tuple(set(SIGNALS) - {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT})
"""Signals that never end the server."""


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
    try:
        # A wrapper, or the program that embeds the server, may have patched.
        refuse_monkey_patching()
        config = _anchored(config)
        if isinstance(app, str):
            return _run_workers(replace(config, app=app), sources)
        return _run_here(app, config)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run_workers(config: Config, sources: Sources | None) -> int:
    from aiowsgi.supervisor.supervisor import Supervisor

    # Before the first of them has a handler, it would end the process or suspend it.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSIVE_SIGNALS)
    origin = Origin.now()
    fill_standard_descriptors()
    with LogStream.of_standard_error() as stream:

        def reread() -> Config:
            new = config if sources is None else _anchored(sources.load().config)
            _configure_logs(new, stream)
            return new

        _import_for_workers(config)
        with _set_up(config, stream) as process:
            supervisor = Supervisor(
                config,
                process.listeners,
                notifier=Notifier(os.environ),
                reread=reread,
                origin=origin,
            )
            main = _with_log_stream(_beside_admin(supervisor, config, process), stream)
            if config.reload:
                from aiowsgi.supervisor.reloader import beside_watch  # for development only

                main = beside_watch(main, config, supervisor.restart, origin)
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                return runner.run(main)


def _import_for_workers(config: Config) -> None:
    """Import what every worker needs, once for all of them. Raises ConfigError."""
    loop_factory(config.loop)
    head_parser(config.http)
    if config.user or config.group:
        # The user may not be able to read the modules of the environment.
        import_everything()


async def _with_log_stream(main: Coroutine[Any, Any, int], stream: LogStream) -> int:
    stream.attach(asyncio.get_running_loop())
    try:
        return await main
    finally:
        stream.attach(None)


# An application that is given as an object is in this process only.
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

    fill_standard_descriptors()
    with _set_up(config) as process:
        single = SingleProcess(app, config, process.listeners, Notifier(os.environ))
        set_switch_interval(config.switch_interval)
        with asyncio.Runner(loop_factory=loop_factory(config.loop)) as runner:
            return runner.run(_beside_admin(single, config, process))


class _Service(Protocol):
    """A `Supervisor` or a `SingleProcess`."""

    async def run(self) -> int:
        """Serve until told to stop; the exit status."""

    def unready(self) -> str:
        """Why no requests should come; empty if they may."""

    async def look(self, interest: Detail = ...) -> Tree:
        """An overview of now; see ``status/aggregate.py``."""


async def _beside_admin(service: _Service, config: Config, process: _Process) -> int:
    """Run ``service``, and the admin endpoint on the same loop if it is wanted."""
    if not process.admin:
        return await service.run()
    # Imported here: most have a probe on the application itself.
    from aiowsgi.admin.site import serve_admin

    parse_head = head_parser(config.http)
    admin = await serve_admin(
        service, parse_head, process.admin, process.token, app=config.app or ""
    )
    try:
        return await service.run()
    finally:
        admin.close()


# Setting up the process


class _Process(NamedTuple):
    """What was opened for this process."""

    listeners: Listeners
    admin: Listeners
    token: Token | None
    """Of the admin endpoint."""


@contextmanager
def _set_up(config: Config, stream: LogStream | None = None) -> Iterator[_Process]:
    """Make this process a server's, for a block; the log goes to ``stream`` if there is one."""
    _configure_logs(config, stream)
    _, limit = raise_descriptor_limit()
    logger.debug("open files: up to %s", "any number" if limit < 0 else limit)
    identity = Identity.of(config.user, config.group)
    token = _read_token(config)
    if config.umask is not None:
        os.umask(config.umask)
    with ExitStack() as opened:
        listeners = opened.enter_context(closing(_open(config)))
        admin = opened.enter_context(closing(_open_admin(config)))
        if stream is not None:
            # A TERM now would leave the pid file behind. Before that, it may end a name server's
            # silence; the supervisor's loop unblocks all of them.
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        opened.enter_context(pid_file(config.pid, identity))
        files = [listener.file for listener in (*listeners, *admin)]
        identity.chown_sockets(file for file in files if file is not None)
        identity.drop_privileges()
        yield _Process(listeners, admin, token)


def _configure_logs(config: Config, stream: LogStream | None = None) -> None:
    logs.configure(
        level=config.log_level,
        config=config.log_config,
        json_lines=config.access_logformat == "json",
        color=config.color,
    )
    for handler in logger.handlers:
        # Not a subclass: a file's handler may share nothing but the name of its stream.
        if stream is not None and type(handler) is logging.StreamHandler:
            _redirect(handler, stream)


def _redirect(handler: logging.StreamHandler[TextIO], stream: LogStream) -> None:
    if handler.stream is sys.stderr:
        handler.setStream(cast("TextIO", stream))


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
    """``config`` with absolute names of files: they are relative to here, before ``chdir``."""
    named = {
        field.name: os.path.abspath(name)
        for field in fields(config)
        if OPTIONS[field.name].type is FILE
        and (name := getattr(config, field.name)) not in {None, "-"}
    }
    return replace(config, **named)
