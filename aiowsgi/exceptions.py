"""The exceptions of aiowsgi: who caused each, and what the server does about it.

::

    Exception
    ├── AiowsgiError
    │   ├── ConfigError (ValueError)       operator: an option is wrong; exit status 2
    │   ├── ApplicationLoadError           operator: the application cannot be loaded; exit status 3
    │   ├── BindError                      operator: an address cannot be bound; exit status 3
    │   ├── AdminError                     operator: no server answers; exit status 1
    │   ├── RequestError                   client: answered with ``status``
    │   └── ApplicationError               application: logged; 500, or the connection is closed
    └── OSError
        ├── ClientDisconnected             client: raised in the application's thread by
        │   (ConnectionError)              ``wsgi.input`` and ``write()`` after a disconnect
        └── RequestBodyError               client: raised by ``wsgi.input`` if the body is
                                           malformed, too large or too slow
    BaseException
    └── RequestTimedOut                    application: raised in its code after --request-timeout
                                           if --interrupt-detached is set

ClientDisconnected and RequestBodyError are subclasses of ``OSError``, which frameworks catch around
reads of ``wsgi.input``; a truncated body must never look complete. This module imports nothing of
the project.
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
    "RequestTimedOut",
]


class AiowsgiError(Exception):
    """Base class of the errors of the operator, the client and the application."""


class ConfigError(AiowsgiError, ValueError):
    """An option has a wrong value or an unknown name; the message names the option."""


class ApplicationLoadError(AiowsgiError):
    """The application named by ``module:attribute`` cannot be imported or found."""


class BindError(AiowsgiError):
    """A listening socket cannot be created, bound or inherited; the message names the address."""


class AdminError(AiowsgiError):
    """The admin endpoint of a running server does not answer; the message says why."""


class RequestError(AiowsgiError):
    """The request is refused (RFC 9110 sections 15.5 and 15.6, RFC 9112 section 2).

    ``status`` is the status code of the answer. ``detail`` is one short English sentence for the
    log and the answer's body; it contains no bytes that the client chose.
    ``at_fault`` is the field or the bytes that it is about, or the option that sets the limit; only
    the log shows it. ``keeps_connection`` says that the end of the request is known, so that the
    next request on the connection can be read.
    """

    def __init__(
        self, status: int, detail: str, at_fault: bytes = b"", *, keeps_connection: bool = False
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.at_fault = at_fault
        self.keeps_connection = keeps_connection

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}"


class ApplicationError(AiowsgiError):
    """The application violated PEP 3333: a malformed status, a str block, a second
    start_response."""


class ClientDisconnected(ConnectionError):
    """The client has disconnected; nothing can be read from it or sent to it."""


class RequestBodyError(OSError):
    """The request body cannot be read completely; ``status`` is the status code of the answer.

    Every method of ``wsgi.input`` raises it at every call, so that a truncated body is never taken
    for a complete one.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    def __reduce__(self) -> tuple[type[RequestBodyError], tuple[int, str]]:
        return type(self), (self.status, self.detail)


class RequestTimedOut(BaseException):
    """Raised in a worker thread whose request exceeds --request-timeout (``--interrupt-detached``).

    A subclass of ``BaseException``, so that ``except Exception`` does not catch it.
    """
