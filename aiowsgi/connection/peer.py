"""The addresses of both ends of a connection, and what trusted proxies say of the client.

They come from the transport, the PROXY protocol header, TLS, and the proxies' header fields.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from time import time
from typing import TYPE_CHECKING, NamedTuple

from aiowsgi.net.address import parse_ip
from aiowsgi.proxy import headers as proxy
from aiowsgi.wsgi.environ import ConnectionInfo

if TYPE_CHECKING:
    from aiowsgi.http1.messages import Request
    from aiowsgi.proxy.headers import TrustedPeers
    from aiowsgi.proxy.protocol import ProxyHeader

__all__ = ["ProxyTrace", "behind_proxies", "ignores_https", "peer_of"]

DEFAULT_PORTS = {"http": "80", "https": "443"}


_REQUEST_START = re.compile(rb"(?:t=)?(\d{10,16}(?:\.\d{1,9})?)")
_REQUEST_ID = re.compile(rb"[0-9A-Za-z_.:/+=@-]{1,128}")
# Trace Context (W3C), section 3.2: version, trace-id, parent-id, flags.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class ProxyTrace(NamedTuple):
    """What a trusted proxy says of a request's way to the server; malformed values are ignored."""

    waited: float = 0.0
    """Seconds since the proxy received the request, by ``X-Request-Start``; never negative."""
    request_id: str = ""
    """From ``X-Request-Id``, or else the trace's id of ``traceparent``."""

    @classmethod
    def of(cls, fields: Iterable[tuple[bytes, bytes]]) -> ProxyTrace:
        """Read it from a request's fields."""
        found = {name.lower(): value for name, value in fields}
        waited, request_id = 0.0, ""
        if match := _REQUEST_START.fullmatch(found.get(b"x-request-start", b"")):
            waited = max(0.0, time() - _seconds(match[1]))
        if match := _REQUEST_ID.fullmatch(found.get(b"x-request-id", b"")):
            request_id = match[0].decode("ascii")
        elif match := _TRACEPARENT.fullmatch(found.get(b"traceparent", b"")):
            request_id = match[1].decode("ascii")
        return cls(waited, request_id)


def _seconds(digits: bytes) -> float:
    """Unix time from seconds (nginx), milliseconds (Heroku) or microseconds (Apache).

    The unit is guessed from the size, which is unambiguous until the year 5138.
    """
    number = float(digits)
    for unit in (1e6, 1e3):
        if number >= 1e8 * unit:
            return number / unit
    return number


def peer_of(transport: asyncio.BaseTransport, header: ProxyHeader | None) -> ConnectionInfo:
    """Both ends as the transport knows them, or as the PROXY header says."""
    remote = transport.get_extra_info("peername")
    local = transport.get_extra_info("sockname")
    if header is not None and header.source is not None:
        remote, local = header.source, header.destination
    ssl_object = transport.get_extra_info("ssl_object")
    scheme, variables = "https" if header is not None and header.tls else "http", {}
    if ssl_object is not None:
        from aiowsgi.net.tls import client_certificate_environ  # not without TLS: it imports ssl

        scheme, variables = "https", client_certificate_environ(ssl_object)
    # PEP 3333: SERVER_NAME and SERVER_PORT must not be empty, on a unix socket either.
    name, port = "localhost", DEFAULT_PORTS[scheme]
    if isinstance(local, tuple):
        name, port = _plain(local[0]), str(local[1])
    if not isinstance(remote, tuple):
        return ConnectionInfo("", "", name, port, scheme, variables)
    return ConnectionInfo(_plain(remote[0]), str(remote[1]), name, port, scheme, variables)


def _plain(host: str) -> str:
    """An address in its usual form: a dual-stack socket shows IPv4 addresses as IPv6 (RFC 4291)."""
    return str(parse_ip(host)) if host.startswith("::ffff:") else host


def ignores_https(request: Request, peer: ConnectionInfo, trusted: TrustedPeers | None) -> bool:
    """Whether a proxy on this machine says that the client used HTTPS, and is not believed.

    The application then builds http:// links and redirects, and Django refuses forms.
    """
    if peer.remote_addr not in _THIS_MACHINE or peer.scheme == "https":
        return False
    if trusted is not None and trusted.trusts(peer.remote_addr or None):
        return False
    return any(
        value.strip().lower() == b"https" and name.lower() == b"x-forwarded-proto"
        for name, value in request.fields
    )


_THIS_MACHINE = frozenset({"127.0.0.1", "::1", ""})
"""Addresses of proxies beside the server; the empty one is that of a unix socket's client."""


def behind_proxies(
    request: Request, peer: ConnectionInfo, trusted: TrustedPeers, script_name: str
) -> tuple[Request, ConnectionInfo, str]:
    """The request, both ends and SCRIPT_NAME as they are beyond the trusted proxies.

    Returns its arguments unchanged if the proxies said nothing. Raises RequestError with status 400
    for a malformed field of a trusted proxy.
    """
    unix = not peer.remote_addr
    seen = proxy.DirectPeer(
        None if unix else peer.remote_addr,
        None if unix else int(peer.remote_port),
        peer.scheme,
    )
    facts = proxy.apply_forwarded(request.fields, seen, trusted)
    if facts == (*seen, None, None, "", request.fields):
        return request, peer, script_name
    fields = facts.fields
    if facts.authority is not None:
        host = (b"Host", facts.authority.encode("latin-1"))
        fields = [host, *(field for field in fields if field[0].lower() != b"host")]
        request = request._replace(host=facts.authority)
    port = facts.port if facts.port is not None else peer.server_port
    if facts.host is not None and facts.port is None:
        port = DEFAULT_PORTS[facts.scheme]
    return (
        request._replace(fields=fields),
        peer._replace(
            remote_addr=facts.client_host or "",
            remote_port="" if facts.client_port is None else str(facts.client_port),
            server_name=facts.host or peer.server_name,
            server_port=str(port),
            scheme=facts.scheme,
        ),
        facts.prefix + script_name,
    )
