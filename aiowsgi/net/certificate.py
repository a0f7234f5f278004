"""When a certificate expires, read from its PEM file.

The ``ssl`` module of Python decodes only certificates that a peer has sent, so the few elements of
the X.509 structure (RFC 5280 section 4.1) before the validity are skipped here.
"""

from __future__ import annotations

import re
from calendar import timegm
from time import strptime
from typing import Final

__all__ = ["certificate_expiry"]

_PEM: Final = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.+?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)

_VERSION, _UTC_TIME = 0xA0, 0x17


def certificate_expiry(path: str) -> float:
    """Return when the first certificate of a file expires, in seconds since the epoch.

    That is the server's own. Returns 0.0 if the file cannot be read or understood.
    """
    import ssl

    try:
        with open(path, encoding="ascii", errors="replace") as file:
            found = _PEM.search(file.read())
        if found is None:
            return 0.0
        pem = found[0].replace("TRUSTED ", "")
        return _not_after(ssl.PEM_cert_to_DER_cert(pem))
    except (OSError, ValueError, IndexError):
        return 0.0


def _not_after(certificate: bytes) -> float:
    """The second time of the validity (RFC 5280 section 4.1.2.5)."""
    _, outer, _ = _element(certificate, 0)
    _, fields, _ = _element(outer, 0)
    tag, _, position = _element(fields, 0)
    # The serial number, the algorithm and the issuer follow the version, which may be missing.
    for _ in range(3 if tag == _VERSION else 2):
        _, _, position = _element(fields, position)
    _, validity, _ = _element(fields, position)
    _, _, position = _element(validity, 0)
    tag, text, _ = _element(validity, position)
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return float(timegm(strptime(text.decode("ascii"), form)))


def _element(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Tag and content of the DER element at ``position``, and the position behind it."""
    tag, length = data[position], data[position + 1]
    start = position + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    return tag, data[start : start + length], start + length
