"""The applications under load, called as a server would call them."""

from __future__ import annotations

import io
import json
from functools import reduce
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from bench import apps
from bench.apps import BODY_SIZE
from bench.flask_app import app as flask_app


def call(app, body: bytes | None = None, **more: str) -> tuple[str, bytes]:
    """Status and body that the application gives, checked against PEP 3333."""
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "", **more}
    if body is not None:
        environ |= {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(body)}
    setup_testing_defaults(environ)
    answers = []
    result = validator(app)(environ, lambda status, _fields, *_: answers.append(status))
    try:
        content = b"".join(result)
    finally:
        result.close()
    return answers[0], content


@pytest.mark.parametrize(
    ("app", "length"),
    [
        (apps.small, 13),
        (apps.wait, 13),
        (apps.busy, 13),
        (apps.ten_kilobytes, 10_000),
        (apps.download, BODY_SIZE),
        (apps.download_chunked, BODY_SIZE),
        (apps.download_file, BODY_SIZE),
    ],
)
def test_length(app, length) -> None:
    """Every application gives as many bytes as it says."""
    status, content = call(app)
    assert (status, len(content)) == ("200 OK", length)


@pytest.mark.parametrize("length", [0, 1, BODY_SIZE - 1, BODY_SIZE, BODY_SIZE + 1])
def test_upload(length) -> None:
    """An upload is a success only with all its bytes and no more."""
    status, content = call(apps.upload, bytes(length), CONTENT_LENGTH=str(length))
    assert (status == "200 OK") is (length == BODY_SIZE)
    assert content == b"%d" % length


def test_upload_without_length() -> None:
    """A chunked upload is read to its end where the server says that it has one."""
    status, _ = call(apps.upload, bytes(BODY_SIZE), HTTP_TRANSFER_ENCODING="chunked")
    assert status == "200 OK"


def test_upload_asked_by_get() -> None:
    """The request that finds out whether a server is ready needs no body."""
    assert call(apps.upload) == ("200 OK", b"0")


def test_cpu_bound() -> None:
    """The result is that of the work, so it cannot have been left out."""
    steps = range(apps.CHECKSUM_STEPS)
    checksum = reduce(lambda value, number: (value * 31 + number) % 10_007, steps, 0)
    assert call(apps.cpu_bound) == ("200 OK", b"%d" % checksum)


def test_busy() -> None:
    """One path computes as `cpu_bound` does, for longer; its result is that of the work."""
    checksum = reduce(
        lambda value, number: (value * 31 + number) % 10_007, range(apps.LONG_STEPS), 0
    )
    assert call(apps.busy, PATH_INFO="/compute") == ("200 OK", b"%d" % checksum)


def test_echo() -> None:
    """The environ's strings come back as JSON."""
    assert json.loads(call(apps.echo, PATH_INFO="/a")[1])["PATH_INFO"] == "/a"


def test_flask() -> None:
    """Any path is answered, drawn from the request."""
    response = flask_app.test_client().get("/a/b?page=7")
    assert (response.json["path"], response.json["page"]) == ("a/b", 7)
