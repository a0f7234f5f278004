"""The options of other WSGI and ASGI servers, and what each of them is here.

One table, `ROWS`, with four uses: the command line understands another server's flag or answers it
with the right word (``cli/arguments.py``), ``aiowsgi migrate`` translates configuration files
(``cli/migrate.py``), and the documentation's tables are rendered from it (`render_table`). A row
stands for one meaning; it has the names of that meaning in each server, and a function that
translates a value. Names are written without leading hyphens, and with hyphens instead of
underscores: a flag ``--keep-alive``, a key ``keep_alive`` and a setting ``keepalive`` are three
spellings in one row.

Nothing is read or set here. The module is imported only if a command line has a flag that is not
one of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

__all__ = ["ROWS", "SERVERS", "Row", "Translation", "find", "meanings", "render_table"]

SERVERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gunicorn": "gunicorn",
        "waitress": "waitress",
        "uvicorn": "uvicorn",
        "uwsgi": "uWSGI",
        "mod_wsgi": "mod_wsgi-express",
        "cheroot": "cheroot",
        "granian": "granian",
    }
)
"""The servers that the table knows: a short name for each, and how it writes itself."""


class Translation(NamedTuple):
    """What a foreign option with its value amounts to here."""

    settings: Mapping[str, str] = MappingProxyType({})
    """Values by the names of our options, to be read as on the command line. Two names are no
    options: ``attribute``, the application's name within its module, and ``environ``, an
    assignment of an environment variable."""
    note: str = ""
    """What differs from the other server, in a sentence without a capital; empty if nothing."""
    refused: bool = False
    """The option has no counterpart, and leaving it out is not safe; ``note`` says what to do."""


Translate: TypeAlias = Callable[[str], Translation]


class Row(NamedTuple):
    """One meaning, and its names in other servers."""

    names: Mapping[str, tuple[str, ...]]
    """By the short names of `SERVERS`."""
    option: str
    """Our option; empty if there is none."""
    why: str
    """What differs, or what to do instead."""
    translate: Translate
    values: int = 1
    """Values that follow the flag on a command line."""


def find(name: str, server: str | None = None) -> Row | None:
    """The row of ``name``, which may be a flag or a key; of any server unless ``server`` is given.

    A name that has several meanings has that of the server which comes first in `SERVERS`.
    """
    return next(meanings(name, SERVERS if server is None else (server,)), None)


def meanings(name: str, servers: Iterable[str] = SERVERS) -> Iterator[Row]:
    """The rows of ``name``, in the order of ``servers``."""
    name = name.lstrip("-").replace("_", "-")
    for server in servers:
        for row in ROWS:
            if name in row.names.get(server, ()):
                yield row


def render_table(server: str) -> str:
    """The options of one server and what they are here, as a table in Markdown."""
    head = [f"| {SERVERS[server]} | aiowsgi | What differs |", "|---|---|---|"]
    return "\n".join([*head, *_table_rows(server)])


def _table_rows(server: str) -> Iterator[str]:
    for row in ROWS:
        if server in row.names:
            theirs = ", ".join(f"`{name}`" for name in row.names[server])
            ours = f"`--{row.option.replace('_', '-')}`" if row.option else ""
            yield f"| {theirs} | {_PSEUDO.get(row.option, ours)} | {row.why} |"


_PSEUDO: Final = {"app": "`MODULE:ATTRIBUTE`", "attribute": "`MODULE:ATTRIBUTE`", "environ": ""}


# How rows are made. The names of servers are keywords, with the options' names in one text.


def _row(option: str, why: str, translate: Translate, values: int, names: Mapping[str, str]) -> Row:
    split = {server: tuple(text.split()) for server, text in names.items()}
    return Row(split, option, why, translate, values)


def _same(option: str, why: str = "", convert: Callable[[str], str] = str, **names: str) -> Row:
    """Our option takes the value, which ``convert`` may write differently."""

    def translate(value: str) -> Translation:
        return Translation({option: convert(value)}, why)

    return _row(option, why, translate, 1, names)


def _switch(option: str, value: str, why: str = "", **names: str) -> Row:
    """A flag without a value; our option is set to ``value``."""
    return _row(option, why, lambda _: Translation({option: value}, why), 0, names)


def _needless(why: str, *, values: int = 1, quiet: bool = False, **names: str) -> Row:
    """Understood, and nothing is set."""
    note = Translation(note="" if quiet else why)
    return _row("", why, lambda _: note, values, names)


def _refused(why: str, *, values: int = 1, **names: str) -> Row:
    """Neither understood nor safe to leave out."""
    refusal = Translation(note=why, refused=True)
    return _row("", why, lambda _: refusal, values, names)


def _special(option: str, why: str, translate: Translate, *, values: int = 1, **names: str) -> Row:
    return _row(option, why, translate, values, names)


# Values


def _address(value: str) -> str:
    """An address of uWSGI, waitress or cheroot: ``*:80``, ``0:80``, ``80`` or a path."""
    value = value.strip()
    if value.startswith(("unix:", "fd:")):
        return value
    if value.startswith(("/", "./", "@")) or value.endswith((".sock", ".socket")):
        return f"unix:{value}"
    if value.isdecimal():
        return f":{value}"
    return re.sub(r"^(\*|0)(?=:\d)", "", value)


def _addresses(value: str) -> str:
    """Several addresses. A number alone is none: it may be uWSGI's ``-b``, a buffer's size."""
    parts = (part for part in re.split(r"[\s,]+", value.strip()) if part)
    return ",".join(part if part.isdecimal() else _address(part) for part in parts)


def _listen(value: str) -> Translation:
    """Addresses in waitress, a backlog in uWSGI."""
    if value.isdecimal():
        return Translation({"backlog": value})
    return Translation({"bind": _addresses(value)})


def _pid(value: str) -> Translation:
    if value.isdecimal():
        return Translation(note="uWSGI's -p is --workers here; --pid takes a file", refused=True)
    return Translation({"pid": value})


def _unit(unit: str) -> Callable[[str], str]:
    return lambda value: f"{value}{unit}" if value.strip("0") else "0"


def _head_size(value: str) -> str:
    """A limit of one field, or a buffer: only a larger one than our whole header section counts."""
    return str(_HEAD_SIZE) if value.isdecimal() and 0 < int(value) < _HEAD_SIZE else value


_HEAD_SIZE: Final = 64 << 10
"""The default of --max-header-size."""


def _count(value: str) -> str:
    """``%k`` is the number of processors in uWSGI's files."""
    return "auto" if value == "%k" else value


def _mode(value: str) -> str:
    return "666" if value in {"", "true"} else value


_GREENLETS: Final = (
    "there are no greenlets here: each request holds a thread, so raise --threads for requests"
    " that wait; idle connections hold none"
)


def _worker_class(value: str) -> Translation:
    name = re.split(r"[.:#]", value)[-1].lower()
    if name in {"sync", "syncworker"}:
        return Translation(
            note="sync runs one request at a time in each worker; here 4 threads do, unless"
            " --threads 1 is given"
        )
    if name in {"gthread", "threadworker"}:
        return Translation(note="requests always run in threads here; --threads has their number")
    if name.startswith(("gevent", "ggevent", "geventlet", "eventlet")):
        return Translation(note=_GREENLETS)
    if "uvicorn" in value.lower() or name in {"asgi", "asgiworker"}:
        return Translation(
            note="that worker serves ASGI applications; aiowsgi serves WSGI. Keep uvicorn for an"
            " ASGI application (FastAPI, Starlette); for a WSGI one leave the flag out",
            refused=True,
        )
    return Translation(note="worker classes are gunicorn's; leave the flag out", refused=True)


def _interface(value: str) -> Translation:
    if value.lower() in {"wsgi", "auto"}:
        return Translation()
    return Translation(
        note=f"{value} applications are not served here, only WSGI; keep uvicorn or granian",
        refused=True,
    )


def _http(value: str) -> Translation:
    """An address in uWSGI, versions of HTTP in granian."""
    if value in {"auto", "h11", "httptools"}:
        return Translation({"http": value})
    if value == "1":
        return Translation()
    if value in {"2", "h2"}:
        return Translation(note="HTTP/2 is the reverse proxy's; leave it out", refused=True)
    if re.search(r":\d+$|^\d+$|/", value):
        return Translation({"bind": _address(value)})
    return Translation(note="the parser is auto, h11 or httptools", refused=True)


_HTTP_ONLY: Final = (
    "HTTP is spoken here, not the uwsgi protocol: in nginx, uwsgi_pass must become proxy_pass"
)


def _socket(value: str) -> Translation:
    return Translation({"bind": _address(value.partition(",")[0])}, _HTTP_ONLY)


def _mount(value: str) -> Translation:
    """``/prefix=module`` of uWSGI."""
    prefix, _, app = value.partition("=")
    return Translation({"app": app, "root_path": prefix})


def _protocol(value: str) -> Translation:
    if value.startswith("http"):
        return Translation()
    return Translation(note=_HTTP_ONLY, refused=value != "uwsgi")


def _https(value: str) -> Translation:
    """``:443,cert.pem,key.pem`` as uWSGI has it."""
    address, certificate, key = [*value.split(","), "", ""][:3]
    if not certificate:
        return Translation(note="give --bind with --certfile and --keyfile", refused=True)
    settings = {"bind": _address(address), "certfile": certificate}
    return Translation({**settings, "keyfile": key} if key else settings)


def _log_file(value: str) -> Translation:
    if value == "-":
        return Translation()
    return Translation(
        note=f"the diagnostic log goes to standard error; for a file write 2>>{value}, or"
        " --log-config"
    )


def _trusted(value: str) -> Translation:
    return Translation({"forwarded_allow_ips": value, "proxy_headers": "yes"})


def _python_path(value: str) -> Translation:
    if "," in value or ":" in value:
        return Translation(note="write PYTHONPATH for several folders", refused=True)
    return Translation({"app_dir": value})


_LEVELS: Final = {"trace": "debug", "notice": "info", "fatal": "critical"}


def _log_level(value: str) -> Translation:
    return Translation({"log_level": _LEVELS.get(value.lower(), value)})


def _loop(value: str) -> Translation:
    return Translation({"loop": value if value in {"auto", "uvloop", "asyncio"} else "auto"})


_ASGI: Final = "aiowsgi serves WSGI applications only; keep uvicorn for an ASGI application"
_FILES: Final = "files are not served here; use WhiteNoise in the application, or the reverse proxy"
_SUPERVISED: Final = "the service manager's job (systemd, a container); start in the foreground"
_METRICS: Final = "metrics are served to Prometheus by --admin, at /metrics; leave it out"
_OWN: Final = "not needed here; left out"
_STRICT: Final = "requests are read by RFC 9112, and there is no switch for less; leave it out"
_HOOKS: Final = "there are no hooks; what they did goes into the application's module"

ROWS: Final = (
    # The application
    _same("app", gunicorn="wsgi-app", uwsgi="module wsgi wsgi-file file w", mod_wsgi="entry-point"),
    _special("app", "with --root-path", _mount, uwsgi="mount"),
    _same("attribute", uwsgi="callable", mod_wsgi="callable-object"),
    _switch("factory", "yes", waitress="call", uvicorn="factory", granian="factory"),
    _special(
        "app_dir",
        "one folder; PYTHONPATH for several",
        _python_path,
        gunicorn="pythonpath",
        uwsgi="pythonpath python-path pp",
        mod_wsgi="python-path",
    ),
    _same("app_dir", uvicorn="app-dir"),
    _same(
        "chdir",
        gunicorn="chdir",
        uwsgi="chdir",
        mod_wsgi="working-directory",
        cheroot="chdir",
        granian="working-dir",
    ),
    _same("env_file", uvicorn="env-file", granian="env-files"),
    _same("environ", gunicorn="e env raw-env", uwsgi="env"),
    _special(
        "",
        "WSGI only",
        _interface,
        uvicorn="interface",
        granian="interface",
    ),
    _needless(
        "run the aiowsgi of that environment, as in venv/bin/aiowsgi",
        uwsgi="home virtualenv venv H pyhome",
    ),
    _refused(
        "write use = egg:aiowsgi into [server:main] of the file, and start it by pserve FILE",
        gunicorn="paste paster paste-global raw-paste-global-conf",
        uwsgi="paste ini-paste ini-paste-logged paste-logger",
        mod_wsgi="paste",
    ),
    _refused(
        "write: aiowsgi migrate FILE > aiowsgi.toml; then -c aiowsgi.toml",
        uwsgi="ini xml yaml json y x",
    ),
    _refused(
        _ASGI,
        gunicorn="asgi-lifespan asgi-loop asgi-disconnect-grace-period websocket-max-message-size",
        uvicorn="lifespan ws ws-max-size ws-max-queue ws-ping-interval ws-ping-timeout"
        " ws-per-message-deflate",
        granian="ws",
    ),
    # Listening
    _same(
        "bind",
        "",
        _addresses,
        gunicorn="b bind",
        uwsgi="http-socket hs",
        cheroot="bind",
    ),
    _special("bind", "", _listen, waitress="listen"),
    _special(
        "bind",
        "in uWSGI an address; here --http is the parser",
        _http,
        uwsgi="http",
    ),
    _special(
        "bind",
        "in nginx, `uwsgi_pass` must become `proxy_pass`",
        _socket,
        uwsgi="socket uwsgi-socket s",
    ),
    _special("bind", "with --certfile and --keyfile", _https, uwsgi="https"),
    _special(
        "",
        "HTTP is spoken, not the uwsgi protocol",
        _protocol,
        gunicorn="protocol",
        uwsgi="protocol",
    ),
    _same("host", waitress="host", uvicorn="host", mod_wsgi="host", granian="host"),
    _same("port", waitress="port", uvicorn="port", mod_wsgi="port", granian="port"),
    _same("uds", waitress="unix-socket", uvicorn="uds", granian="uds"),
    _same("fd", uvicorn="fd"),
    _same(
        "uds_permissions",
        "",
        _mode,
        uwsgi="chmod-socket",
        waitress="unix-socket-perms",
        granian="uds-permissions",
    ),
    _same(
        "backlog",
        gunicorn="backlog",
        uwsgi="listen l",
        waitress="backlog",
        uvicorn="backlog",
        mod_wsgi="listen-backlog",
        cheroot="request-queue-size",
        granian="backlog",
    ),
    _switch("reuse_port", "yes", gunicorn="reuse-port", uwsgi="reuse-port"),
    _same("umask", gunicorn="m umask", uwsgi="umask"),
    _needless(
        "an application sees the Host that the client sent",
        waitress="server-name",
        mod_wsgi="server-name server-alias",
        cheroot="server-name",
    ),
    _refused(
        "give --port with --certfile and --keyfile",
        mod_wsgi="https-port https-only",
    ),
    _needless(
        "a socket is owned by --user and --group",
        uwsgi="chown-socket",
    ),
    # Workers
    _same(
        "workers",
        "",
        _count,
        gunicorn="w workers",
        uwsgi="processes workers p",
        uvicorn="workers",
        mod_wsgi="processes",
        granian="workers",
    ),
    _same(
        "threads",
        gunicorn="threads",
        uwsgi="threads",
        waitress="threads",
        mod_wsgi="threads",
        cheroot="threads",
        granian="blocking-threads",
    ),
    _special(
        "",
        "sync, gthread, gevent and eventlet are understood: threads run all requests",
        _worker_class,
        gunicorn="k worker-class",
    ),
    _needless(
        "connections cost no threads here; --max-connections limits them",
        gunicorn="worker-connections",
    ),
    _needless(_GREENLETS, uwsgi="gevent async ugreen greenlet gevent-monkey-patch"),
    _special("loop", "auto, uvloop or asyncio", _loop, uvicorn="loop", granian="loop"),
    _special("http", "the parser; HTTP/2 is the proxy's", _http, uvicorn="http", granian="http"),
    _switch(
        "preload", "yes", "a reload brings new code all the same", gunicorn="preload preload-app"
    ),
    _needless(
        "each worker imports the application by itself",
        values=0,
        quiet=True,
        uwsgi="lazy lazy-apps",
    ),
    _needless(
        "the number of workers is constant; TTIN and TTOU change it",
        uwsgi="cheaper cheaper-initial cheaper-step cheaper-algo cheaper-overload workers-min",
    ),
    _needless(
        _OWN,
        values=0,
        quiet=True,
        uwsgi="master M enable-threads T single-interpreter need-app thunder-lock die-on-term"
        " vacuum strict ignore-sigpipe ignore-write-errors disable-write-exception auto-procname"
        " close-on-exec close-on-exec2 so-keepalive tcp-nodelay memory-report harakiri-verbose"
        " no-orphans py-call-osafterfork log-master http-auto-chunked http-keepalive add-gzip"
        " skip-atexit honour-stdin show-config manage-script-name no-defer-accept",
        gunicorn="no-sendfile sendfile initgroups suppress-ragged-eofs do-handshake-on-connect"
        " capture-output R enable-stdio-inheritance disable-redirect-access-to-syslog spew"
        " no-control-socket control-socket-disable",
        waitress="log-socket-errors asyncore-use-poll ipv4 ipv6 log-untrusted-proxy-headers"
        " clear-untrusted-proxy-headers no-clear-untrusted-proxy-headers",
        uvicorn="reset-contextvars no-reset-contextvars",
        mod_wsgi="log-to-terminal startup-log setup-only",
        granian="log no-log http1-pipeline-flush no-http1-pipeline-flush respawn-failed-workers"
        " no-respawn-failed-workers reload-ignore-worker-failure no-reload-ignore-worker-failure"
        " no-ws no-ssl-client-verify http1-keep-alive",
    ),
    _needless(
        _OWN,
        quiet=True,
        uwsgi="plugin plugins plugins-dir wsgi-env-behaviour wsgi-env-behavior offload-threads"
        " post-buffering post-buffering-bufsize threads-stacksize thread-stacksize cpu-affinity"
        " reload-mercy",
        gunicorn="reload-engine default-proc-name tmp-upload-dir",
        waitress="asyncore-loop-timeout cleanup-interval recv-bytes send-bytes sockets"
        " channel-request-lookahead socket-options",
        uvicorn="timeout-worker-healthcheck reload-delay",
        mod_wsgi="server-root log-directory application-type reload-interval python-eggs"
        " send-buffer-size receive-buffer-size max-clients initial-workers"
        " minimum-spare-workers maximum-spare-workers connect-timeout server-mpm"
        " modules-directory",
        cheroot="max-threads",
        granian="runtime-threads runtime-blocking-threads runtime-mode task-impl threading-mode"
        " blocking-threads-idle-timeout http1-buffer-size respawn-interval rss-sample-interval"
        " rss-samples reload-tick",
    ),
    _needless("no heartbeat file is written here", gunicorn="worker-tmp-dir"),
    # Limits and timeouts
    _same(
        "request_timeout",
        "limits the application's answer (504), not the worker's heartbeat",
        gunicorn="t timeout",
        uwsgi="harakiri",
        mod_wsgi="request-timeout",
    ),
    _same(
        "graceful_timeout",
        gunicorn="graceful-timeout",
        uwsgi="worker-reload-mercy",
        uvicorn="timeout-graceful-shutdown",
        mod_wsgi="graceful-timeout shutdown-timeout",
        cheroot="shutdown-timeout",
        granian="workers-kill-timeout",
    ),
    _same(
        "keep_alive",
        gunicorn="keep-alive keepalive",
        waitress="channel-timeout",
        uvicorn="timeout-keep-alive",
        mod_wsgi="keep-alive-timeout",
        cheroot="timeout",
    ),
    _switch("keep_alive", "0", granian="no-http1-keep-alive"),
    _same("header_timeout", "", _unit("ms"), granian="http1-header-read-timeout"),
    _same("header_timeout", mod_wsgi="header-timeout"),
    _same("body_timeout", uwsgi="socket-timeout http-timeout", mod_wsgi="body-timeout"),
    _same("write_timeout", mod_wsgi="socket-timeout"),
    _same("queue_timeout", mod_wsgi="queue-timeout", cheroot="accepted-queue-timeout"),
    _same("queue_size", cheroot="accepted-queue-size"),
    _same("limit_request_line", gunicorn="limit-request-line"),
    _same("limit_request_fields", gunicorn="limit-request-fields"),
    _same(
        "max_header_size",
        "limits the whole header section, 64k at least",
        _head_size,
        gunicorn="limit-request-field-size",
        uwsgi="buffer-size b",
        uvicorn="h11-max-incomplete-event-size",
    ),
    _same("max_header_size", waitress="max-request-header-size"),
    _same(
        "max_body_size",
        uwsgi="limit-post",
        waitress="max-request-body-size",
        mod_wsgi="limit-request-body",
    ),
    _same(
        "max_connections",
        "counts connections of a worker",
        uvicorn="limit-concurrency",
        waitress="connection-limit",
    ),
    _same(
        "response_buffer",
        waitress="outbuf-overflow outbuf-high-watermark",
        mod_wsgi="response-buffer-size",
    ),
    _needless("bodies beyond 512k are kept in files", waitress="inbuf-overflow"),
    _needless("requests wait in a queue of --queue-size", granian="backpressure"),
    # Recycling
    _same(
        "max_requests",
        gunicorn="max-requests",
        uwsgi="max-requests R",
        uvicorn="limit-max-requests",
        mod_wsgi="maximum-requests",
    ),
    _same(
        "max_requests_jitter",
        gunicorn="max-requests-jitter",
        uwsgi="max-requests-delta",
        uvicorn="limit-max-requests-jitter",
    ),
    _same(
        "max_rss",
        "",
        _unit("M"),
        uwsgi="reload-on-rss evil-reload-on-rss",
        granian="workers-max-rss",
    ),
    _same(
        "max_lifetime",
        uwsgi="max-worker-lifetime",
        mod_wsgi="restart-interval",
        granian="workers-lifetime",
    ),
    _needless("see --max-rss", uwsgi="reload-on-as evil-reload-on-as min-worker-lifetime"),
    # Development
    _switch(
        "reload",
        "yes",
        gunicorn="reload",
        uvicorn="reload",
        mod_wsgi="reload-on-changes",
        granian="reload",
    ),
    _switch("reload", "yes", "for development", uwsgi="py-autoreload python-autoreload"),
    _same("reload_dir", uvicorn="reload-dir", granian="reload-paths"),
    _same(
        "reload_include", gunicorn="reload-extra-file reload-extra-files", uvicorn="reload-include"
    ),
    _same(
        "reload_exclude",
        uvicorn="reload-exclude",
        granian="reload-ignore-patterns reload-ignore-dirs reload-ignore-paths",
    ),
    _needless("send HUP instead, as by systemctl reload", uwsgi="touch-reload touch-chain-reload"),
    # TLS
    _same(
        "certfile",
        gunicorn="certfile",
        uvicorn="ssl-certfile",
        mod_wsgi="ssl-certificate-file",
        granian="ssl-certificate",
    ),
    _same(
        "keyfile",
        gunicorn="keyfile",
        uvicorn="ssl-keyfile",
        mod_wsgi="ssl-certificate-key-file",
        granian="ssl-keyfile",
    ),
    _same(
        "ca_certs",
        gunicorn="ca-certs",
        uvicorn="ssl-ca-certs",
        mod_wsgi="ssl-ca-certificate-file",
        granian="ssl-ca",
    ),
    _same("cert_reqs", gunicorn="cert-reqs", uvicorn="ssl-cert-reqs"),
    _switch("cert_reqs", "required", granian="ssl-client-verify"),
    _refused(
        "TLS 1.2 and 1.3 with Python's own choice of ciphers; leave it out",
        gunicorn="ssl-version ciphers ssl-context",
        uvicorn="ssl-version ssl-ciphers",
        granian="ssl-protocol-min ssl-crl",
    ),
    _refused(
        "a key with a password cannot be read; write it without",
        uvicorn="ssl-keyfile-password",
        granian="ssl-keyfile-password",
    ),
    _refused(
        "HTTP/2 is the reverse proxy's; leave it out",
        gunicorn="http-protocols http2-cleartext http2-max-concurrent-streams"
        " http2-initial-window-size http2-max-frame-size http2-max-header-list-size",
        uvicorn="http2 no-http2",
        granian="http2-adaptive-window http2-initial-connection-window-size"
        " http2-initial-stream-window-size http2-keep-alive-interval http2-keep-alive-timeout"
        " http2-max-concurrent-streams http2-max-frame-size http2-max-headers-size"
        " http2-max-send-buffer-size no-http2-adaptive-window no-metrics",
    ),
    # Proxies
    _same(
        "forwarded_allow_ips",
        "counts with `--proxy-headers` only",
        gunicorn="forwarded-allow-ips",
        uvicorn="forwarded-allow-ips",
    ),
    _switch("proxy_headers", "yes", uvicorn="proxy-headers"),
    _special(
        "forwarded_allow_ips",
        "with `--proxy-headers`",
        _trusted,
        waitress="trusted-proxy",
        mod_wsgi="trust-proxy",
    ),
    _needless(
        "hops are counted by the addresses of --forwarded-allow-ips",
        waitress="trusted-proxy-count",
    ),
    _special(
        "proxy_headers",
        "reads all of X-Forwarded-* and Forwarded",
        lambda _: Translation({"proxy_headers": "yes"}),
        mod_wsgi="trust-proxy-header",
    ),
    _needless(
        "--proxy-headers reads all of X-Forwarded-* and Forwarded",
        gunicorn="secure-scheme-headers forwarder-headers",
        waitress="trusted-proxy-headers",
    ),
    _switch(
        "proxy_protocol",
        "yes",
        gunicorn="proxy-protocol",
        uwsgi="enable-proxy-protocol http-enable-proxy-protocol",
    ),
    _same("forwarded_allow_ips", gunicorn="proxy-allow-from proxy-allow-ips"),
    _same(
        "root_path",
        gunicorn="root-path",
        waitress="url-prefix",
        uvicorn="root-path",
        mod_wsgi="mount-point",
        granian="url-path-prefix",
    ),
    _refused(
        "leave it out: --proxy-headers believes the proxy's X-Forwarded-Proto",
        waitress="url-scheme",
    ),
    _refused(
        "the uwsgi and FastCGI protocols are not spoken: use proxy_pass in nginx",
        gunicorn="uwsgi-allow-from uwsgi-allow-ips",
        uwsgi="fastcgi-socket scgi-socket",
    ),
    _refused(
        _STRICT,
        gunicorn="permit-obsolete-folding strip-header-spaces permit-unconventional-http-method"
        " permit-unconventional-http-version casefold-http-method header-map",
    ),
    _needless("--http chooses the parser", gunicorn="http-parser"),
    # Logs
    _special(
        "log_level",
        "",
        _log_level,
        gunicorn="log-level loglevel",
        uvicorn="log-level",
        mod_wsgi="log-level",
        granian="log-level",
    ),
    _special(
        "",
        "the diagnostic log goes to standard error",
        _log_file,
        gunicorn="log-file error-logfile errorlog",
        uwsgi="logto logto2 log-to logger",
        mod_wsgi="error-log-name",
    ),
    _same("access_logfile", gunicorn="access-logfile accesslog", uwsgi="req-logger"),
    _same(
        "access_logformat",
        gunicorn="access-logformat access-log-format",
    ),
    _refused(
        "write --access-logformat, with atoms such as %(h)s; there is json too",
        uwsgi="log-format logformat",
        granian="access-log-fmt",
        mod_wsgi="access-log-format",
    ),
    _switch("access_log", "yes", uvicorn="access-log", mod_wsgi="access-log", granian="access-log"),
    _switch(
        "access_log",
        "no",
        uwsgi="disable-logging L",
        uvicorn="no-access-log",
        granian="no-access-log",
    ),
    _switch("color", "always", uvicorn="use-colors"),
    _switch("color", "never", uvicorn="no-use-colors"),
    _refused(
        "write --log-config FILE: a dictionary of logging.config in TOML or JSON",
        gunicorn="log-config-json logconfig-json logconfig-dict logger-class",
    ),
    _same(
        "log_config",
        "a dictionary of logging.config in TOML or JSON, not an INI file",
        gunicorn="log-config logconfig",
        uvicorn="log-config",
        granian="log-config",
    ),
    _refused(
        "write to standard error, which systemd's journal or the container takes",
        gunicorn="log-syslog syslog log-syslog-to syslog-addr log-syslog-prefix syslog-prefix"
        " log-syslog-facility syslog-facility",
        uwsgi="syslog rsyslog",
    ),
    _needless("see --slow-request-log", uwsgi="log-slow log-4xx log-5xx log-big log-zero"),
    _needless(
        "with --proxy-headers the log has the client's address",
        values=0,
        uwsgi="log-x-forwarded-for",
    ),
    _needless(
        "the log rotates by logrotate and USR1",
        uwsgi="log-maxsize log-reopen log-date",
        mod_wsgi="rotate-logs max-log-size",
    ),
    # Metrics
    _refused(
        _METRICS,
        gunicorn="statsd-host statsd-prefix dogstatsd-tags enable-backlog-metric",
        uwsgi="statsd-push carbon stats-push",
        granian="metrics metrics-address metrics-port metrics-scrape-interval",
    ),
    _same(
        "admin",
        "JSON and Prometheus metrics over HTTP",
        _address,
        uwsgi="stats stats-server stats-http",
    ),
    # The process
    _special(
        "pid",
        "",
        _pid,
        gunicorn="p pid pidfile",
        uwsgi="pidfile pidfile2 safe-pidfile",
        granian="pid-file",
    ),
    _same("user", gunicorn="u user", uwsgi="uid", mod_wsgi="user"),
    _same("group", gunicorn="g group", uwsgi="gid", mod_wsgi="group"),
    _needless(
        "processes keep the name aiowsgi",
        gunicorn="n name proc-name",
        uwsgi="procname procname-prefix procname-prefix-spaced procname-master",
        granian="process-name",
    ),
    _refused(_SUPERVISED, values=0, gunicorn="D daemon"),
    _refused(_SUPERVISED, uwsgi="daemonize daemonize2 d emperor vassals"),
    _refused(
        "start it beside the server, by the service manager",
        uwsgi="attach-daemon attach-daemon2 smart-attach-daemon cron cron2 mule mules spooler"
        " spooler-processes farm",
        gunicorn="dirty-app dirty-apps dirty-workers dirty-timeout dirty-threads"
        " dirty-graceful-timeout control-socket control-socket-mode",
    ),
    _refused(
        _HOOKS,
        gunicorn="on-starting on-reload when-ready pre-fork post-fork post-worker-init worker-int"
        " worker-abort pre-exec pre-request post-request child-exit worker-exit nworkers-changed"
        " on-exit on-dirty-starting dirty-post-fork dirty-worker-init dirty-worker-exit",
        uwsgi="hook-pre-app hook-post-app hook-master-start hook-as-root exec-pre-app"
        " exec-asap exec-as-user exec-as-root exec-post-app import shared-import"
        " shared-py-import py-import",
        mod_wsgi="service-script include-file",
    ),
    _switch("server_header", "yes", uvicorn="server-header"),
    _switch("server_header", "no", uvicorn="no-server-header"),
    _switch("date_header", "yes", uvicorn="date-header"),
    _switch("date_header", "no", uvicorn="no-date-header"),
    _needless("--no-server-header leaves the field out", waitress="ident"),
    _refused(
        "set response fields in the application or in the reverse proxy",
        uvicorn="header",
        uwsgi="add-header collect-header response-header",
    ),
    _refused(
        "tracebacks are only in the log; leave it out", values=0, waitress="expose-tracebacks"
    ),
    _needless(_OWN, values=0, quiet=True, waitress="no-expose-tracebacks"),
    # What the reverse proxy does
    _refused(
        _FILES,
        uwsgi="static-map static-map2 check-static static-index static-expires static-gzip"
        " static-gzip-all static-safe",
        mod_wsgi="document-root directory-index",
        granian="static-path-route static-path-mount static-path-dir-to-file static-path-expires",
    ),
    _refused(_FILES, values=2, mod_wsgi="url-alias"),
    _refused(
        "rules for requests belong into the reverse proxy",
        uwsgi="route route-host route-uri route-run http-to-https http-websockets"
        " harakiri-no-arh cache cache2 error-route",
        mod_wsgi="proxy-mount-point proxy-virtual-host enable-gzip compress-responses"
        " auth-user-script auth-group-script",
    ),
)
"""All rows, in the order of the documentation's tables."""
