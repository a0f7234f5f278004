"""An application whose answers say which request it has seen."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from wire.client import Answer
    from wire.row import Seen

__all__ = ["Heard", "app", "heard", "of"]

FIELD = "X-Seen"
"""The field with the request; it is a field so that HEAD can be answered alike."""


class Heard(NamedTuple):
    """A request as `app` has seen it."""

    method: str
    target: str
    host: str
    digest: str
    """Of the content."""


def of(seen: Seen) -> Heard:
    """Return what the application must have seen of a request of the table."""
    method, target, host, body = seen
    return Heard(method, target, host, sha256(body).hexdigest())


def heard(answer: Answer) -> Heard | None:
    """Return what an answer says; None if it is not an answer of this application."""
    field = answer.fields.get(FIELD.lower())
    return None if field is None else Heard(*json.loads(field))


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application for any server; if the server hides the target, it is reconstructed."""
    path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
    target = path + (f"?{query}" if query else "")
    for name in ("REQUEST_URI", "RAW_URI"):
        target = environ.get(name, target)
    digest = sha256(environ["wsgi.input"].read()).hexdigest()
    seen = Heard(environ["REQUEST_METHOD"], target, environ.get("HTTP_HOST", ""), digest)
    fields = [("Content-Type", "text/plain"), ("Content-Length", "5"), (FIELD, json.dumps(seen))]
    start_response("200 OK", fields)
    return [b"seen\n"]
