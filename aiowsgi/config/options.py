"""The options of the server: the fields of ``Config``.

A field has the default; its metadata has the option type and the help text. Everything else is
derived from the fields: the flags (``cli/main.py``), environment variables and TOML keys
(``config/sources.py``), ``--help`` and the README's table (``config/help.py``). To add an option,
add a field.

Values are normalised: durations are seconds as float, sizes are bytes, lists are tuples. 0 switches
a limit or a timeout off (but see `ENDLESS`). None means "not set" or ``auto``, depending on the
option type. ``Config`` accepts the same notations as the command line, such as
``Config(keep_alive="75s")``. A ``Config`` that has been created is valid. Creating one reads no
file and resolves no name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, fields
from math import inf, isinf
from types import MappingProxyType
from typing import Any, Final, Self

from aiowsgi.config.log_format import parse_log_format
from aiowsgi.config.option import Option, off, on, option
from aiowsgi.config.types import (
    Auto,
    Choice,
    Duration,
    Integer,
    ListOf,
    Mode,
    OptionType,
    Parsed,
    Size,
    Text,
)
from aiowsgi.config.values import (
    RouteLimit,
    canonical_bind,
    is_public,
    parse_path_prefix,
    parse_route_limit,
    parse_trusted_peer,
)
from aiowsgi.exceptions import ConfigError
from aiowsgi.suggest import did_you_mean

__all__ = ["DEFAULT_BIND", "LISTEN_GROUPS", "OPTIONS", "Config", "join_bind"]

DEFAULT_BIND: Final = "127.0.0.1:8000"
"""Default address; only this machine can connect to it."""

# Option types that several options share.

ADDRESS: Final[OptionType[str]] = Parsed("ADDRESS", canonical_bind)
FILE: Final = Text("FILE")
DIRECTORY: Final = Text("DIR")
PATTERNS: Final = ListOf(Text("GLOB"))
ROUTES: Final[OptionType[tuple[RouteLimit, ...]]] = ListOf(
    Parsed("PATHS=N", parse_route_limit), " "
)
NUMBER: Final = Integer()
POSITIVE: Final = Integer(minimum=1)
TIME: Final = Duration()
ENDLESS: Final = Duration(forever=inf)
"""0 is a time like others here, and ``inf`` is for ever."""
SIZE: Final = Size()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one server.

    Raises ConfigError for an unknown name, for a value that the option does not accept, and for
    values that contradict each other.
    """

    app: str | None = option(
        Text("MODULE[:ATTRIBUTE]"),
        None,
        "The application: module:attribute, module:factory(), or a module with an attribute "
        "application or app.",
        section="Application",
    )
    factory: bool = off("Call the attribute without arguments; it returns the application.")
    app_dir: str | None = option(
        DIRECTORY,
        None,
        "Directory in which modules are looked for first. Default: the working directory.",
    )
    chdir: str | None = option(DIRECTORY, None, "Working directory of the application.")
    env_file: str | None = option(
        FILE,
        None,
        "File of NAME=VALUE lines to set in the environment. Variables that are set already "
        "keep their values.",
    )

    bind: tuple[str, ...] = option(
        ListOf(ADDRESS),
        (DEFAULT_BIND,),
        "Address to listen on: host:port, [::1]:port, :port (all interfaces), unix:path or "
        "fd://n. Repeats. Port 0 picks a free port.",
        section="Listening",
        flags=("-b",),
    )
    # The shorthands of bind are arguments of Config, not fields: __post_init__ turns them into
    # bind. RUF009 warns of calls in defaults because of mutable values; field() is not one.
    host: InitVar[str | None] = option(  # noqa: RUF009
        Text("HOST"), None, "Host to listen on; together with port, a short form of bind."
    )
    port: InitVar[int | None] = option(  # noqa: RUF009
        Integer(maximum=65535),
        None,
        "Port to listen on; together with host, a short form of bind. The variable PORT alone"
        " means 0.0.0.0:$PORT.",
        variables={"PORT": None},
    )
    uds: InitVar[str | None] = option(  # noqa: RUF009
        FILE, None, "Path of a unix socket to listen on; short for bind unix:path."
    )
    fd: InitVar[int | None] = option(  # noqa: RUF009
        NUMBER, None, "Inherited descriptor to listen on; short for bind fd://n."
    )
    backlog: int = option(POSITIVE, 2048, "Maximum number of connections that wait to be accepted.")
    reuse_port: bool = off("Set SO_REUSEPORT, so that several servers can share a port.")
    umask: int | None = option(
        Mode(), None, "Permissions that new files do not get.", flags=("-m",)
    )
    uds_permissions: int | None = option(Mode(), None, "Permissions of unix sockets.")

    workers: int | None = option(
        Auto(POSITIVE),
        1,
        "Number of worker processes. auto: one for each processor that this process may use.",
        section="Workers",
        flags=("-w",),
        variables={"WEB_CONCURRENCY": None},
    )
    preload: bool = off(
        "Import the application once for all workers, in a process from which they are forked."
    )
    threads: int = option(POSITIVE, 4, "Number of threads that run the application in each worker.")
    loop: str = option(
        Choice(("auto", "uvloop", "asyncio")),
        "auto",
        "Event loop. auto: uvloop if it is installed.",
    )
    http: str = option(
        Choice(("auto", "h11", "httptools")),
        "auto",
        "HTTP parser. auto: httptools if it is installed.",
    )
    switch_interval: float = option(
        TIME,
        0.0002,
        "Longest time for which a computing thread keeps the interpreter while another thread waits"
        " for it. 0: Python's own, 5 ms. Has no effect without a global interpreter lock.",
    )

    request_buffering: str = option(
        Choice(("auto", "on", "off"), {"true": "on", "false": "off"}),
        "auto",
        "When the application starts: after the whole request body (on), at once (off), or "
        "after the whole body or its first 512k (auto).",
        section="Bodies",
    )
    response_buffer: int = option(
        SIZE, 1 << 20, "Size of the response kept in memory for a slow client, for each connection."
    )
    response_spool: int = option(
        SIZE,
        64 << 20,
        "Size of the response kept in a temporary file after that, for each connection.",
    )

    max_header_size: int = option(
        SIZE,
        64 << 10,
        "Maximum size of the request head; a larger one is answered 431. 0: no limit.",
        section="Limits",
    )
    limit_request_line: int = option(
        SIZE,
        8 << 10,
        "Maximum size of the request line; a longer one is answered 414. 0: no limit.",
    )
    limit_request_fields: int = option(
        NUMBER, 100, "Maximum number of header fields; more are answered 431. 0: no limit."
    )
    max_body_size: int = option(
        SIZE,
        1 << 30,
        "Maximum size of the request body; a larger one is answered 413. 0: no limit.",
    )
    max_connections: int = option(
        NUMBER,
        0,
        "Maximum number of connections of a worker; more are answered 503. 0: as many as file"
        " descriptors allow.",
    )
    memory_budget: int = option(
        SIZE,
        256 << 20,
        "Size of the request bodies and responses that a worker keeps in memory. Above half of it"
        " they go to temporary files sooner, above all of it new bodies are answered 503."
        " 0: no limit.",
    )

    header_timeout: float = option(
        TIME, 10.0, "Time in which a request head must arrive. 0: off.", section="Timeouts"
    )
    body_timeout: float = option(
        TIME, 30.0, "Maximum pause between two pieces of a request body. 0: off."
    )
    min_body_rate: int = option(
        SIZE,
        240,
        "Minimum rate of a request body in bytes per second, over 10 seconds after a grace of 10;"
        " a slower client is answered 408. 0: off.",
    )
    write_timeout: float = option(
        TIME, 60.0, "Maximum time in which a client reads nothing of its response. 0: off."
    )
    keep_alive: float = option(
        ENDLESS,
        75.0,
        "Time that an idle connection is kept open for the next request. 0: close after each"
        " response; inf: no limit.",
    )
    request_timeout: float = option(
        TIME,
        0.0,
        "Maximum run time of the application; a longer request is answered 504 and its thread"
        " replaced. 0: off.",
        flags=("-t", "--timeout"),
    )
    graceful_timeout: float = option(
        ENDLESS,
        30.0,
        "Time that a stop waits for requests in progress. 0: cut them at once; inf: no limit.",
    )
    shutdown_delay: float = option(
        Duration(forever=None), 0.0, "Time from TERM until the server stops accepting connections."
    )

    queue_size: int = option(
        POSITIVE,
        1024,
        "Maximum number of requests that wait for a thread; more are answered 503.",
        section="Queue",
    )
    queue_timeout: float = option(
        TIME,
        30.0,
        "Maximum time that a request waits for a thread; after it the answer is 503. 0: off.",
    )
    max_upgraded: int | None = option(
        Auto(NUMBER),
        None,
        "Maximum number of connections in a worker that the application has taken over (Upgrade,"
        " as for WebSocket); each holds a thread; more are answered 503. auto: threads - 1.",
    )
    max_detached_threads: int | None = option(
        Auto(NUMBER),
        None,
        "Number of threads that may run longer than request-timeout before the worker is "
        "replaced. auto: as many as threads.",
    )
    interrupt_detached: bool = off(
        "Raise an exception in a thread that runs longer than request-timeout."
    )
    limit_per_client: int = option(
        NUMBER, 0, "Maximum number of requests of one client at a time. 0: no limit."
    )
    ipv6_client_prefix: int = option(
        Integer(minimum=1, maximum=128),
        64,
        "Number of bits of an IPv6 address that identify the client, for --limit-per-client.",
    )
    route_limit: tuple[RouteLimit, ...] = option(
        ROUTES, (), "Maximum number of threads for some paths: '/reports/*=2'. Repeats."
    )
    reserve_threads: tuple[RouteLimit, ...] = option(
        ROUTES, (), "Number of threads reserved for some paths: '/healthz,/login*=1'. Repeats."
    )

    max_requests: int = option(
        NUMBER,
        0,
        "Number of requests after which a worker is replaced. 0: never.",
        section="Recycling",
    )
    max_requests_jitter: int = option(NUMBER, 0, "Maximum random number added to max-requests.")
    max_rss: int = option(SIZE, 0, "Memory use at which a worker is replaced. 0: never.")
    max_lifetime: float = option(TIME, 0.0, "Age at which a worker is replaced. 0: never.")

    reload: bool = off("Restart the workers when a file changes.", section="Development")
    reload_dir: tuple[str, ...] = option(
        ListOf(DIRECTORY), (), "Directory to watch instead of the working directory. Repeats."
    )
    reload_include: tuple[str, ...] = option(
        PATTERNS, (), "Files to watch in addition to *.py. Repeats."
    )
    reload_exclude: tuple[str, ...] = option(PATTERNS, (), "Files not to watch. Repeats.")

    certfile: str | None = option(
        FILE,
        None,
        "File of the certificate chain in PEM; turns TLS on. HUP reads it again.",
        section="TLS",
        flags=("--ssl-certfile",),
    )
    keyfile: str | None = option(
        FILE,
        None,
        "File of the private key in PEM, if it is not in certfile.",
        flags=("--ssl-keyfile",),
    )
    ca_certs: str | None = option(
        FILE, None, "File of the authorities that sign client certificates, in PEM."
    )
    cert_reqs: str = option(
        Choice(("none", "optional", "required"), {"0": "none", "1": "optional", "2": "required"}),
        "none",
        "Whether clients must present a certificate.",
    )

    proxy_headers: bool = off(
        "Use X-Forwarded-* and Forwarded fields of trusted peers.", section="Proxies"
    )
    forwarded_allow_ips: tuple[str, ...] = option(
        ListOf(Parsed("PEERS", parse_trusted_peer)),
        ("127.0.0.1", "::1", "unix"),
        "Trusted peers: addresses, networks, unix (any unix socket), * (any peer).",
        variables={"FORWARDED_ALLOW_IPS": None},
    )
    proxy_protocol: bool = off(
        "Require a PROXY protocol header, version 1 or 2, from trusted peers."
    )
    root_path: str = option(
        Parsed("PATH", parse_path_prefix),
        "",
        "Path under which the application is mounted: its SCRIPT_NAME.",
        variables={"SCRIPT_NAME": None},
    )

    log_level: str = option(
        Choice(("debug", "info", "warning", "error", "critical"), {"warn": "warning"}),
        "info",
        "Lowest level that is logged.",
        section="Logs",
    )
    log_config: str | None = option(
        FILE, None, "File with a logging.config dictionary in TOML or JSON."
    )
    color: str = option(
        Choice(("auto", "always", "never")),
        "auto",
        "Whether the log is coloured. auto: on a terminal. The variable NO_COLOR means never.",
        variables={"NO_COLOR": "never"},
    )
    access_log: bool = on("Write a log line for each request.")
    access_logfile: str = option(FILE, "-", "File of the access log; - is standard output.")
    access_logformat: str = option(
        Parsed("FORMAT", parse_log_format),
        "timed",
        "Format of the access log: timed (combined, and the duration), combined, common, "
        "json, or text with atoms such as %(h)s.",
    )

    admin: str | None = option(
        ADDRESS, None, "Address that serves health, metrics and a live view.", section="Insight"
    )
    admin_token_file: str | None = option(
        FILE, None, "File with the token for admin; required on a public address."
    )
    slow_request_log: float = option(
        TIME, 0.0, "Duration after which the stack of a running request is logged. 0: off."
    )
    saturation_log: float = option(
        TIME,
        5.0,
        "Duration for which no thread has been free while requests wait until that is logged. "
        "0: off.",
    )
    server_timing: bool = off("Send a Server-Timing field.")
    request_id_header: bool = off("Send the request's id as X-Request-Id.")

    pid: str | None = option(FILE, None, "File to write the process id to.", section="Process")
    user: str | None = option(Text("USER"), None, "User to become after binding the sockets.")
    group: str | None = option(Text("GROUP"), None, "Group to become after binding the sockets.")
    server_header: bool = on("Send a Server field.")
    date_header: bool = on("Send a Date field.")

    def __new__(cls, **given: object) -> Self:
        """Raise ConfigError with a suggestion for an unknown name; ``__init__`` would raise
        TypeError."""
        for name in given:
            if name not in OPTIONS:
                raise ConfigError(f"{name}: no such option{did_you_mean(name, OPTIONS)}")
        return object.__new__(cls)

    def __post_init__(
        self, host: str | None, port: int | None, uds: str | None, fd: int | None
    ) -> None:
        own = {"bind": None if self.bind == (DEFAULT_BIND,) else self.bind}
        given = own | {"host": host, "port": port, "uds": uds, "fd": fd}
        given = {name: value for name, value in given.items() if value is not None}
        read = {name: OPTIONS[name].convert(value, name) for name, value in given.items()}
        object.__setattr__(self, "bind", join_bind(read))
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                object.__setattr__(self, field.name, OPTIONS[field.name].convert(value, field.name))
        self._check_together()

    @property
    def grace(self) -> float | None:
        """``graceful_timeout`` as asyncio takes timeouts; None for as long as it takes."""
        return None if isinf(self.graceful_timeout) else self.graceful_timeout

    def _check_together(self) -> None:
        """Check the combinations of options."""
        if not self.bind:
            raise ConfigError("bind: the list of addresses is empty; give at least one")
        if not self.certfile and (self.keyfile or self.ca_certs):
            raise ConfigError(f"{'keyfile' if self.keyfile else 'ca_certs'}: needs certfile")
        if not self.ca_certs and self.cert_reqs != "none":
            raise ConfigError(f"cert_reqs: {self.cert_reqs} needs ca_certs")
        if self.admin and is_public(self.admin) and not self.admin_token_file:
            raise ConfigError(f"admin: {self.admin} is a public address; give admin_token_file")
        if sum(lane.threads for lane in self.reserve_threads) >= self.threads:
            raise ConfigError(f"reserve_threads: leaves nothing of {self.threads} threads")


LISTEN_GROUPS: Final = {"bind": "bind", "host": "pair", "port": "pair", "uds": "uds", "fd": "fd"}
"""The options that set listening addresses, and the group of each. ``host`` and ``port`` form one
group, the others a group each."""


def join_bind(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses that ``bind``, ``uds``, ``fd``, or ``host`` and ``port`` stand for.

    Raises ConfigError if options of two groups are given: ``--bind 127.0.0.1:80 --host 0.0.0.0``
    could mean the first address, the second or both.
    """
    if len({LISTEN_GROUPS[name] for name in given}) > 1:
        raise ConfigError(f"{' and '.join(given)}: give one of them to say where to listen")
    if "bind" in given:
        return tuple(given["bind"])
    if "uds" in given:
        return (f"unix:{given['uds']}",)
    if "fd" in given:
        return (f"fd://{given['fd']}",)
    default_host, _, default_port = DEFAULT_BIND.rpartition(":")
    host = str(given.get("host", default_host)).removeprefix("[").removesuffix("]")
    port = given.get("port", default_port)
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}",)


OPTIONS: Final[Mapping[str, Option]] = MappingProxyType(
    {
        # fields() omits the shorthands, which have flags and variables like the other options.
        name: field.metadata["option"]
        for name, field in Config.__dataclass_fields__.items()
    }
)
"""Every option by the name of its field, in the order of the fields."""
