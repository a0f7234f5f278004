"""One process's server: listeners, connections, threads, and how they end.

`Server` is what an embedding program uses inside a running event loop, and what the command line
runs in each worker process. It owns everything it makes: listening sockets, connections, the
thread pool, the access log's writer. It takes no signals and knows of no other process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from aiowsgi.config.options import Config
from aiowsgi.connection.deadlines import DRAIN_IDLE
from aiowsgi.connection.state import ServerState
from aiowsgi.exchange.memory_budget import MemoryBudget
from aiowsgi.exchange.output_buffer import OutputLimits
from aiowsgi.http1 import head_parser
from aiowsgi.logs import setup as logs
from aiowsgi.logs.access_logger import AccessLogger, RequestObserver, observe
from aiowsgi.net.address import TcpAddress
from aiowsgi.server import factory as assembly
from aiowsgi.server.accept import ConnectionAcceptor
from aiowsgi.server.after_fork import ForkGuard
from aiowsgi.server.cut_requests import report_cut_requests
from aiowsgi.status.aggregate import Detail
from aiowsgi.status.collector import MetricsCollector
from aiowsgi.threads.pool import WorkerPool
from aiowsgi.threads.scheduler import RequestScheduler
from aiowsgi.threads.wakeups import Wakeups

if TYPE_CHECKING:
    from aiowsgi.exchange.app_context import AppContext
    from aiowsgi.logs.writer import LogWriter
    from aiowsgi.net.listeners import Listeners
    from aiowsgi.net.tls import ServerContexts
    from aiowsgi.status.metrics import Tree
    from aiowsgi.wsgi.handler import WSGIApplication

__all__ = ["Server"]

logger = logging.getLogger("aiowsgi.server")

HANDSHAKE: Final = 10.0
"""Seconds for a TLS handshake where ``--header-timeout`` is off: that one has to end."""

ABORT_GRACE: Final = 0.5
"""Seconds that a pool is given for its threads to end once nobody waits for their responses."""


class Server:
    """Serves one WSGI application::

        async with Server(app, Config(bind=("127.0.0.1:0",))) as server:
            print(server.url)
            await server.wait_closed()

    `close` is synchronous and idempotent: it stops listening and lets what goes on come to its
    end. `stop` also waits, and cuts what takes longer than it is given. Leaving the ``async with``
    block stops with the configuration's ``graceful_timeout``.
    """

    def __init__(
        self,
        app: WSGIApplication,
        config: Config | None = None,
        *,
        executor: Executor | None = None,
        listeners: Listeners | None = None,
    ) -> None:
        """``executor`` runs the application, and stays the caller's, as ``listeners`` do; without
        them the server makes its own from ``config``."""
        self._app = app
        self._config = config or Config()
        self._executor = executor
        self._listeners = listeners
        # Set before `start` by who runs several processes; see `ConnectionAcceptor`.
        self.is_my_turn: Callable[[int], bool] | None = None
        # Made by `start`.
        self._state: ServerState | None = None
        self._pool: WorkerPool | None = None
        self._own_listeners: Listeners | None = None
        self._log: LogWriter | None = None
        # Counts requests; None without the admin endpoint.
        self._tally = MetricsCollector() if self._config.admin is not None else None
        # When it began to serve, monotonic seconds.
        self._born = 0.0
        self._acceptor: ConnectionAcceptor | None = None
        self._contexts: ServerContexts | None = None
        # Keeps processes that the application forks from the connections.
        self._fork_guard: ForkGuard | None = None
        self._accepting = False
        self.unready_because = ""
        """Why it should get no further requests, though it serves; empty where there is nothing."""
        self.spent: Callable[[], object] | None = None
        """Called, once, when so many threads hang that this process is to be replaced."""
        # Done when the last connection of a closed server has gone.
        self._closed: asyncio.Future[None] | None = None
        self._closing = False

    # Beginning

    async def start(self) -> None:
        """Listen and serve. Raises `BindError` and `ConfigError`; then nothing is left open.

        A server starts once; RuntimeError says so.
        """
        if self._closed is not None:
            raise RuntimeError("a Server starts once: make another")
        try:
            self._open(asyncio.get_running_loop())
        except BaseException:
            self._stop_listening()
            self._give_back()
            raise

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        config = self._config
        self._closed = loop.create_future()
        parse_head = head_parser(config.http)
        if self._listeners is None:
            self._listeners = self._own_listeners = assembly.listeners(config)
        executor = self._executor
        if executor is None:
            executor = self._pool = WorkerPool(config.threads)
        self._born = monotonic()
        context, wakeups = self._make_context(), Wakeups(loop)
        options = assembly.scheduler_options(config, self._spend)
        scheduler = RequestScheduler(loop, context, executor, wakeups, options)
        budget = MemoryBudget(config.memory_budget)
        # A server that is dropped without `stop` must not leave threads behind.
        weakref.finalize(self, _release, self._own_listeners, self._pool, self._log).atexit = False
        self._state = state = ServerState(
            loop,
            context,
            scheduler,
            wakeups,
            parse_head,
            limits=assembly.limits(config),
            timeouts=assembly.timeouts(config),
            output_limits=OutputLimits(config.response_buffer, config.response_spool, budget),
            bodies=assembly.body_policy(config, budget),
            client_disconnected=None if self._tally is None else self._tally.client_disconnected,
            trusted=assembly.trusted_peers(config) if config.proxy_headers else None,
        )
        if scheduler.watchdog.limited:
            state.timer_wheel.watch(scheduler.watchdog)
        if (saturation := scheduler.saturation) is not None:
            state.timer_wheel.hasten(saturation, monotonic() + saturation.interval)
        self._fork_guard = ForkGuard(self._listeners.sockets, context)
        self._contexts = assembly.server_contexts(config)
        self._acceptor = ConnectionAcceptor(
            state,
            self._listeners.sockets,
            most=config.max_connections,
            contexts=self._contexts,
            proxies=assembly.trusted_peers(config) if config.proxy_protocol else None,
            timeout=config.header_timeout or HANDSHAKE,
            is_my_turn=self.is_my_turn,
        )
        state.watchers.append(self._acceptor.connection_closed)
        self.start_accepting()

    def _make_context(self) -> AppContext:
        config = self._config
        context = assembly.app_context(config, self._app)
        observers: list[RequestObserver] = []
        if config.access_log:
            self._log = assembly.log_writer(config)
            observers.append(AccessLogger(config.access_logformat, self._log.put, pid=os.getpid()))
        if self._tally is not None:
            observers.append(self._tally)
        observe(context, observers)
        return context

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    # Serving

    @property
    def ready(self) -> bool:
        """It accepts connections and is not about to stop."""
        return self._accepting and not self.unready_because

    def _spend(self) -> None:
        if not self.unready_because:
            self.unready_because = "too many threads hang beyond the request timeout"
            if self.spent is not None:
                self.spent()

    @property
    def requests_served(self) -> int:
        """Number of requests given to the application so far."""
        return self._state.scheduler.requests if self._state is not None else 0

    def report(self, detail: Detail = Detail.FIGURES) -> Tree:
        """What the process is doing now and has counted so far, as a tree of JSON.

        See ``server/status.py``. Nothing is counted unless ``admin`` is set. Raises RuntimeError if
        the server was not started.
        """
        from aiowsgi.server.status import worker_report  # not at start: only --admin needs it

        if self._state is None:
            raise RuntimeError("the server was not started")
        metrics = self._tally or MetricsCollector()
        expiry = 0.0 if self._contexts is None else self._contexts.expires_at
        return worker_report(self._state, metrics, self._born, detail, certificate_expiry=expiry)

    def stop_accepting(self) -> None:
        """Leave who connects to the kernel, and to other processes; serve who is here."""
        self._accepting = False
        if self._acceptor is not None:
            self._acceptor.stop()

    def start_accepting(self) -> None:
        """Go on after `stop_accepting`."""
        if self._acceptor is not None and not self._closing:
            self._accepting = True
            self._acceptor.start()

    def reload_certificates(self) -> None:
        """Read the certificates again, for connections to come. Raises `ConfigError` where that
        fails; then those that were read before stay in use."""
        if self._contexts is not None:
            self._contexts.reload()

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening sockets."""
        return self._listeners.sockets if self._listeners is not None else ()

    @property
    def urls(self) -> list[str]:
        """Where it can be reached, one for each listening socket."""
        scheme = "https" if self._config.certfile else "http"
        return self._listeners.urls(scheme) if self._listeners is not None else []

    @property
    def url(self) -> str:
        """Where it can be reached: the first of `urls`."""
        return self.urls[0]

    @property
    def port(self) -> int:
        """The port of the first listening socket; 0 for a unix socket."""
        address = next(iter(self._listeners or ())).address
        return address.port if isinstance(address, TcpAddress) else 0

    # The end

    def close(self) -> None:
        """Stop listening, and let every connection end with what it is doing. Idempotent."""
        state = self._state
        if state is None or self._closing:
            return
        self._closing = True
        self._stop_listening()
        state.context.draining = True
        state.watchers.append(self._check_ended)
        self._drain()
        self._check_ended()

    def _stop_listening(self) -> None:
        self.stop_accepting()
        if self._own_listeners is not None:
            self._own_listeners.close()

    def _drain(self) -> None:
        assert self._state is not None
        for connection in tuple(self._state.connections):
            connection.drain()
        assert self._acceptor is not None
        if self._state.connections or self._acceptor.entering:
            self._state.loop.call_later(DRAIN_IDLE / 4, self._drain)

    def _check_ended(self) -> None:
        """See whether the last connection has gone, and none is on its way in."""
        assert self._state is not None
        assert self._closed is not None and self._acceptor is not None  # noqa: PT018
        if not self._state.connections and not self._acceptor.entering and not self._closed.done():
            self._closed.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until the server was closed and its last connection has ended."""
        if self._closed is not None:
            await asyncio.shield(self._closed)

    async def stop(self, grace: float | None = None) -> bool:
        """Close, wait ``grace`` seconds (the configuration's without), and cut what is left.

        Returns whether everything had come to its end by itself.
        """
        state = self._state
        if state is None:
            return True
        if grace is None:
            grace = self._config.grace
        self.close()
        try:
            async with asyncio.timeout(grace):
                await self.wait_closed()
            clean = True
        except TimeoutError:
            clean = False
            report_cut_requests(state)
            if self._acceptor is not None:
                await self._acceptor.clear()
            for connection in tuple(state.connections):
                connection.abort()
            await self.wait_closed()
        state.timer_wheel.close()
        await state.loop.run_in_executor(None, self._give_back)
        if self._fork_guard is not None:
            self._fork_guard.close()
        return clean

    def _give_back(self) -> None:
        """End the threads. A response is sent before its worker has closed and logged it."""
        if self._pool is not None:
            self._pool.shutdown(timeout=ABORT_GRACE)
        if self._log is not None:
            self._log.close()

    def reopen_logs(self) -> None:
        """Reopen the log files, which may have been renamed. Returns at once."""
        if self._log is not None:
            self._log.reopen()
        logs.reopen_files()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop; at once where an exception ends the block."""
        await self.stop(None if exc is None else 0)


def _release(listeners: Listeners | None, pool: WorkerPool | None, log: LogWriter | None) -> None:
    """Release what a server had made, without waiting. Idempotent."""
    if listeners is not None:
        listeners.close()
    if pool is not None:
        pool.shutdown(wait=False)
    if log is not None:
        log.close()
