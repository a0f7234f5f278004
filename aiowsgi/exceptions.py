"""Every error that aiowsgi raises, whose fault it is, and what it becomes.

::

    Exception
    ├── AiowsgiError
    │   ├── ConfigError (ValueError)       the operator's: an option is wrong; exit status 2
    │   ├── ApplicationLoadError           the operator's: there is no application; exit status 3
    │   ├── BindError                      the operator's: there is no listener; exit status 3
    │   ├── AdminError                     the operator's: there is no server to ask; exit status 1
    │   ├── RequestError                   the client's: answered with its ``status``
    │   └── ApplicationError               the application's: logged, 500 or a torn connection
    └── OSError
        ├── ClientDisconnected             nobody's: raised in the application's thread by the
        │   (ConnectionError)              request body and by ``write()`` once the client has gone
        └── RequestBodyError               the client's: raised by ``wsgi.input`` when a streamed
                                           body is malformed, too large or too slow

The two that the application can meet are ``OSError`` subclasses because that is what frameworks
catch around reads of ``wsgi.input``; a body that ends early must never look like one that is whole.
This module imports nothing of the project.
"""

from __future__ import annotations

__all__ = [
    "AdminError",
    "AiowsgiError",
    "ApplicationError",
    "ApplicationLoadError",
    "BindError",
    "ClientDisconnected",
    "ConfigError",
    "RequestBodyError",
    "RequestError",
]


class AiowsgiError(Exception):
    """The root of the errors that are the operator's, the client's or the application's fault."""


class ConfigError(AiowsgiError, ValueError):
    """An option has an impossible value or an unknown name; the message names the option."""


class ApplicationLoadError(AiowsgiError):
    """The application named by ``module:attribute`` could not be imported or found."""


class BindError(AiowsgiError):
    """A listening socket could not be created, bound or inherited; the message names it."""


class AdminError(AiowsgiError):
    """The admin endpoint of a running server cannot be asked; the message says why."""


class RequestError(AiowsgiError):
    """The client's message is refused (RFC 9110 section 15.5 and 15.6, RFC 9112 section 2).

    ``status`` is the three-digit code to answer with; ``detail`` is one short English sentence
    for the log and the answer's body, free of bytes that the client sent.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}"


class ApplicationError(AiowsgiError):
    """The application broke PEP 3333: a malformed status, a str block, a second start_response."""


class ClientDisconnected(ConnectionError):
    """The client has gone; whatever is read or written now goes nowhere."""


class RequestBodyError(OSError):
    """The request body cannot be read to its end; ``status`` is what the client is answered.

    Raised by every method of ``wsgi.input``, again at each call, so that a body cut short is never
    taken for a whole one.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class RequestTimedOut(BaseException):
    """Raised in an application's thread by ``--interrupt-detached``.

    Not an ``Exception``, so that handlers for everything let it pass.
    """
