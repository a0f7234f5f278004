"""Authentication of the admin endpoint, which shows paths, client addresses and lines of code.

* **With a token**, a request has it in ``Authorization: Bearer``, or has the cookie that ``/`` sets
  after a request with ``?token=``, which the form makes. The cookie is a key derived from the
  token, so that the token itself is not sent again and again, and browsers do not send it from
  another site. Both are compared in constant time.
* **Without a token**, which only an address of this machine can be, the danger is the user's own
  browser: a page of another site can have its own name resolve to 127.0.0.1 and read the answers
  ("DNS rebinding"). Such a request has that site's name in Host and is refused; an IP address and
  ``localhost`` are accepted.

``/livez`` and ``/readyz`` need no authentication: probes have no secrets, and the answers are
short.
"""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from aiowsgi.admin.pages import page
from aiowsgi.admin.server import Answer
from aiowsgi.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiowsgi.admin.server import Handler, Reply
    from aiowsgi.http1.messages import Request

__all__ = ["Token", "read_token", "require_auth"]

SHORTEST: Final = 16
"""Characters of a token: 96 bits in base64, which cannot be guessed over the network."""

_COOKIE: Final = "aiowsgi-admin"


def read_token(path: str) -> str:
    """Read the token from its file. Raises ConfigError."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError as error:
        raise ConfigError(f"admin-token-file: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"admin-token-file: {path}: it must be ASCII") from None
    if len(text) < SHORTEST or any(character.isspace() for character in text):
        raise ConfigError(
            f"admin-token-file: {path}: it must be one word of {SHORTEST} characters or more"
        )
    return text


class Token:
    """The secret, and the cookie that stands for it."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._key = hmac.digest(self._text, b"aiowsgi admin cookie", hashlib.sha256).hex().encode()

    @property
    def cookie(self) -> tuple[str, str]:
        """The field that sets the cookie, which ends with the browser's session."""
        value = f"{_COOKIE}={self._key.decode()}; Path=/; HttpOnly; SameSite=Strict"
        return "Set-Cookie", value

    def is_presented(self, request: Request) -> bool:
        """Whether a request has the token, in its header section or in its query."""
        scheme, _, given = _field(request, b"authorization").partition(b" ")
        asked = parse_qs(request.query).get("token", [""])[0].encode("utf-8", "replace")
        bearer = scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._text)
        return bearer or hmac.compare_digest(asked, self._text)

    def has_cookie(self, request: Request) -> bool:
        """Whether a request has the cookie."""
        for cookie in _field(request, b"cookie").split(b";"):
            name, _, value = cookie.strip().partition(b"=")
            if name == _COOKIE.encode() and hmac.compare_digest(value, self._key):
                return True
        return False


def _field(request: Request, wanted: bytes) -> bytes:
    return b"; ".join(value for name, value in request.fields if name.lower() == wanted)


def require_auth(handlers: Mapping[str, Handler], token: Token | None) -> dict[str, Handler]:
    """Return handlers that refuse a request without authentication; see the module's docstring."""
    if token is None:
        return {path: _only_local(handler) for path, handler in handlers.items()}
    checked = {path: _with_token(token, handler) for path, handler in handlers.items()}
    return {**checked, "/": _login(token, handlers["/"])}


def _only_local(handler: Handler) -> Handler:
    def handle(request: Request) -> Reply:
        if _is_local(request.host):
            return handler(request)
        refusal = "Use an IP address or localhost; other names need --admin-token-file.\n"
        return Answer(refusal, "403 Forbidden")

    return handle


def _is_local(host: str) -> bool:
    name = host.lower() if host.endswith("]") else host.lower().rsplit(":", 1)[0]
    if name in {"", "localhost"} or name.endswith(".localhost"):
        # RFC 6761 section 6.3: these names resolve to this machine only.
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _with_token(token: Token, handler: Handler) -> Handler:
    def handle(request: Request) -> Reply:
        if token.has_cookie(request) or token.is_presented(request):
            return handler(request)
        return Answer(
            "The token of --admin-token-file is required.\n", _UNAUTHORIZED, fields=_CHALLENGE
        )

    return handle


def _login(token: Token, handler: Handler) -> Handler:
    """For ``/``, which sets the cookie or shows the form."""

    def handle(request: Request) -> Reply:
        if token.has_cookie(request):
            return handler(request)
        if token.is_presented(request):
            # A redirect to the same page, without the token in the address.
            return Answer("", "303 See Other", fields=(token.cookie, ("Location", "/")))
        form = page("login.html", _UNAUTHORIZED)
        return form._replace(fields=(*form.fields, *_CHALLENGE))

    return handle


_UNAUTHORIZED: Final = "401 Unauthorized"
_CHALLENGE: Final = (("WWW-Authenticate", 'Bearer realm="aiowsgi"'),)
