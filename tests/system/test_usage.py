"""What the process uses."""

from __future__ import annotations

import os

from aiowsgi.system import usage
from aiowsgi.system.usage import open_descriptors, processor_seconds


def test_processor_time_grows():
    """Work is seen in it."""
    before = processor_seconds()
    while processor_seconds() - before < 0.01:
        pass
    assert processor_seconds() > before


def test_descriptors(monkeypatch):
    """One more that is open is one more; a system without the folders has none to show."""
    before = open_descriptors()
    reader, writer = os.pipe()
    try:
        assert open_descriptors() == before + 2
    finally:
        os.close(reader)
        os.close(writer)

    def refuse(folder):
        raise OSError(folder)

    monkeypatch.setattr(usage.os, "listdir", refuse)
    assert open_descriptors() == 0
