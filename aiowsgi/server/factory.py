"""A configuration's options, as the parts of a server know them.

Every function here makes one part from a `Config` and keeps nothing; `Server` owns what is made.
Parts know their own arguments and no configuration, so that each can be had, and tested, alone.
"""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING, Final

from aiowsgi.connection.body_receiver import BodyPolicy
from aiowsgi.connection.deadlines import Timeouts
from aiowsgi.exchange.app_context import AppContext
from aiowsgi.exchange.memory_budget import MemoryBudget
from aiowsgi.exchange.upgrade import UpgradeSlots
from aiowsgi.http1.messages import Limits
from aiowsgi.logs import setup as logs
from aiowsgi.logs.sinks import LoggerSink, open_sink
from aiowsgi.logs.writer import LogWriter
from aiowsgi.net.address import parse_bind
from aiowsgi.net.listeners import Listeners, ListenOptions, open_listeners
from aiowsgi.proxy.headers import TrustedPeers, parse_trusted
from aiowsgi.threads.fair_queue import QueueRules
from aiowsgi.threads.saturation import SaturationOptions
from aiowsgi.threads.scheduler import SchedulerOptions
from aiowsgi.threads.watchdog import DetachPolicy
from aiowsgi.wsgi.environ import base_environ
from aiowsgi.wsgi.errors import ErrorStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiowsgi.config.options import Config
    from aiowsgi.net.tls import ServerContexts
    from aiowsgi.wsgi.handler import WSGIApplication

__all__ = [
    "app_context",
    "body_policy",
    "limits",
    "listeners",
    "log_writer",
    "scheduler_options",
    "server_contexts",
    "timeouts",
    "trusted_peers",
]

SOFTWARE: Final = "aiowsgi"
"""The Server field and SERVER_SOFTWARE. No version: it would help only who looks for a hole."""


def listeners(config: Config) -> Listeners:
    """The listening sockets. Raises `BindError`."""
    options = ListenOptions(
        backlog=config.backlog,
        reuse_port=config.reuse_port,
        umask=config.umask,
        uds_permissions=config.uds_permissions,
    )
    return open_listeners([parse_bind(bind) for bind in config.bind], options)


def app_context(config: Config, app: WSGIApplication) -> AppContext:
    """What all exchanges share."""
    environ = base_environ(
        multithread=config.threads > 1,
        multiprocess=config.workers != 1,
        errors=ErrorStream(),
        script_name=config.root_path,
        software=SOFTWARE,
    )
    made = AppContext(
        app,
        environ,
        server=SOFTWARE if config.server_header else "",
        send_date=config.date_header,
    )
    made.keep_connections = config.keep_alive > 0
    limit = config.threads - 1 if config.max_upgraded is None else config.max_upgraded
    made.upgrade_slots = UpgradeSlots(limit)
    made.request_timeout = config.request_timeout
    made.send_id = config.request_id_header
    made.send_timing = config.server_timing
    return made


def log_writer(config: Config) -> LogWriter:
    """The access log's. Raises `ConfigError` where its file cannot be opened."""
    target = logs.access_logger()
    return LogWriter(LoggerSink(target) if target else open_sink(config.access_logfile))


def limits(config: Config) -> Limits:
    """What a request may be as large as."""
    return Limits(
        config.limit_request_line,
        config.max_header_size,
        config.limit_request_fields,
        config.max_body_size,
    )


def timeouts(config: Config) -> Timeouts:
    """What may take how long."""
    return Timeouts(
        header=config.header_timeout,
        body=config.body_timeout,
        write=config.write_timeout,
        # 0 closes after each response (see `AppContext`), so that this limit is not used.
        keep_alive=0.0 if isinf(config.keep_alive) else config.keep_alive,
    )


def body_policy(config: Config, budget: MemoryBudget) -> BodyPolicy:
    """How request bodies are received; ``budget`` is what all connections may keep in memory."""
    return BodyPolicy(
        config.request_buffering,
        threads=config.threads,
        min_rate=config.min_body_rate,
        budget=budget,
    )


def scheduler_options(config: Config, spent: Callable[[], object]) -> SchedulerOptions:
    """Bounds on waiting for worker threads and on running in them.

    ``spent`` is called when so many threads hang that this process is to be replaced.
    """
    hanging = config.max_detached_threads
    return SchedulerOptions(
        queue_size=config.queue_size,
        queue_timeout=config.queue_timeout,
        request_timeout=config.request_timeout,
        slow_request=config.slow_request_log,
        rules=QueueRules.of(
            threads=config.threads,
            per_client=config.limit_per_client,
            route_limits=config.route_limit,
            reserved=config.reserve_threads,
            ipv6_prefix=config.ipv6_client_prefix,
        ),
        saturation=SaturationOptions(
            config.saturation_log or SaturationOptions().after, log=config.saturation_log > 0
        ),
        detaching=DetachPolicy(
            config.threads if hanging is None else hanging, config.interrupt_detached, spent
        ),
    )


def trusted_peers(config: Config) -> TrustedPeers:
    """Whose word about clients counts."""
    return parse_trusted(",".join(config.forwarded_allow_ips))


def server_contexts(config: Config) -> ServerContexts | None:
    """For TLS; None without. Raises `ConfigError` where a file is not what it should be."""
    if config.certfile is None:
        return None
    from aiowsgi.net.tls import ServerContexts, TLSFiles  # not without TLS: it imports ssl

    files = TLSFiles(config.certfile, config.keyfile, config.ca_certs, config.cert_reqs)
    return ServerContexts(files)
