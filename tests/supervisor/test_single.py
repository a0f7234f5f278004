"""One process that serves an application object, under real signals.

How it ends is in ``integration/test_stopping.py``.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from sample_apps import ask, single_process

pytestmark = pytest.mark.slow("processes")


def test_one_process(tmp_path: Path) -> None:
    """The process itself serves; signals that are about workers are answered in the log."""
    with single_process(tmp_path) as (program, address):
        assert ask(address) == (200, f"{program.process.pid}{{version}}")
        for number in (signal.SIGTTIN, signal.SIGTTOU):
            program.process.send_signal(number)
            program.expect("there is one process, and no worker")
        program.process.send_signal(signal.SIGHUP)
        program.expect("certificates read, log files reopened")
        program.process.send_signal(signal.SIGUSR1)
        assert program.stop(signal.SIGINT) == 0


def test_certificates_gone(tmp_path: Path) -> None:
    """Certificates that cannot be read any more leave the old ones in use."""
    import trustme

    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "a.pem")
    )
    with single_process(tmp_path, certfile=str(tmp_path / "a.pem")) as (program, _):
        (tmp_path / "a.pem").unlink()
        program.process.send_signal(signal.SIGHUP)
        program.expect("the old certificates stay: .*a.pem")
        assert program.stop() == 0
