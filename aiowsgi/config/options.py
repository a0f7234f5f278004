"""Every option of the server, once: the fields of ``Config``.

A field holds the default, and in its metadata the kind of value and the help text. All else is
derived from the fields and is nowhere written a second time: the flags (``cli/main.py``), the
variables and TOML keys (``config/sources.py``), ``--help`` and the README's table
(``config/help.py``). To add an option is to add a field.

Values are normalised: times are seconds as float, where 0 is off; sizes are bytes; lists are
tuples; None is "not set" or, where the kind says so, ``auto``. Whatever the command line takes,
``Config(keep_alive="75s")`` takes too. A Config that exists is valid; nothing is read, opened or
looked up to make one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, fields
from types import MappingProxyType
from typing import Any, Final, Self

from aiowsgi.config.option import Option, off, on, option
from aiowsgi.config.types import (
    Auto,
    Choice,
    Duration,
    Integer,
    Listing,
    Mode,
    OptionType,
    Parsed,
    Size,
    Text,
)
from aiowsgi.config.values import (
    RouteLimit,
    bind_text,
    is_public,
    log_format,
    path_prefix,
    route_limit,
    trusted_peer,
)
from aiowsgi.exceptions import ConfigError
from aiowsgi.suggest import did_you_mean

__all__ = ["DEFAULT_BIND", "LISTEN_WAYS", "OPTIONS", "Config", "join_bind"]

DEFAULT_BIND: Final = "127.0.0.1:8000"
"""Where to listen if nothing says so; only this machine can reach it."""

# Kinds that several options share.

ADDRESS: Final[OptionType[str]] = Parsed("ADDRESS", bind_text)
FILE: Final = Text("FILE")
DIRECTORY: Final = Text("DIR")
PATTERNS: Final = Listing(Text("GLOB"))
ROUTES: Final[OptionType[tuple[RouteLimit, ...]]] = Listing(Parsed("PATHS=N", route_limit), " ")
NUMBER: Final = Integer()
POSITIVE: Final = Integer(minimum=1)
TIME: Final = Duration()
SIZE: Final = Size()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one server is to run.

    Raises ConfigError for a name that is no option, for a value that its option cannot have, and
    for values that exclude each other.
    """

    app: str | None = option(
        Text("MODULE[:ATTRIBUTE]"),
        None,
        "The application: module:attribute, module:factory(), or a module that has an"
        " attribute application or app.",
        section="Application",
    )
    factory: bool = off("Call the attribute, without arguments, to get the application.")
    app_dir: str | None = option(DIRECTORY, None, "Look for modules here first, by default in ./.")
    chdir: str | None = option(DIRECTORY, None, "Change to it before importing the application.")
    env_file: str | None = option(
        FILE, None, "A file of KEY=VALUE lines. Variables that are set already win."
    )

    bind: tuple[str, ...] = option(
        Listing(ADDRESS),
        (DEFAULT_BIND,),
        "Where to listen: host:port, [::1]:port, :port (all interfaces), unix:path or fd://n."
        " Repeats. Port 0 picks a free port.",
        section="Listening",
        flags=("-b",),
    )
    # The shorthands of bind: a Config takes them, and has nothing but bind afterwards. That they
    # are made by a call is no matter of mutable defaults, of which RUF009 warns.
    host: InitVar[str | None] = option(  # noqa: RUF009
        Text("HOST"), None, "With port, instead of bind: one address to listen on."
    )
    port: InitVar[int | None] = option(  # noqa: RUF009
        Integer(maximum=65535),
        None,
        "With host, instead of bind. The variable PORT alone means 0.0.0.0:$PORT.",
        variables={"PORT": None},
    )
    uds: InitVar[str | None] = option(FILE, None, "Instead of bind unix:path.")  # noqa: RUF009
    fd: InitVar[int | None] = option(NUMBER, None, "Instead of bind fd://n.")  # noqa: RUF009
    backlog: int = option(POSITIVE, 2048, "Connections not yet accepted.")
    reuse_port: bool = off("Set SO_REUSEPORT: several servers share a port.")
    umask: int | None = option(Mode(), None, "Permissions that new files shall not have.")
    uds_permissions: int | None = option(Mode(), None, "Permissions of unix sockets.")

    workers: int | None = option(
        Auto(POSITIVE),
        1,
        "Processes. auto: one per processor that this process may use.",
        section="Workers",
        flags=("-w",),
        variables={"WEB_CONCURRENCY": None},
    )
    threads: int = option(POSITIVE, 4, "Threads that run the application, per worker.")
    loop: str = option(
        Choice(("auto", "uvloop", "asyncio")), "auto", "Event loop. auto: uvloop if installed."
    )
    http: str = option(
        Choice(("auto", "h11", "httptools")), "auto", "Parser. auto: httptools if installed."
    )

    request_buffering: str = option(
        Choice(("auto", "on", "off"), {"true": "on", "false": "off"}),
        "auto",
        "Start the application when the whole body has come (on), at once (off), or when"
        " it is complete or 512k of it have come (auto).",
        section="Bodies",
    )
    response_buffer: int = option(
        SIZE, 1 << 20, "Kept in memory for a slow client, per connection."
    )
    response_spool: int = option(SIZE, 64 << 20, "Kept in a temporary file, beyond that.")

    max_header_size: int = option(
        SIZE, 64 << 10, "Of a header section; beyond: 431. 0: no limit.", section="Limits"
    )
    limit_request_line: int = option(SIZE, 8 << 10, "Of a request line; beyond: 414.")
    limit_request_fields: int = option(NUMBER, 100, "Header fields; beyond: 431.")
    max_body_size: int = option(SIZE, 1 << 30, "Of a request body; beyond: 413.")
    max_connections: int = option(NUMBER, 0, "Of a worker; beyond: 503. 0: what descriptors allow.")

    header_timeout: float = option(
        TIME, 10.0, "For a header section to arrive. 0: off.", section="Timeouts"
    )
    body_timeout: float = option(TIME, 30.0, "Between two pieces of a request body.")
    write_timeout: float = option(TIME, 60.0, "While a client reads nothing of its response.")
    keep_alive: float = option(TIME, 75.0, "For the next request on a kept connection.")
    request_timeout: float = option(
        TIME, 0.0, "For the application; beyond: 504, and a new thread."
    )
    graceful_timeout: float = option(TIME, 30.0, "For requests in progress at a stop.")
    shutdown_delay: float = option(TIME, 0.0, "From TERM until no more connections are accepted.")

    queue_size: int = option(
        POSITIVE, 1024, "Requests that wait for a thread; beyond: 503.", section="Queue"
    )
    queue_timeout: float = option(TIME, 30.0, "How long they wait; beyond: 503.")
    max_detached_threads: int | None = option(
        Auto(NUMBER),
        None,
        "Threads that may hang beyond request-timeout before the worker is replaced."
        " auto: as many as threads.",
    )
    interrupt_detached: bool = off("Raise an exception in a thread that hangs.")
    limit_per_client: int = option(NUMBER, 0, "Requests of one client at a time. 0: no limit.")
    route_limit: tuple[RouteLimit, ...] = option(
        ROUTES, (), "At most N threads: '/reports/*=2'. Repeats."
    )
    reserve_threads: tuple[RouteLimit, ...] = option(
        ROUTES, (), "N threads kept free: '/healthz,/login*=1'. Repeats."
    )

    max_requests: int = option(
        NUMBER, 0, "After so many, replace a worker. 0: never.", section="Recycling"
    )
    max_requests_jitter: int = option(NUMBER, 0, "Up to so many more, at random.")
    max_rss: int = option(SIZE, 0, "Beyond this memory, replace a worker. 0: never.")
    max_lifetime: float = option(TIME, 0.0, "Beyond this age, replace a worker. 0: never.")

    reload: bool = off("Restart when a file changes.", section="Development")
    reload_dir: tuple[str, ...] = option(Listing(DIRECTORY), (), "Watch it instead of ./. Repeats.")
    reload_include: tuple[str, ...] = option(
        PATTERNS, (), "Watch these files beside *.py. Repeats."
    )
    reload_exclude: tuple[str, ...] = option(PATTERNS, (), "Watch none of these files. Repeats.")

    certfile: str | None = option(
        FILE,
        None,
        "Certificate chain in PEM; turns TLS on. Read again on HUP.",
        section="TLS",
        flags=("--ssl-certfile",),
    )
    keyfile: str | None = option(
        FILE, None, "Its private key, if not in certfile.", flags=("--ssl-keyfile",)
    )
    ca_certs: str | None = option(FILE, None, "Authorities that vouch for clients, in PEM.")
    cert_reqs: str = option(
        Choice(("none", "optional", "required"), {"0": "none", "1": "optional", "2": "required"}),
        "none",
        "Whether a client shows a certificate.",
    )

    proxy_headers: bool = off(
        "Believe X-Forwarded-* and Forwarded of trusted peers.", section="Proxies"
    )
    forwarded_allow_ips: tuple[str, ...] = option(
        Listing(Parsed("PEERS", trusted_peer)),
        ("127.0.0.1", "::1", "unix"),
        "Trusted peers: addresses, networks, unix (any unix socket), * (everybody).",
        variables={"FORWARDED_ALLOW_IPS": None},
    )
    proxy_protocol: bool = off("Require PROXY protocol v1 or v2 of trusted peers.")
    root_path: str = option(
        Parsed("PATH", path_prefix),
        "",
        "Where the application is mounted: its SCRIPT_NAME.",
        variables={"SCRIPT_NAME": None},
    )

    log_level: str = option(
        Choice(("debug", "info", "warning", "error", "critical"), {"warn": "warning"}),
        "info",
        "Leave out what is less severe.",
        section="Logs",
    )
    log_config: str | None = option(FILE, None, "A logging.config dictionary, TOML or JSON.")
    color: str = option(
        Choice(("auto", "always", "never")),
        "auto",
        "Colours. auto: on a terminal. The variable NO_COLOR means never.",
        variables={"NO_COLOR": "never"},
    )
    access_log: bool = on("Log every request.")
    access_logfile: str = option(FILE, "-", "Where to; - is standard output.")
    access_logformat: str = option(
        Parsed("FORMAT", log_format),
        "timed",
        "timed (combined, and the duration), combined, common, json, or text with atoms such"
        " as %(h)s.",
    )

    admin: str | None = option(
        ADDRESS, None, "Serve health, metrics and a live view here.", section="Insight"
    )
    admin_token_file: str | None = option(
        FILE, None, "Token for admin; needed on a public address."
    )
    slow_request_log: float = option(TIME, 0.0, "Log the stack of a request this slow. 0: off.")
    server_timing: bool = off("Send a Server-Timing field.")
    request_id_header: bool = off("Send the request's id as X-Request-Id.")

    pid: str | None = option(FILE, None, "Write the process id to this file.", section="Process")
    user: str | None = option(Text("USER"), None, "Become this user once bound.")
    group: str | None = option(Text("GROUP"), None, "Become this group once bound.")
    server_header: bool = on("Send a Server field.")
    date_header: bool = on("Send a Date field.")

    def __new__(cls, **given: object) -> Self:
        """Refuse an unknown name with a hint, before ``__init__`` does so without."""
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
        read = {name: OPTIONS[name].read(value, name) for name, value in given.items()}
        object.__setattr__(self, "bind", join_bind(read))
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                object.__setattr__(self, field.name, OPTIONS[field.name].read(value, field.name))
        self._check_together()

    def _check_together(self) -> None:
        """What no option can know by itself."""
        if not self.bind:
            raise ConfigError("bind: names no address")
        if not self.certfile and (self.keyfile or self.ca_certs):
            raise ConfigError(f"{'keyfile' if self.keyfile else 'ca_certs'}: needs certfile")
        if not self.ca_certs and self.cert_reqs != "none":
            raise ConfigError(f"cert_reqs: {self.cert_reqs} needs ca_certs")
        if self.admin and is_public(self.admin) and not self.admin_token_file:
            raise ConfigError(f"admin: {self.admin} is a public address; give admin_token_file")
        if sum(lane.threads for lane in self.reserve_threads) >= self.threads:
            raise ConfigError(f"reserve_threads: leaves nothing of {self.threads} threads")


LISTEN_WAYS: Final = {"bind": "bind", "host": "pair", "port": "pair", "uds": "uds", "fd": "fd"}
"""The options that say where to listen, and the way that each stands for: four, since ``host`` and
``port`` are two halves of one."""


def join_bind(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses that ``bind``, ``uds``, ``fd``, or ``host`` and ``port`` amount to.

    Two ways at a time are a ConfigError: nobody can tell whether
    ``--bind 127.0.0.1:80 --host 0.0.0.0`` is meant to open the first, the second or both.
    """
    if len({LISTEN_WAYS[name] for name in given}) > 1:
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
        # fields() would leave out the shorthands, which to a source are options like all others.
        name: field.metadata["option"]
        for name, field in Config.__dataclass_fields__.items()
    }
)
"""Every option by its name in Python, in the order of the fields."""
