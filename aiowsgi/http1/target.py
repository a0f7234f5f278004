"""Parses request-targets and hosts.

An origin server accepts three of the four forms of RFC 9112 section 3.2: origin-form, absolute-form
with http and https, and asterisk-form with OPTIONS. The fourth, authority-form, is for CONNECT,
which only proxies implement. Nothing is decoded, and ``%`` need not be followed by two hexadecimal
digits, because applications have always received such targets.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from aiowsgi.exceptions import RequestError

__all__ = ["check_authority", "parse_target", "split_origin_form"]


# RFC 9112 section 3.2.2; RFC 3986 section 3.2: the authority ends at the first "/" or "?".
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?]*+)([^?]*+)(?:\?(.*+))?")

# reg-name, which includes IPv4 addresses, without the comma: servers differ in how they read a Host
# that is a list of hosts. RFC 3986 section 3.2.2 limits names to 255 characters. The port may be
# empty.
_REG_NAME = re.compile(
    r"(?P<name>(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2}){1,255})(?::(?P<port>[0-9]{0,5}))?"
)
# No IPvFuture has been registered; zone identifiers have no meaning on another host.
_IPV6 = re.compile(r"\[(?P<name>[0-9A-Fa-f:.]{2,45})\](?::(?P<port>[0-9]{0,5}))?")

_LARGEST_PORT = 65535


def parse_target(method: str, target: str) -> tuple[str, str, str | None]:
    """Split a request-target into path, query, and authority (None except in absolute-form).

    Raises RequestError: 400 for a wrong form, 501 for CONNECT.
    """
    if "#" in target:
        raise RequestError(400, "The request target has a fragment.")
    if method == "CONNECT":
        raise RequestError(501, "This is an origin server; CONNECT is not implemented.")
    if target.startswith("/"):
        return *split_origin_form(target), None
    if target == "*":
        return _asterisk_form(method)
    return _absolute_form(method, target)


def split_origin_form(target: str) -> tuple[str, str]:
    """Split a target in origin-form without a fragment into path and query."""
    path, _, query = target.partition("?")
    return path, query


def _asterisk_form(method: str) -> tuple[str, str, str | None]:
    # RFC 9112 section 3.2.4: asterisk-form is only used for a server-wide OPTIONS.
    if method != "OPTIONS":
        raise RequestError(400, "The request target * is allowed with OPTIONS only.")
    return "*", "", None


def _absolute_form(method: str, target: str) -> tuple[str, str, str | None]:
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise RequestError(400, "The request target has no form of RFC 9112 section 3.2.")
    authority, path, query = match.groups(default="")
    # RFC 9110 sections 4.2.1 and 4.2.4: an empty host and userinfo are refused.
    check_authority(authority)
    if not path:
        # RFC 9112 section 3.2.4: OPTIONS with an empty path and no query stands for the
        # asterisk-form.
        path = "*" if method == "OPTIONS" and match[3] is None else "/"
    return path, query, authority


@lru_cache(maxsize=1024)
def check_authority(authority: str) -> None:
    """Check ``uri-host [":" port]`` with a host that is not empty (RFC 9110 section 7.2).

    Raises RequestError(400). The results are cached because a server has few hosts.
    """
    match = _REG_NAME.fullmatch(authority) or _IPV6.fullmatch(authority)
    if match is None or int(match["port"] or 0) > _LARGEST_PORT:
        raise RequestError(400, "The host is malformed.", authority.encode(errors="replace"))
    if authority.startswith("["):
        _check_ipv6(match["name"])


def _check_ipv6(address: str) -> None:
    try:
        ipaddress.IPv6Address(address)
    except ValueError as error:
        raise RequestError(400, "The host is not an IPv6 address.") from error
