"""What the tests of the thread boundary share."""

from __future__ import annotations

import pytest


@pytest.fixture
def file(tmp_path):
    """A file of ten bytes, open."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb", buffering=0) as opened:
        yield opened
