"""The end of a certificate's validity."""

from __future__ import annotations

import shutil
import subprocess
from time import time

import pytest

from aiowsgi.net.certificate import certificate_expiry


def make(folder, days):
    """A certificate that is valid for so many days, from now on."""
    path = folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"),
            *("-days", str(days), "-keyout", str(folder / "key.pem"), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


@pytest.mark.slow("processes")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("days", [1, 365, 365 * 40])
def test_when_a_certificate_expires(tmp_path, days):
    """In either form of time, before 2050 and later; other parts of the file are skipped."""
    path = make(tmp_path, days)
    expected = time() + days * 86400
    assert certificate_expiry(str(path)) == pytest.approx(expected, abs=100)
    # A key before it, as in combined files, and the rest of a chain behind it.
    combined = tmp_path / "combined.pem"
    other = make(tmp_path, 5).read_text()
    combined.write_text((tmp_path / "key.pem").read_text() + other + path.read_text())
    assert certificate_expiry(str(combined)) == pytest.approx(time() + 5 * 86400, abs=100)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
    ],
)
def test_no_certificate_has_no_end(tmp_path, text):
    """A file that is missing or broken is not this function's to report."""
    path = tmp_path / "cert.pem"
    if text is not None:
        path.write_text(text)
    assert certificate_expiry(str(path)) == 0.0
