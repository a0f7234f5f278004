"""Who may see the admin endpoint: everybody who can reach it, or who has the token.

The paths of requests, the addresses of clients and the lines of code that threads stand at are
nobody else's business. So `guarded` puts itself before handlers:

* **With a token**, a request shows it in ``Authorization: Bearer``, or has the cookie that ``/``
  gives to who comes once with ``?token=`` or through the form. The cookie holds a key that is
  derived from the token, so that the token itself is not sent over and over, and it is never sent
  from another site. Both are compared in constant time.
* **Without one**, which only an address of this machine may be, what must be kept out is the
  user's own browser: a page of another site can point its own name at 127.0.0.1 and read what is
  there ("DNS rebinding"). Such a request names that site as its host, and is refused; an address
  and ``localhost`` are not.

``/livez`` and ``/readyz`` stay open, for probes have no secrets; they say a word each.
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

__all__ = ["Token", "guarded", "read_token"]

SHORTEST: Final = 16
"""Characters of a token: random ones of base64 would be 96 bits, which nobody guesses online."""

_COOKIE: Final = "aiowsgi-admin"


def read_token(path: str) -> str:
    """The word in the file that holds a token. Raises ConfigError."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError as error:
        raise ConfigError(f"admin-token-file: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"admin-token-file: {path}: holds more than ASCII") from None
    if len(text) < SHORTEST or any(character.isspace() for character in text):
        raise ConfigError(f"admin-token-file: {path}: a token is one word of {SHORTEST} or more")
    return text


class Token:
    """A secret, and what may be shown in its place."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._key = hmac.digest(self._text, b"aiowsgi admin cookie", hashlib.sha256).hex().encode()

    @property
    def cookie(self) -> tuple[str, str]:
        """The field that gives a browser its key. It ends with the browser's session."""
        value = f"{_COOKIE}={self._key.decode()}; Path=/; HttpOnly; SameSite=Strict"
        return "Set-Cookie", value

    def is_shown(self, request: Request) -> bool:
        """Whether a request shows the token, in its header section or in its query."""
        scheme, _, given = _field(request, b"authorization").partition(b" ")
        asked = parse_qs(request.query).get("token", [""])[0].encode("utf-8", "replace")
        bearer = scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._text)
        return bearer or hmac.compare_digest(asked, self._text)

    def is_known(self, request: Request) -> bool:
        """Whether a request has the cookie."""
        for cookie in _field(request, b"cookie").split(b";"):
            name, _, value = cookie.strip().partition(b"=")
            if name == _COOKIE.encode() and hmac.compare_digest(value, self._key):
                return True
        return False


def _field(request: Request, wanted: bytes) -> bytes:
    return b"; ".join(value for name, value in request.fields if name.lower() == wanted)


def guarded(handlers: Mapping[str, Handler], token: Token | None) -> dict[str, Handler]:
    """``handlers`` for those who may; see the module's docstring."""
    if token is None:
        return {path: _only_local(handler) for path, handler in handlers.items()}
    behind = {path: _only_with(token, handler) for path, handler in handlers.items()}
    return {**behind, "/": _door(token, handlers["/"])}


def _only_local(handler: Handler) -> Handler:
    def handle(request: Request) -> Reply:
        if _is_local(request.host):
            return handler(request)
        said = "Ask by an address or as localhost; a name needs --admin-token-file.\n"
        return Answer(said, "403 Forbidden")

    return handle


def _is_local(host: str) -> bool:
    name = host.lower() if host.endswith("]") else host.lower().rsplit(":", 1)[0]
    if name in {"", "localhost"} or name.endswith(".localhost"):
        # RFC 6761 section 6.3: these names lead to this machine and nowhere else.
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _only_with(token: Token, handler: Handler) -> Handler:
    def handle(request: Request) -> Reply:
        if token.is_known(request) or token.is_shown(request):
            return handler(request)
        return Answer("Show the token of --admin-token-file.\n", _UNAUTHORIZED, fields=_CHALLENGE)

    return handle


def _door(token: Token, handler: Handler) -> Handler:
    """For ``/``, where a browser gets its cookie."""

    def handle(request: Request) -> Reply:
        if token.is_known(request):
            return handler(request)
        if token.is_shown(request):
            # The answer leads to the same page, without the token in the address.
            return Answer("", "303 See Other", fields=(token.cookie, ("Location", "/")))
        form = page("login.html", _UNAUTHORIZED)
        return form._replace(fields=(*form.fields, *_CHALLENGE))

    return handle


_UNAUTHORIZED: Final = "401 Unauthorized"
_CHALLENGE: Final = (("WWW-Authenticate", 'Bearer realm="aiowsgi"'),)
